"""Trains a few steps and evaluates once, and says as JSON how long that took.

The one argument is a JSON object: ``data``, a prepared directory; ``kind``, ``fast`` for
the model as it is or ``plain`` for the usual Keras layers (``rivals/keras_layers.py``);
``side_by_side``, whether operations have one thread each, as in ``adaptiverec train``;
``steps``, how many are timed, and ``warm_up``, how many before.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from adaptiverec.model.adaptive_rec import AdaptiveRec
from adaptiverec.model.instances import (
    Instances,
    evaluation_dataset,
    training_dataset,
)
from adaptiverec.model.prepared_data import PreparedData
from adaptiverec.model.threads import give_each_operation_one_thread
from adaptiverec.model.views import num_passes

VIEWS = "us_x"
MAX_LENGTH = 50
BATCH_SIZE = 1024
HIDDEN_DIM = 64
INNER_DIM = 256
_GEMM_SIZE = 2048


class StepTimes(keras.callbacks.Callback):
    """When each step ended: wall and processor time."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[tuple[float, float]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Reads both clocks."""
        self.ends.append((time.perf_counter(), time.process_time()))


def step_flops(tokens: float, num_items: int) -> float:
    """Operations in the matrix products of a training step, us_x, two blocks.

    Those that cannot be left out: attention's own are few, and not counted. A gradient
    costs twice its forward product.

    Args:
        tokens: Items in the three passes of a batch.
        num_items: Size of the catalogue.
    """
    sequences = 3 * BATCH_SIZE
    feed_forward = 2 * HIDDEN_DIM * INNER_DIM
    square = HIDDEN_DIM * HIDDEN_DIM
    first_block = tokens * (4 * square + feed_forward)
    # Query, key, value and output of one token a sequence.
    last_block = sequences * (4 * square + feed_forward)
    next_item = BATCH_SIZE * num_items * HIDDEN_DIM
    contrast = (2 * BATCH_SIZE) ** 2 * HIDDEN_DIM
    return 3 * 2 * (first_block + last_block + next_item + contrast)


def gemm_flops_per_second() -> float:
    """What the machine does at most: large square products, as many at once as cores."""
    matrices = [
        tf.random.normal([_GEMM_SIZE, _GEMM_SIZE])
        for _ in range(len(os.sched_getaffinity(0)))
    ]
    products = tf.function(lambda: [tf.matmul(matrix, matrix) for matrix in matrices])
    seconds = []
    for _ in range(12):
        begin = time.perf_counter()
        products()
        seconds.append(time.perf_counter() - begin)
    return len(matrices) * 2 * _GEMM_SIZE**3 / min(seconds)


def mean_tokens(sequences: Any) -> float:
    """Items in the three passes of a batch, on average.

    A sequence with the same target is as long as any, as each instance is drawn alike.
    """
    instances = Instances.of(sequences, "train")
    lengths = np.minimum(instances.targets - instances.starts, MAX_LENGTH)
    return 3 * BATCH_SIZE * float(lengths.mean())


def main() -> None:
    """Runs it."""
    given = json.loads(sys.argv[1])
    if given["side_by_side"]:
        give_each_operation_one_thread(num_passes=num_passes(VIEWS))
    keras.utils.set_random_seed(0)
    prepared = PreparedData.open(given["data"])
    sequences = prepared.sequences()
    model_class = AdaptiveRec
    if given["kind"] == "plain":
        from rivals.keras_layers import KerasLayersModel

        model_class = KerasLayersModel
    model = model_class(prepared.num_items, max_length=MAX_LENGTH, views=VIEWS)
    model.compile(keras.optimizers.Adam(1e-3))
    training = training_dataset(sequences, batch_size=BATCH_SIZE, max_length=MAX_LENGTH)
    validation = evaluation_dataset(sequences, "validation", max_length=MAX_LENGTH)
    begin = time.perf_counter()
    times = StepTimes()
    model.fit(
        training.repeat(),
        steps_per_epoch=given["warm_up"] + given["steps"],
        callbacks=[times],
        verbose=0,
    )
    model.evaluate(validation.take(2), verbose=0)
    evaluating = time.perf_counter()
    model.evaluate(validation, verbose=0)
    end = time.perf_counter()
    ends = np.array(times.ends)[given["warm_up"] :]
    wall, processor = np.diff(ends, axis=0).T
    flops = step_flops(mean_tokens(sequences), prepared.num_items)
    gemm = gemm_flops_per_second()
    result = {
        "seconds": end - begin,
        "step_seconds": statistics.median(wall),
        "step_processor_seconds": statistics.median(processor),
        "evaluation_seconds": end - evaluating,
        "evaluated": len(Instances.of(sequences, "validation")),
        "gemm_gflops_per_second": gemm / 1e9,
        "step_gflop": flops / 1e9,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
