"""Trains a few steps over a catalogue of some size, and says as JSON how long they took.

The one argument is a JSON object: ``num_items``; ``next_item``, the loss; ``steps``, how
many are timed after two others. Sequences are made up, items by Zipf's law.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from adaptiverec.model.adaptive_rec import AdaptiveRec

BATCH_SIZE = 1024
MAX_LENGTH = 50
# As of Amazon Beauty's training instances.
_MEAN_LENGTH = 8
_EVALUATED = 256
_WARM_UP = 2


def main() -> None:
    """Runs it."""
    given = json.loads(sys.argv[1])
    num_items = given["num_items"]
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    model = AdaptiveRec(
        num_items,
        max_length=MAX_LENGTH,
        objective="none",
        next_item=given["next_item"],
        exclude_seen=True,
    )
    model.compile()

    def batch(rows: int) -> tuple[np.ndarray, np.ndarray]:
        lengths = np.minimum(generator.geometric(1 / _MEAN_LENGTH, rows), MAX_LENGTH)
        items = generator.zipf(1.2, (rows, MAX_LENGTH + 1)) % num_items + 1
        sequences = np.where(np.arange(MAX_LENGTH) < lengths[:, None], items[:, 1:], 0)
        return sequences, items[:, 0]

    steps = []
    for _ in range(_WARM_UP + given["steps"]):
        sequences, targets = batch(BATCH_SIZE)
        begin = time.perf_counter()
        model.train_on_batch(sequences, targets)
        steps.append(time.perf_counter() - begin)
    sequences, targets = batch(_EVALUATED)
    inputs = {"item_ids": sequences, "seen_item_ids": sequences}
    evaluations = []
    for _ in range(3):
        begin = time.perf_counter()
        model.test_on_batch(inputs, targets)
        evaluations.append(time.perf_counter() - begin)
    result = {
        "seconds": sum(steps[_WARM_UP:]),
        "step_seconds": statistics.median(steps[_WARM_UP:]),
        "target_seconds": min(evaluations) / _EVALUATED,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
