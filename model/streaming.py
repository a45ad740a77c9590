"""Training and evaluation batches that stream from the shards of prepared data.

The same batches as :mod:`~adaptiverec.model.instances` makes of sequences in memory, with
memory that does not grow with the number of users. Records are read and inflated by
`tf.data`, and a generator makes batches of them in NumPy: what the shuffle and the
same-target draws remember is changed in place, which tensors cannot be.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from adaptiverec.common.checks import check_at_least, check_choice
from adaptiverec.common.errors import InvalidValueError
from adaptiverec.model.instances import INSTANCES
from adaptiverec.model.prepared_data import PreparedData
from adaptiverec.model.stream_batches import Batch, evaluation_batches, training_batches

__all__ = [
    "SHUFFLE_BUFFER",
    "streaming_evaluation_dataset",
    "streaming_training_dataset",
]

SHUFFLE_BUFFER = 200_000
# Batches made in advance, so that no step waits while the buffer is filled.
_PREFETCHED = 8


def streaming_training_dataset(
    prepared: PreparedData,
    *,
    max_length: int = 50,
    batch_size: int = 1024,
    instances: str = "prefixes",
    same_target: bool = True,
    shuffle_buffer: int = SHUFFLE_BUFFER,
    seed: int = 0,
    initial_epoch: int = 0,
) -> tf.data.Dataset:
    """One epoch of shuffled training batches, streamed; another one each time.

    Takes the place of :func:`~.instances.training_dataset` where the sequences do not fit
    in memory. An epoch has exactly the same instances; what differs is their order and the
    same-target draws.

    **Order.** Each epoch reads the shards in another order, 16 at a time, and some users of
    each in turn. `shuffle_buffer` instances are held, and each batch is drawn from those,
    each as likely; so an instance is moved by about `shuffle_buffer` places on average, and
    two prefixes of one user are in one batch with a chance of about `batch_size / (2 *
    shuffle_buffer)`. A buffer that holds all instances shuffles perfectly. One that does
    not keeps some of the order of the shards, which is that of a hash of the users and so
    has no meaning; but users that are near each other there stay so in each epoch.

    **Same target.** In memory, the partner of an instance is drawn from all others with
    its target. Here it is drawn from the others in the buffer; where there are none, it is
    the last one that has left the buffer in this epoch; and where there is none either,
    the instance itself. So an item that is rare among `shuffle_buffer` instances has one
    partner for some time, and its first instance of an epoch none. With `"sequences"` the
    buffer holds a user's windows alone, so the prefixes between are remembered, too, as
    they are read.

    **Memory.** `4 * (max_length + 2)` bytes for each instance of the buffer, and as much
    for each item of the catalogue with `same_target`; some more for what is being read.
    With the defaults that is 42 MB, and 208 MB for a million items.

    All shards are read once when this is called, so that a damaged one is known by name
    before the training begins; one that is damaged later ends the iteration with an error
    of TensorFlow's, whose message names it.

    Args:
        prepared: The prepared directory; its shards may lie on any filesystem that
            `tf.io.gfile` knows, and be compressed.
        max_length: The last so many items of a history are its input.
        batch_size: Instances a batch; the last batch of an epoch may be smaller.
        instances: `"prefixes"` or `"sequences"`, see :func:`~.instances.training_dataset`.
        same_target: Whether to give, for each instance, another prefix with the same
            target item.
        shuffle_buffer: Instances that are held to be shuffled; a batch, where that is more.
        seed: The order and the draws depend on it and on the epoch's number alone.
        initial_epoch: The number of the first epoch iterated.

    Returns:
        A dataset of `({"item_ids", "same_target_item_ids"}, target)`: int32
        `[batch, max_length]` (padded at the end with 0) and int32 `[batch]`, or with
        `"sequences"` int32 `[batch, max_length]`, padded likewise. Its cardinality is
        known.

    Raises:
        ContractError: A shard is damaged, or they do not hold what the metadata says.
        InvalidValueError: There is no training instance, or an argument is outside its
            rule.
    """
    check_at_least("max_length", max_length, 1)
    check_at_least("batch_size", batch_size, 1)
    check_at_least("shuffle_buffer", shuffle_buffer, 1)
    check_choice("instances", instances, INSTANCES)
    counts = prepared.counts
    if not counts.train:
        raise InvalidValueError(
            "Training needs at least one user with two interactions in the training "
            f"part. Received: {prepared.metadata['num_users']} users, none of them so"
        )
    all_positions = instances == "sequences"
    num_instances = counts.windows(max_length) if all_positions else counts.train
    # More than there are instances are never held.
    capacity = max(min(shuffle_buffer, num_instances), batch_size)
    next_epoch = itertools.count(initial_epoch)

    def epoch_batches() -> Iterator[Batch]:
        # Keras iterates a dataset once an epoch.
        entropy = np.random.SeedSequence(seed, spawn_key=(next(next_epoch),))
        return training_batches(
            prepared,
            max_length=max_length,
            batch_size=batch_size,
            all_positions=all_positions,
            same_target=same_target,
            capacity=capacity,
            generator=np.random.default_rng(entropy),
        )

    history = tf.TensorSpec([None, max_length], tf.int32)
    inputs = {"item_ids": history}
    if same_target:
        inputs["same_target_item_ids"] = history
    targets = history if all_positions else tf.TensorSpec([None], tf.int32)
    return _dataset(epoch_batches, (inputs, targets), -(-num_instances // batch_size))


def streaming_evaluation_dataset(
    prepared: PreparedData,
    part: str,
    *,
    max_length: int = 50,
    batch_size: int = 256,
) -> tf.data.Dataset:
    """The targets of a part, each with its history, streamed in the order of the shards.

    The same batches as those of :func:`~.instances.evaluation_dataset`, with the memory of
    some of them.

    Args:
        prepared: The prepared directory.
        part: `"validation"` or `"test"`.
        max_length: The last so many items of a history are the model's input.
        batch_size: Targets a batch.

    Returns:
        A dataset of `({"item_ids", "seen_item_ids"}, target)`: int32
        `[batch, max_length]`, the whole history as int32 `[batch, longest]` (both padded
        at the end with 0), and int32 `[batch]`. Its cardinality is known.

    Raises:
        ContractError: A shard is damaged, or they do not hold what the metadata says.
    """
    check_at_least("max_length", max_length, 1)
    check_at_least("batch_size", batch_size, 1)
    check_choice("part", part, ("validation", "test"))
    num_targets = {
        "validation": prepared.counts.validation,
        "test": prepared.counts.test,
    }

    def batches() -> Iterator[Batch]:
        return evaluation_batches(
            prepared, part, max_length=max_length, batch_size=batch_size
        )

    inputs = {
        "item_ids": tf.TensorSpec([None, max_length], tf.int32),
        "seen_item_ids": tf.TensorSpec([None, None], tf.int32),
    }
    signature = (inputs, tf.TensorSpec([None], tf.int32))
    return _dataset(batches, signature, -(-num_targets[part] // batch_size))


def _dataset(
    batches: Callable[[], Iterator[Batch]], signature: Any, num_batches: int
) -> tf.data.Dataset:
    """A dataset of what a Python iterator gives, started anew for each iteration.

    `Dataset.from_generator` would do, but for a setting of the C library's allocator that
    it makes for the whole process, with which training steps on a CPU take much longer.
    """
    specs = tf.nest.flatten(signature)
    iterations = _Iterations(batches, num_batches)

    def one_iteration(_: tf.Tensor) -> tf.data.Dataset:
        number = tf.numpy_function(iterations.begin, [], tf.int64)

        def batch(step: tf.Tensor) -> Any:
            tensors = tf.numpy_function(
                iterations.batch, [number, step], [spec.dtype for spec in specs]
            )
            for tensor, spec in zip(tensors, specs, strict=True):
                tensor.set_shape(spec.shape)
            return tf.nest.pack_sequence_as(signature, tensors)

        # One after the other, since they come from one iterator.
        return tf.data.Dataset.range(num_batches).map(batch)

    dataset = tf.data.Dataset.range(1).flat_map(one_iteration)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(num_batches))
    return dataset.prefetch(_PREFETCHED)


class _Iterations:
    """Iterators by number, for functions that are called from TensorFlow."""

    def __init__(
        self, batches: Callable[[], Iterator[Batch]], num_batches: int
    ) -> None:
        self._batches = batches
        self._num_batches = num_batches
        self._numbers = itertools.count()
        self._begun: dict[int, Iterator[Batch]] = {}

    def begin(self) -> np.int64:
        number = next(self._numbers)
        # One that was left half-way is never told so: its buffer goes with the next but one.
        for old in [old for old in self._begun if old < number - 1]:
            del self._begun[old]
        self._begun[number] = self._batches()
        return np.int64(number)

    def batch(self, number: np.int64, step: np.int64) -> list[np.ndarray]:
        batch = next(self._begun[int(number)])
        if step == self._num_batches - 1:
            del self._begun[int(number)]
        return tf.nest.flatten(batch)
