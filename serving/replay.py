"""Answers of a SavedModel, asked in a process that knows nothing but TensorFlow.

``python -m adaptiverec.serving.replay DIRECTORY`` reads ``{"histories": [[…]], "k": n}``
as JSON from standard input and writes the items and scores of `serving_default` to
standard output.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from adaptiverec.common.errors import StageError

__all__ = ["replay", "replay_in_clean_process"]

_BATCH_SIZE = 32


def replay_in_clean_process(
    directory: Path, histories: list[list[str]], k: int
) -> dict[str, Any]:
    """Loads a SavedModel in a new Python process and asks it.

    Args:
        directory: Of the SavedModel.
        histories: Raw item ids, one list a user, of any lengths.
        k: How many recommendations of each.

    Returns:
        `{"items": [[…]], "scores": [[…]]}` of `serving_default`, a row a history.

    Raises:
        StageError: It could not be loaded or did not answer.
    """
    done = subprocess.run(
        [sys.executable, "-m", "adaptiverec.serving.replay", str(directory)],
        input=json.dumps({"histories": histories, "k": k}),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    if done.returncode != 0:
        raise StageError(
            "The SavedModel must load and answer in a process of its own. Received: "
            f"{done.stderr.strip()[-2000:]}"
        )
    return json.loads(done.stdout)


def replay(directory: Path, histories: list[list[str]], k: int) -> dict[str, Any]:
    """Loads a SavedModel and asks it; see :func:`replay_in_clean_process`."""
    import tensorflow as tf

    if importlib.util.find_spec("scann"):
        # A SavedModel may need its operations.
        importlib.import_module("scann")
    signature = tf.saved_model.load(str(directory)).signatures["serving_default"]
    answer: dict[str, list] = {"items": [], "scores": []}
    for start in range(0, len(histories), _BATCH_SIZE):
        rows = histories[start : start + _BATCH_SIZE]
        outputs = signature(
            history=tf.ragged.constant(rows, tf.string, ragged_rank=1).to_tensor(),
            k=tf.fill([1], k),
            exclude=tf.constant([[""]]),
            allow=tf.constant([[""]]),
            exclude_history=tf.constant([True]),
        )
        answer["items"] += [
            [item.decode() for item in row] for row in outputs["items"].numpy()
        ]
        answer["scores"] += outputs["scores"].numpy().tolist()
    return answer


if __name__ == "__main__":
    json.dump(replay(Path(sys.argv[1]), **json.load(sys.stdin)), sys.stdout)
