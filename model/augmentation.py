"""CL4SRec's augmentations: crop, mask and reorder (Xie et al. 2022, section 3.2)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from adaptiverec.model.replicas import replica_seed
from adaptiverec.model.sequence_encoder import sequence_lengths

__all__ = ["crop", "mask", "reorder", "two_augmentations"]

_CROP_SHARE = 0.6
_MASK_SHARE = 0.3
_REORDER_SHARE = 0.6


def _share_of(lengths: Any, share: float) -> Any:
    # A little is added, as .6 * 5 is 2.9999998 in float32.
    return ops.cast(ops.floor(ops.cast(lengths, "float32") * share + 1e-4), "int32")


def _uniform(shape: Any, seed: keras.random.SeedGenerator) -> Any:
    """Random numbers in [0, 1), others on each replica."""
    return tf.random.stateless_uniform(shape, replica_seed(seed))


def _random_window(lengths: Any, size: Any, seed: keras.random.SeedGenerator) -> Any:
    """The start of a random window of `size` within each length, `[batch, 1]`."""
    free = ops.cast(lengths - size + 1, "float32")
    start = ops.floor(_uniform(ops.shape(lengths), seed) * free)
    return ops.cast(start, "int32")[:, None]


def crop(item_ids: Any, *, seed: keras.random.SeedGenerator) -> Any:
    """Keeps a random contiguous ``floor(.6 n)`` of each row's n > 1 items.

    Args:
        item_ids: Int tensor of shape `[batch, length]`, padded at the end with 0.
        seed: What draws.

    Returns:
        Int tensor of the same shape, padded at the end.
    """
    lengths = sequence_lengths(item_ids)
    size = ops.where(lengths > 1, _share_of(lengths, _CROP_SHARE), lengths)
    start = _random_window(lengths, size, seed)
    position = ops.arange(ops.shape(item_ids)[1], dtype="int32")[None, :]
    source = ops.minimum(start + position, ops.shape(item_ids)[1] - 1)
    return ops.where(
        position < size[:, None], tf.gather(item_ids, source, batch_dims=1), 0
    )


def mask(item_ids: Any, mask_id: int, *, seed: keras.random.SeedGenerator) -> Any:
    """Replaces ``floor(.3 n)`` random items of each row's n > 1 by the mask token.

    Args:
        item_ids: Int tensor of shape `[batch, length]`, padded at the end with 0.
        mask_id: The token's id.
        seed: What draws.

    Returns:
        Int tensor of the same shape.
    """
    count = _share_of(sequence_lengths(item_ids), _MASK_SHARE)[:, None]
    # The items with the smallest of random numbers, padding getting the largest.
    chance = _uniform(ops.shape(item_ids), seed)
    chance = ops.where(item_ids != 0, chance, 2.0)
    rank = ops.argsort(ops.argsort(chance, axis=1), axis=1)
    return ops.where(ops.cast(rank, "int32") < count, mask_id, item_ids)


def reorder(item_ids: Any, *, seed: keras.random.SeedGenerator) -> Any:
    """Shuffles a random contiguous ``floor(.6 n)`` of each row's n > 1 items.

    Args:
        item_ids: Int tensor of shape `[batch, length]`, padded at the end with 0.
        seed: What draws.

    Returns:
        Int tensor of the same shape.
    """
    lengths = sequence_lengths(item_ids)
    size = _share_of(lengths, _REORDER_SHARE)
    start = _random_window(lengths, size, seed)
    position = ops.arange(ops.shape(item_ids)[1], dtype="int32")[None, :]
    shuffled = (position >= start) & (position < start + size[:, None])
    # Sorted by position, but within the window by chance.
    chance = _uniform(ops.shape(item_ids), seed)
    span = ops.cast(size[:, None], "float32") - 0.5
    within = ops.cast(start, "float32") + chance * span
    key = ops.where(shuffled, within, ops.cast(position, "float32"))
    # The window's keys stay clear of its neighbours', start - 1 and start + size.
    return tf.gather(item_ids, ops.argsort(key, axis=1), batch_dims=1)


def two_augmentations(
    item_ids: Any, mask_id: int, *, seed: keras.random.SeedGenerator
) -> tuple[Any, Any]:
    """Two views of each row, by two different operators drawn for each row.

    Args:
        item_ids: Int tensor of shape `[batch, length]`, padded at the end with 0.
        mask_id: The mask token's id.
        seed: What draws.

    Returns:
        Two int tensors of the same shape.
    """
    candidates = ops.stack(
        [
            crop(item_ids, seed=seed),
            mask(item_ids, mask_id, seed=seed),
            reorder(item_ids, seed=seed),
        ]
    )
    rows = ops.shape(item_ids)[:1]
    first = ops.cast(3 * _uniform(rows, seed), "int32")
    second = ops.mod(first + 1 + ops.cast(2 * _uniform(rows, seed), "int32"), 3)

    def chosen(operator: Any) -> Any:
        one_hot = ops.equal(ops.arange(3)[:, None], operator[None, :])[:, :, None]
        return ops.sum(ops.where(one_hot, candidates, 0), axis=0)

    return chosen(first), chosen(second)
