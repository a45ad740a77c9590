"""Training instances and evaluation targets as `tf.data`, made on the fly.

Every prefix of a user's training part is a training instance: its items are the history
and the item after it the target. None of them is ever stored: an instance is the
position of its target in the flat array of :class:`~.prepared_data.Sequences`, and a
batch is gathered from there. Or there is a target at each position of an instance, and a
user is as many instances as it takes for each item to be one target.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from adaptiverec.common.checks import check_at_least, check_choice
from adaptiverec.common.errors import InvalidValueError
from adaptiverec.model.prepared_data import Sequences
from adaptiverec.model.sequences import places_within

__all__ = [
    "INSTANCES",
    "PARTS",
    "Instances",
    "evaluation_dataset",
    "training_dataset",
]

PARTS = ("train", "validation", "test")
INSTANCES = ("prefixes", "sequences")


@dataclasses.dataclass(frozen=True)
class Instances:
    """Targets and where the histories before them start.

    Attributes:
        targets: Positions in `Sequences.items`, int64 `[num_instances]`.
        starts: Where the target's user starts there, int64 `[num_instances]`.
    """

    targets: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, sequences: Sequences, part: str) -> Instances:
        """All targets of a part that have at least one earlier interaction.

        Args:
            sequences: The users' sequences.
            part: One of :data:`PARTS`. A validation or test target's history is
                everything before it, whichever part that is of.

        Returns:
            The instances, in the order of the sequences.
        """
        check_choice("part", part, PARTS)
        user_starts, user_ends = sequences.starts[:-1], sequences.starts[1:]
        first, end = {
            "train": (user_starts, sequences.train_ends),
            "validation": (sequences.train_ends, sequences.validation_ends),
            "test": (sequences.validation_ends, user_ends),
        }[part]
        first = np.maximum(first, user_starts + 1)
        counts = np.maximum(end - first, 0)
        return cls(
            targets=np.repeat(first, counts) + places_within(counts),
            starts=np.repeat(user_starts, counts),
        )

    def covering(self, max_length: int) -> np.ndarray:
        """Those among whose positions each target is once, int64 `[num_windows]`.

        A user's last instance, whose last `max_length` items are followed by as many
        targets; the one whose target is before the first of these; and so on.

        Args:
            max_length: The last so many items of a history are its positions.
        """
        last = np.flatnonzero(np.append(np.diff(self.starts) != 0, len(self) > 0))
        counts = -(-np.diff(last, prepend=-1) // max_length)
        return np.repeat(last, counts) - places_within(counts) * max_length

    def __len__(self) -> int:
        return len(self.targets)


def training_dataset(
    sequences: Sequences,
    *,
    max_length: int = 50,
    batch_size: int = 1024,
    instances: str = "prefixes",
    same_target: bool = True,
    seed: int = 0,
    initial_epoch: int = 0,
) -> tf.data.Dataset:
    """One epoch of shuffled training batches, another one each time it is iterated.

    Args:
        sequences: The users' sequences.
        max_length: The last so many items of a history are its input.
        batch_size: Instances a batch; the last batch of an epoch may be smaller.
        instances: `"prefixes"`: every prefix of a training part is an instance, whose
            target is the item after it. `"sequences"`: the target of each position is
            the item after it (Kang & McAuley 2018, section III.E), and a user is one
            instance, or, with more items than `max_length`, several, one after the
            other, so that each item is still a target.
        same_target: Whether to give, for each instance, another prefix with the same
            target item (that of the last position), drawn afresh each epoch; itself
            where there is none.
        seed: The order and the draws depend on it and on the epoch's number alone.
        initial_epoch: The number of the first epoch iterated.

    Returns:
        A dataset of `({"item_ids", "same_target_item_ids"}, target)`: int32
        `[batch, max_length]` (padded at the end with 0) and int32 `[batch]`, or with
        `"sequences"` int32 `[batch, max_length]`, padded likewise. Its cardinality is
        known.

    Raises:
        InvalidValueError: There is no training instance.
    """
    check_at_least("max_length", max_length, 1)
    check_at_least("batch_size", batch_size, 1)
    check_choice("instances", instances, INSTANCES)
    prefixes = Instances.of(sequences, "train")
    if not len(prefixes):
        raise InvalidValueError(
            "Training needs at least one user with two interactions in the training "
            f"part. Received: {sequences.num_users} users, none of them so"
        )
    gather = _Gather(sequences, prefixes, max_length)
    draw = _SameTarget(sequences.items[prefixes.targets]) if same_target else None
    windows = None
    if instances == "sequences":
        windows = tf.constant(prefixes.covering(max_length))
    num_instances = len(prefixes) if windows is None else len(windows)
    num_batches = -(-num_instances // batch_size)
    # Counts on with every iteration. Keras iterates a dataset once an epoch, and under a
    # strategy begins another one before the first, for a look at a batch.
    next_epoch = tf.Variable(initial_epoch, dtype=tf.int64, trainable=False)

    def epoch_batches(_: tf.Tensor) -> tf.data.Dataset:
        epoch = next_epoch.assign_add(1) - 1
        epoch_seed = tf.stack([tf.constant(seed, tf.int64), epoch])
        order = tf.random.experimental.stateless_shuffle(
            tf.range(num_instances), seed=epoch_seed
        )

        def batch(step: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
            rows = order[step * batch_size : (step + 1) * batch_size]
            if windows is not None:
                rows = tf.gather(windows, rows)
            item_ids, targets = gather(rows)
            if windows is not None:
                targets = gather.following_items(rows)
            inputs = {"item_ids": item_ids}
            if draw is not None:
                step_seed = tf.random.experimental.stateless_fold_in(epoch_seed, step)
                inputs["same_target_item_ids"], _ = gather(draw(rows, step_seed))
            return inputs, targets

        return tf.data.Dataset.range(num_batches).map(
            batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )

    dataset = tf.data.Dataset.range(1).flat_map(epoch_batches)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(num_batches))
    return dataset.prefetch(tf.data.AUTOTUNE)


def evaluation_dataset(
    sequences: Sequences,
    part: str,
    *,
    max_length: int = 50,
    batch_size: int = 256,
) -> tf.data.Dataset:
    """The targets of a part, each with its history, in the order of the sequences.

    Args:
        sequences: The users' sequences.
        part: `"validation"` or `"test"`.
        max_length: The last so many items of a history are the model's input.
        batch_size: Targets a batch. A few hundred are sooner than a thousand on CPUs,
            whose caches then hold their scores.

    Returns:
        A dataset of `({"item_ids", "seen_item_ids"}, target)`: int32
        `[batch, max_length]`, the whole history as int32 `[batch, longest]` (both padded
        at the end with 0), and int32 `[batch]`.
    """
    check_at_least("max_length", max_length, 1)
    check_at_least("batch_size", batch_size, 1)
    instances = Instances.of(sequences, part)
    gather = _Gather(sequences, instances, max_length)

    def batch(rows: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        item_ids, targets = gather(rows)
        return {"item_ids": item_ids, "seen_item_ids": gather.all_items(rows)}, targets

    return (
        tf.data.Dataset.range(len(instances))
        .batch(batch_size)
        .map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(tf.data.AUTOTUNE)
    )


class _Gather:
    """Gathers the histories and targets of instances from the flat array."""

    def __init__(
        self, sequences: Sequences, instances: Instances, max_length: int
    ) -> None:
        self._items = tf.constant(sequences.items)
        self._targets = tf.constant(instances.targets)
        self._starts = tf.constant(instances.starts)
        self._max_length = max_length

    def __call__(self, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        ends = tf.gather(self._targets, rows)
        starts = tf.maximum(tf.gather(self._starts, rows), ends - self._max_length)
        item_ids = self._windows(starts, ends, tf.constant(self._max_length, tf.int64))
        item_ids = tf.ensure_shape(item_ids, [None, self._max_length])
        return item_ids, tf.gather(self._items, ends)

    def following_items(self, rows: tf.Tensor) -> tf.Tensor:
        """The item after each of those that a call gives."""
        ends = tf.gather(self._targets, rows)
        starts = tf.maximum(tf.gather(self._starts, rows), ends - self._max_length)
        width = tf.constant(self._max_length, tf.int64)
        following = self._windows(starts + 1, ends + 1, width)
        return tf.ensure_shape(following, [None, self._max_length])

    def all_items(self, rows: tf.Tensor) -> tf.Tensor:
        starts, ends = tf.gather(self._starts, rows), tf.gather(self._targets, rows)
        return self._windows(starts, ends, tf.reduce_max(ends - starts))

    def _windows(
        self, starts: tf.Tensor, ends: tf.Tensor, width: tf.Tensor
    ) -> tf.Tensor:
        positions = starts[:, None] + tf.range(width)[None, :]
        inside = positions < ends[:, None]
        return tf.where(
            inside, tf.gather(self._items, tf.where(inside, positions, 0)), 0
        )


class _SameTarget:
    """Draws, for each instance, another one that has the same target item."""

    def __init__(self, target_items: np.ndarray) -> None:
        by_target = np.argsort(target_items, kind="stable").astype(np.int32)
        counts = np.bincount(target_items)
        self._by_target = tf.constant(by_target)
        place = np.empty_like(by_target)
        place[by_target] = np.arange(len(by_target), dtype=np.int32)
        # The instance's place in the list of all, and where its item's run starts there.
        self._place = tf.constant(place)
        run_starts = np.cumsum(counts) - counts
        self._run_start = tf.constant(run_starts[target_items].astype(np.int32))
        self._run_length = tf.constant(counts[target_items].astype(np.int32))

    def __call__(self, rows: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        start = tf.gather(self._run_start, rows)
        length = tf.gather(self._run_length, rows)
        # A step of 1 … length - 1 around the run: every other instance is as likely.
        steps = tf.random.stateless_uniform(tf.shape(rows), seed=seed) * tf.cast(
            length - 1, tf.float32
        )
        moved = tf.gather(self._place, rows) - start + 1 + tf.cast(steps, tf.int32)
        return tf.gather(self._by_target, start + moved % length)
