"""A dense layer applied to every position of a batch of sequences."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

__all__ = ["PositionWiseDense"]


@keras.saving.register_keras_serializable("adaptiverec")
class PositionWiseDense(keras.layers.Dense):
    """`Dense`, computed as one product of two matrices.

    Keras multiplies `[batch, length, n]` by the kernel as a batch of small products.
    One large product is faster; and where `length` is 1, as in the last block, the batch
    of products corrupts the heap of TensorFlow 2.21 with oneDNN, in training and in a
    model server alike (tensorflow/tensorflow#117700).
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Maps `[batch, length, n]` to `[batch, length, units]`."""
        shape = ops.shape(inputs)
        rows = ops.reshape(inputs, [-1, inputs.shape[-1]])
        outputs = super().call(rows, training=training)
        return ops.reshape(outputs, [*shape[:-1], self.units])
