"""What `AdaptiveRec` takes: tensors or dictionaries of them, checked."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras import ops

from adaptiverec.common.errors import InvalidValueError

__all__ = [
    "check_has_targets",
    "check_item_ids",
    "check_one_target_each",
    "check_targets",
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


def seen_item_ids_of(inputs: Any, *, num_items: int) -> Any:
    """The whole histories, int `[batch, any]`; checked when the graph runs.

    Args:
        inputs: Of the model.
        num_items: Size of the catalogue.

    Raises:
        InvalidValueError: They are not there.
    """
    if not isinstance(inputs, dict) or "seen_item_ids" not in inputs:
        raise InvalidValueError(
            "With exclude_seen=True, evaluation needs 'seen_item_ids', each user's whole "
            "history, in the input. Received: an input without it"
        )
    seen = inputs["seen_item_ids"]
    # Before they are used to scatter, which has an error of its own.
    with tf.control_dependencies([_check_range(seen, "seen_item_ids", 0, num_items)]):
        return tf.identity(seen)


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


def check_item_ids(
    item_ids: Any, *, num_items: int, max_length: int, name: str = "item_ids"
) -> None:
    """Checks sequences; what is in them, when the graph runs (not under XLA).

    Args:
        item_ids: Int tensor, to be of shape `[batch, length]`.
        num_items: Size of the catalogue.
        max_length: Of the model.
        name: What they are called.

    Raises:
        InvalidValueError: They are not rows, or too long. In a graph, an item that is
            not of the catalogue, or padding in front of one, raises TensorFlow's
            `InvalidArgumentError`.
    """
    shape = item_ids.shape
    if len(shape) != 2 or (shape[1] or 0) > max_length:
        raise InvalidValueError(
            f"{name} must be of shape [batch, length], with at most max_length="
            f"{max_length} columns. Received: {tuple(shape)}"
        )
    gap = ops.logical_and(item_ids[:, :-1] == 0, item_ids[:, 1:] != 0)
    _check(
        ops.logical_not(ops.any(gap)),
        f"{name} must be padded at the end with 0, items first. Received a row with 0 "
        "before an item:",
        item_ids,
    )
    _check_range(item_ids, name, 0, num_items)


def check_has_targets(targets: Any) -> None:
    """Checks that `fit` or `evaluate` was given targets.

    Raises:
        InvalidValueError: It was not.
    """
    if targets is None:
        raise InvalidValueError(
            "fit() and evaluate() need the next item of each sequence as the target: "
            "(inputs, targets). Received: inputs alone"
        )


def check_targets(targets: Any, *, num_items: int, each_position: bool) -> None:
    """Checks targets when the graph runs (not under XLA).

    Args:
        targets: Int tensor.
        num_items: Size of the catalogue.
        each_position: Whether there is one for each position, where 0 is none.
    """
    _check_range(targets, "targets", 0 if each_position else 1, num_items)


def check_one_target_each(targets: Any) -> None:
    """Checks the shape of the targets of an evaluation.

    Raises:
        InvalidValueError: There is not one for each sequence.
    """
    if len(targets.shape) != 1:
        raise InvalidValueError(
            "Targets to evaluate must be of shape [batch], one for each sequence. "
            f"Received: {tuple(targets.shape)}"
        )


def _check_range(item_ids: Any, name: str, lowest: int, highest: int) -> Any:
    inside = ops.logical_and(item_ids >= lowest, item_ids <= highest)
    return _check(
        ops.all(inside),
        f"{name} must be dense ids from {lowest} to num_items={highest}. Received:",
        item_ids,
    )


def _check(holds: Any, message: str, received: Any) -> Any:
    return tf.debugging.Assert(holds, [message, received], summarize=20)
