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
