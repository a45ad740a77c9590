"""Trains under a strategy of `tf.distribute`, in a process of its own.

`python distributed_training.py OUT STRATEGY OPTIONS` writes weights and figures to
OUT.npz; STRATEGY is `one`, `mirrored` (two virtual devices) or `workers` (TF_CONFIG says
which of them this process is). A strategy does not go together with what another test has
done to the process before.
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import contextlib

import keras
import numpy as np
import tensorflow as tf

from adaptiverec.model.adaptive_rec import AdaptiveRec
from adaptiverec.model.augmentation import two_augmentations
from adaptiverec.model.distributed_fit import distributed_fit
from adaptiverec.model.dropout import Dropout
from adaptiverec.model.instances import evaluation_dataset, training_dataset
from adaptiverec.model.prepared_data import PreparedData
from adaptiverec.model.sequences import Sequences
from adaptiverec.model.streaming import (
    streaming_evaluation_dataset,
    streaming_training_dataset,
)

NUM_ITEMS, LENGTH = 30, 6
# The last batch of 16 has a single row: a second replica has none of it.
NUM_ROWS = 65


def batches() -> tf.data.Dataset:
    generator = np.random.default_rng(4)
    lengths = generator.integers(1, LENGTH + 1, (2, NUM_ROWS, 1))
    ids = generator.integers(1, NUM_ITEMS + 1, (2, NUM_ROWS, LENGTH))
    ids = np.where(np.arange(LENGTH) < lengths, ids, 0).astype(np.int32)
    targets = generator.integers(1, NUM_ITEMS + 1, NUM_ROWS).astype(np.int32)
    inputs = {
        "item_ids": ids[0],
        "same_target_item_ids": ids[1],
        "seen_item_ids": ids[0],
    }
    return tf.data.Dataset.from_tensor_slices((inputs, targets)).batch(16)


def batches_of_sequences(part: str) -> tf.data.Dataset:
    """Such as `fit` is given: shuffled, with draws, made on the fly."""
    generator = np.random.default_rng(5)
    lengths = generator.integers(3, 9, 20)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    items = generator.integers(1, NUM_ITEMS + 1, starts[-1]).astype(np.int32)
    sequences = Sequences(items, starts, starts[1:] - 2, starts[1:] - 1)
    options = {"max_length": LENGTH, "batch_size": 16}
    if part == "train":
        return training_dataset(sequences, seed=2, **options)
    return evaluation_dataset(sequences, part, **options)


def streamed_batches(
    path: str, initial_epoch: int
) -> tuple[tf.data.Dataset, tf.data.Dataset]:
    """Of training and of validation, from the shards of a prepared directory."""
    prepared = PreparedData.open(path)
    options = {"max_length": LENGTH, "batch_size": 16}
    return (
        streaming_training_dataset(
            prepared, seed=2, initial_epoch=initial_epoch, **options
        ),
        streaming_evaluation_dataset(prepared, "validation", **options),
    )


def write_masks(out: str, strategy: tf.distribute.Strategy) -> None:
    """What dropout leaves of ones on every replica, in two steps."""
    with strategy.scope():
        layer = Dropout(0.5, seed=3)
    step = tf.function(
        lambda: strategy.run(lambda: layer(tf.ones([64]), training=True))
    )
    masks = [
        mask.numpy().tolist()
        for _ in range(2)
        for mask in strategy.experimental_local_results(step())
    ]
    np.savez(out, figures=json.dumps(masks))


def write_augmentations(out: str, strategy: tf.distribute.Strategy) -> None:
    """The first view of the same rows on every replica, in two steps."""
    with strategy.scope():
        seed = keras.random.SeedGenerator(3)
    rows = tf.tile(tf.range(1, 11)[None, :], [20, 1])
    step = tf.function(
        lambda: strategy.run(lambda: two_augmentations(rows, 99, seed=seed)[0])
    )
    views = [
        tf.reshape(view, [-1]).numpy().tolist()
        for _ in range(2)
        for view in strategy.experimental_local_results(step())
    ]
    np.savez(out, figures=json.dumps(views))


def main(out: str, kind: str, options: dict) -> None:
    own_loop = options.pop("own_loop", False)
    of_sequences = options.pop("of_sequences", False)
    streamed = options.pop("streamed", None)
    epochs = options.pop("epochs", 2)
    dropout = options.pop("dropout", 0.0)
    if kind == "mirrored":
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    elif kind == "workers":
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    else:
        strategy = tf.distribute.get_strategy()
    if kind != "one" and strategy.num_replicas_in_sync != 2:
        raise SystemExit(f"expected 2 replicas, found {strategy.num_replicas_in_sync}")
    if options.pop("masks", False):
        write_masks(out, strategy)
        return
    if options.pop("augmentations", False):
        write_augmentations(out, strategy)
        return
    keras.utils.set_random_seed(1)
    with strategy.scope() if kind != "one" else contextlib.nullcontext():
        model = AdaptiveRec(
            NUM_ITEMS,
            max_length=LENGTH,
            hidden_dim=8,
            num_blocks=1,
            inner_dim=8,
            dropout=dropout,
            **options,
        )
        model.compile(keras.optimizers.SGD(0.5))
    train_data = validation_data = batches()
    if of_sequences:
        train_data, validation_data = map(batches_of_sequences, ("train", "validation"))
    if streamed:
        # Under a strategy, Keras looks at a batch before it trains, so begins an epoch.
        train_data, validation_data = streamed_batches(streamed, int(kind == "one"))
    if own_loop:
        figures = distributed_fit(
            model, train_data, epochs=epochs, validation_data=validation_data
        )
    else:
        figures = model.fit(
            train_data,
            epochs=epochs,
            validation_data=validation_data,
            shuffle=False,
            verbose=0,
        ).history
    if kind == "workers" and strategy.cluster_resolver.task_id == 0:
        # As the documents say: one of the workers alone.
        model.save(out.replace(".npz", ".keras"))
    weights = {f"weight {v.path}": v.numpy() for v in model.weights}
    np.savez(out, figures=json.dumps(figures), **weights)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
