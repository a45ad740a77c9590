"""Rows of a variable that is also read as a whole."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["gather_read"]


def gather_read(variable: tf.Variable, indices: tf.Tensor) -> tf.Tensor:
    """Gathers rows, as `tf.gather` of the variable does.

    That one's operation, ResourceGather, would have every later read of the whole variable
    copy it, in case somebody wrote to a part meanwhile: 256 MB a request of a million
    items. Gathering from what was read shares the memory.
    """
    return tf.gather(variable.read_value(), indices)
