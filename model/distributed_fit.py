"""Training over several workers, where Keras' own `fit` does not run.

`fit` runs under `tf.distribute.MirroredStrategy`, the replicas of one process. Under
`tf.distribute.MultiWorkerMirroredStrategy` it fails in Keras 3.15: it takes the parts of a
batch that this strategy hands out for tensors, and cannot convert them. The loop here runs
the same `train_step` and callbacks, and reads figures at the end of an epoch alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from adaptiverec.common.checks import check_at_least
from adaptiverec.common.errors import InvalidValueError
from adaptiverec.model.adaptive_rec import AdaptiveRec

__all__ = ["distributed_fit"]


def distributed_fit(
    model: AdaptiveRec,
    train_data: tf.data.Dataset,
    *,
    epochs: int,
    validation_data: tf.data.Dataset | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    initial_epoch: int = 0,
) -> dict[str, list[float]]:
    """Trains a model that was made and compiled in the scope of a strategy.

    Every worker calls it with the same arguments. The batches of `train_data` are global:
    each is split over the replicas of all workers, and the contrast is between all of its
    sequences.

    Args:
        model: A compiled model.
        train_data: As for `fit`; the same on every worker, which takes its part of each
            batch.
        epochs: The number of the last epoch.
        validation_data: Likewise, evaluated after every epoch.
        callbacks: Told of the beginning and the end of training and of every epoch, and of
            every step, without its figures. Those that write files are for one worker
            alone; those that save or restore the model, which all must take part in, for
            all.
        initial_epoch: Epochs that have been done before.

    Returns:
        For each figure its values by epoch, those of `validation_data` under `val_…`; the
        same on every worker.

    Raises:
        InvalidValueError: `epochs` is below 1, or the model is not compiled.
    """
    check_at_least("epochs", epochs, 1)
    if not model.compiled:
        raise InvalidValueError(
            "The model must be compiled in the scope of its strategy. Received: a model "
            "that is not compiled"
        )
    strategy = model.distribute_strategy
    train_batches = _distributed(strategy, train_data)
    validation_batches = (
        None if validation_data is None else _distributed(strategy, validation_data)
    )

    @tf.function(reduce_retracing=True)
    def train_step(batch: Any) -> None:
        strategy.run(model.train_step, args=(batch,))

    @tf.function(reduce_retracing=True)
    def test_step(batch: Any) -> None:
        strategy.run(model.test_step, args=(batch,))

    @tf.function
    def figures() -> dict[str, Any]:
        return {metric.name: metric.result() for metric in model.metrics}

    def run(batches: Any, step: Any, named: Sequence[str]) -> dict[str, float]:
        model.reset_metrics()
        for number, batch in enumerate(batches):
            if step is train_step:
                told.on_train_batch_begin(number)
            step(batch)
            if step is train_step:
                told.on_train_batch_end(number)
        found = figures()
        return {name: float(found[name]) for name in named}

    told = keras.callbacks.CallbackList(
        list(callbacks), model=model, epochs=epochs, verbose=0
    )
    history: dict[str, list[float]] = {}
    model.stop_training = False
    told.on_train_begin()
    for epoch in range(initial_epoch, epochs):
        told.on_epoch_begin(epoch)
        logs = run(train_batches, train_step, _trained(model))
        if validation_batches is not None:
            with model.evaluating():
                evaluated = run(validation_batches, test_step, _evaluated(model))
            logs |= {f"val_{name}": value for name, value in evaluated.items()}
        for name, value in logs.items():
            history.setdefault(name, []).append(value)
        told.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    told.on_train_end()
    return history


def _distributed(strategy: tf.distribute.Strategy, dataset: tf.data.Dataset) -> Any:
    # By rows: the batches are made on the fly, and no file can be left to a worker.
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return strategy.experimental_distribute_dataset(dataset.with_options(options))


def _evaluated(model: AdaptiveRec) -> list[str]:
    return ["loss", *(measure.name for measure in model.ranking_measures)]


def _trained(model: AdaptiveRec) -> list[str]:
    measures = {measure.name for measure in model.ranking_measures}
    return [metric.name for metric in model.metrics if metric.name not in measures]
