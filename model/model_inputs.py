"""What `AdaptiveRec` takes: tensors or dictionaries of them, checked."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras import ops

from adaptiverec.common.errors import InvalidValueError

__all__ = [
    "check_padding",
    "item_ids_of",
    "same_target_item_ids_of",
    "seen_item_ids_of",
    "target_at_each_position",
]


def item_ids_of(inputs: Any) -> Any:
    """The sequences, int `[batch, length]`."""
    if not isinstance(inputs, dict):
        return inputs
    if "item_ids" not in inputs:
        raise InvalidValueError(
            "An input dictionary must have the key 'item_ids'. Received: "
            f"{sorted(inputs)}"
        )
    return inputs["item_ids"]


def same_target_item_ids_of(inputs: Any) -> Any:
    """Sequences with the same targets, int `[batch, length]`, or None."""
    return inputs.get("same_target_item_ids") if isinstance(inputs, dict) else None


def seen_item_ids_of(inputs: Any) -> Any:
    """The whole histories, int `[batch, any]`.

    Raises:
        InvalidValueError: They are not there.
    """
    if not isinstance(inputs, dict) or "seen_item_ids" not in inputs:
        raise InvalidValueError(
            "With exclude_seen=True, evaluation needs 'seen_item_ids', each user's whole "
            "history, in the input. Received: an input without it"
        )
    return inputs["seen_item_ids"]


def target_at_each_position(targets: Any, item_ids: Any) -> bool:
    """Whether targets are given for all positions instead of for the last ones.

    Raises:
        InvalidValueError: They are of neither shape.
    """
    shape, expected = targets.shape, item_ids.shape
    if len(shape) == 1:
        return False
    if len(shape) != 2 or shape[1] != expected[1]:
        raise InvalidValueError(
            "Targets must be of shape [batch], or of that of item_ids, with one at each "
            f"position. Received: targets of {shape}, item_ids of {expected}"
        )
    return True


def check_padding(item_ids: Any) -> None:
    """Has the graph raise `InvalidArgumentError` for rows that are padded in front."""
    gap = ops.logical_and(item_ids[:, :-1] == 0, item_ids[:, 1:] != 0)
    tf.debugging.Assert(
        tf.logical_not(tf.reduce_any(gap)),
        [
            "item_ids must be padded at the end with 0, items first. Received a row with "
            "0 before an item:",
            item_ids,
        ],
        summarize=20,
    )
