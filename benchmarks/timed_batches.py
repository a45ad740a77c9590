"""Makes training batches of prepared data, and says as JSON how long that took.

The one argument is a JSON object: ``data``, a prepared directory; ``kind``, ``memory`` or
``stream``, or ``nothing`` for a process that only imports; ``batches``, how many at most.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from adaptiverec.model.instances import training_dataset
from adaptiverec.model.prepared_data import PreparedData
from adaptiverec.model.streaming import streaming_training_dataset

_MAX_LENGTH = 50
_BATCH_SIZE = 1024


def make_batches(prepared: PreparedData, kind: str, most: int) -> dict[str, Any]:
    """Iterates the batches, and says when they began to come, how many, and what for."""
    begin = time.perf_counter()
    options = {"max_length": _MAX_LENGTH, "batch_size": _BATCH_SIZE}
    if kind == "stream":
        dataset = streaming_training_dataset(prepared, **options)
    else:
        dataset = training_dataset(prepared.sequences(), **options)
    batches = iter(dataset.take(most))
    next(batches)
    first, processor = time.perf_counter(), time.process_time()
    instances = sum(len(targets) for _, targets in batches)
    return {
        "first_batch_seconds": first - begin,
        "instances_per_second": instances / (time.perf_counter() - first),
        "processor_seconds_per_million": (time.process_time() - processor)
        / (instances / 1e6),
        "train_instances": prepared.num_train_instances,
    }


def main() -> None:
    """Runs it."""
    given = json.loads(sys.argv[1])
    begin = time.perf_counter()
    prepared = PreparedData.open(given["data"])
    result = {}
    if given["kind"] != "nothing":
        result = make_batches(prepared, given["kind"], given["batches"])
    print(json.dumps({"seconds": time.perf_counter() - begin, **result}))


if __name__ == "__main__":
    main()
