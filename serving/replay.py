"""Answers of a SavedModel, asked in a process that knows nothing but TensorFlow.

``python -m adaptiverec.serving.replay DIRECTORY`` reads ``{"history": [[…]], "k": n}``
as JSON from standard input and writes the answer of `serving_default` to standard output.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from adaptiverec.common.errors import StageError

__all__ = ["replay_in_clean_process"]


def replay_in_clean_process(
    directory: Path, histories: list[list[str]], k: int
) -> dict[str, Any]:
    """Loads a SavedModel in a new Python process and asks it.

    Args:
        directory: Of the SavedModel.
        histories: Raw item ids, one list a user; padded here.
        k: How many recommendations of each.

    Returns:
        The outputs of `serving_default`, as lists.

    Raises:
        StageError: It could not be loaded or did not answer.
    """
    width = max(len(history) for history in histories)
    padded = [history + [""] * (width - len(history)) for history in histories]
    done = subprocess.run(
        [sys.executable, "-m", "adaptiverec.serving.replay", str(directory)],
        input=json.dumps({"history": padded, "k": k}),
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


def _main(directory: str) -> None:
    import tensorflow as tf

    request = json.load(sys.stdin)
    signature = tf.saved_model.load(directory).signatures["serving_default"]
    outputs = signature(
        history=tf.constant(request["history"]),
        k=tf.constant([request["k"]], tf.int32),
    )
    answer = {name: output.numpy().tolist() for name, output in outputs.items()}
    answer["items"] = [[item.decode() for item in row] for row in answer["items"]]
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    _main(sys.argv[1])
