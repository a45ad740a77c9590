"""Between the tensors of requests and those of a batch of them, along dimension 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import grpc
import numpy as np

from adaptiverec.serving.batching_queue import Task
from adaptiverec.serving.status import RequestError

__all__ = ["count_rows", "merge_feeds", "split_outputs"]

# What TensorFlow Serving can pad.
_MAX_RANK = 6


def count_rows(feeds: Mapping[str, np.ndarray]) -> int:
    """The number of rows of a request, which all its tensors must agree on.

    Raises:
        RequestError: INVALID_ARGUMENT, they do not, or one is a scalar.
    """
    rows = -1
    for value in feeds.values():
        if value.ndim == 0:
            raise _invalid(
                "Batching Run() input tensors must have at least one dimension"
            )
        if rows < 0:
            rows = value.shape[0]
        elif value.shape[0] != rows:
            raise _invalid(
                "Batching Run() input tensors must have equal 0th-dimension size"
            )
    if rows < 0:
        raise _invalid("Batching Run() must have at least one input tensor")
    return rows


def merge_feeds(
    tasks: Sequence[Task], *, padded_rows: int, pad_shapes: bool
) -> dict[str, np.ndarray]:
    """Puts the tensors of requests one below the other.

    Args:
        tasks: The requests, at least one, all with tensors of the same names.
        padded_rows: How many rows the batch must have in the end; those that are missing
            are copies of the first row of the last request, which is sure to be valid.
        pad_shapes: Whether smaller tensors are padded, at the end of each dimension but
            the first, with their own first value. Otherwise all must have one shape.

    Returns:
        The batch, ``[padded_rows, ...]`` by name.

    Raises:
        RequestError: FAILED_PRECONDITION, the shapes differ; INVALID_ARGUMENT, a tensor
            cannot be padded.
    """
    missing = padded_rows - sum(task.rows for task in tasks)
    # A request without rows has none to copy.
    model_row = next((task for task in reversed(tasks) if task.rows), None)
    merged = {}
    for name, first in tasks[0].feeds.items():
        if len(tasks) == 1 and not missing:
            merged[name] = first
            continue
        values = [task.feeds[name] for task in tasks]
        if pad_shapes:
            shape = np.max([value.shape for value in values], axis=0)
            values = [_padded(value, shape) for value in values]
        elif any(value.shape[1:] != first.shape[1:] for value in values):
            raise RequestError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"Tensors with name '{name}' from different tasks have different shapes "
                "and padding is turned off. Set pad_variable_length_inputs to true, or "
                "ensure that all tensors with the same name have equal dimensions "
                "starting with the first dim.",
            )
        if missing and model_row is not None:
            row = values[tasks.index(model_row)][:1]
            values.append(np.repeat(row, missing, axis=0))
        merged[name] = np.concatenate(values) if len(values) > 1 else values[0]
    return merged


def split_outputs(
    names: Sequence[str], values: Sequence[np.ndarray], tasks: Sequence[Task], rows: int
) -> None:
    """Gives each request its rows of the outputs of a batch.

    Args:
        names: Of the outputs.
        values: Their values, ``[rows, ...]`` each.
        tasks: The requests, in the order in which they were merged; changed.
        rows: Of the batch, with what it was filled up with.

    Raises:
        RequestError: FAILED_PRECONDITION, an output has not a row for each of the input.
    """
    for value in values:
        if np.ndim(value) == 0:
            raise RequestError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "Batched output tensor has 0 dimensions",
            )
        if value.shape[0] != rows:
            raise RequestError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th "
                "dimension sizes of the input tensors",
            )
    start = 0
    for task in tasks:
        end = start + task.rows
        task.outputs = {
            name: value[start:end] for name, value in zip(names, values, strict=True)
        }
        start = end


def _padded(value: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """``value`` with more of its first value behind, up to ``shape`` but for its rows."""
    if value.ndim > _MAX_RANK:
        raise _invalid("Only tensors with rank from 1 to 6 can be padded.")
    target = (value.shape[0], *(int(length) for length in shape[1:]))
    if target == value.shape or 0 in target:
        return value.reshape(target) if 0 in target else value
    if value.size == 0:
        raise _invalid("Got empty tensor in batch of non-empty tensors.")
    padded = np.full(target, value.flat[0], dtype=value.dtype)
    padded[tuple(slice(length) for length in value.shape)] = value
    return padded


def _invalid(message: str) -> RequestError:
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)
