"""Trains one run of a table, or goes on with it, and measures it.

The one argument is a JSON object: ``table``, ``row``, ``seed``, ``options`` (of
``adaptiverec train``, without the seed), ``data`` (a prepared directory), ``run`` (the run's
directory), ``result`` (the JSON file to write, and beside it the ``.npz`` file of every
user's rank). What exists of the run is not done again.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from measurements import geometry, measure_ranks
from user_ranks import LONGEST, write_ranks

from adaptiverec.common.files import write_json
from adaptiverec.model.evaluation import measures_of
from adaptiverec.model.instances import evaluation_dataset
from adaptiverec.model.prepared_data import PreparedData
from adaptiverec.model.run import Run
from adaptiverec.model.train import train

KS = (5, 10, 20, LONGEST)
# Candidates are drawn a batch at a time, so a table has the same ones for all of its rows.
BATCH_SIZE = 1024


def trained(given: dict[str, Any]) -> Run:
    """The complete run, trained as far as it is not."""
    path = Path(given["run"])
    resume = (path / "run.json").is_file()
    if not resume or Run.open(path).record["status"] != "complete":
        train(
            data=given["data"],
            output=str(path),
            resume=resume,
            seed=given["seed"],
            **given["options"],
        )
    return Run.open_complete(path)


def main() -> None:
    """Runs it."""
    given = json.loads(sys.argv[1])
    run = trained(given)
    prepared = PreparedData.open(given["data"])
    sequences = prepared.sequences()
    model = run.load_model()
    test = evaluation_dataset(
        sequences, "test", max_length=model.max_length, batch_size=BATCH_SIZE
    )
    ranks = measure_ranks(model, test, run.popularity())
    write_ranks(Path(given["result"]).with_suffix(".npz"), ranks)
    result = {
        "table": given["table"],
        "row": given["row"],
        "seed": given["seed"],
        "options": given["options"],
        "producer": run.record["producer"],
        "data": {
            "fingerprint": prepared.fingerprint,
            "order_column": prepared.metadata["configuration"]["order_column"],
            "num_targets": len(ranks["kept"]),
            "num_items": prepared.num_items,
        },
        "epochs": run.record["epochs"],
        "best_epoch": run.record["best_epoch"],
        "num_weights": model.count_params(),
        "validation": run.record["best"],
        "test": {name: measures_of(found, KS) for name, found in ranks.items()},
        "geometry": geometry(model, test),
    }
    write_json(Path(given["result"]), result)


if __name__ == "__main__":
    main()
