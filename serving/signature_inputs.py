"""The inputs of signatures: their shapes and types, and rows of raw ids looked up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from adaptiverec.serving.flat_ids import FlatIds
from adaptiverec.serving.item_vocabulary import ItemVocabulary
from adaptiverec.serving.signature_checks import check_lengths, check_rows

__all__ = [
    "BOOLS",
    "FLAGS",
    "INTS",
    "ITEMS",
    "LENGTHS",
    "ROWS",
    "VALUES",
    "Items",
    "K",
    "items_of_lengths",
    "items_of_matrix",
    "signature",
]

# Shape and type of inputs.
ROWS = ((None, None), tf.string)
VALUES = ((None,), tf.string)
LENGTHS = ((None,), tf.int64)
K = ((None,), tf.int32)
FLAGS = ((None,), tf.bool)


class Items(NamedTuple):
    """Rows of raw items looked up.

    Attributes:
        ids: Their dense ids.
        given: Bool `[n]`, which of them are no padding.
    """

    ids: FlatIds
    given: tf.Tensor


INTS = tf.TensorSpec([None], tf.int32)
BOOLS = tf.TensorSpec([None], tf.bool)
# So that functions which several signatures share are traced once.
ITEMS = Items(FlatIds(INTS, INTS, tf.TensorSpec([], tf.int32)), BOOLS)


def signature(**specs: tuple[tuple[None, ...], tf.DType]) -> Callable[..., Any]:
    """`tf.function` with named inputs of these shapes and types."""
    return tf.function(
        input_signature=[
            tf.TensorSpec(shape, dtype, name=name)
            for name, (shape, dtype) in specs.items()
        ]
    )


def items_of_matrix(
    vocabulary: ItemVocabulary, name: str, items: tf.Tensor, num_rows: tf.Tensor
) -> Items:
    """Looks up an input of raw ids, `[num_rows or 1, any]`, padded with ""."""
    with tf.control_dependencies([check_rows(name, items, num_rows)]):
        items = vocabulary.normalize(tf.identity(items))
    given = tf.broadcast_to(items != "", [num_rows, tf.shape(items)[1]])
    ids = vocabulary.dense_ids(items)
    return Items(FlatIds.of_matrix(ids, num_rows), tf.reshape(given, [-1]))


def items_of_lengths(
    vocabulary: ItemVocabulary,
    name: str,
    values: tf.Tensor,
    lengths: tf.Tensor,
    num_rows: tf.Tensor,
) -> Items:
    """Looks up rows of raw ids, one after the other in `[n]`; a single row is for all."""
    checks = [
        check_lengths(name, lengths, values),
        check_rows(f"{name}_lengths", lengths, num_rows),
    ]
    with tf.control_dependencies(checks):
        values = vocabulary.normalize(tf.identity(values))
    times = tf.where(tf.shape(lengths)[0] == num_rows, 1, num_rows)[None]
    values, lengths = tf.tile(values, times), tf.tile(lengths, times)
    ids = vocabulary.dense_ids(values)
    return Items(FlatIds.of_lengths(ids, lengths), values != "")
