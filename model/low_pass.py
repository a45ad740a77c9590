"""A branch beside attention that smooths the sequence: a low-pass filter."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from adaptiverec.common.checks import check_at_least
from adaptiverec.model.packed_batch import PackedBatch

__all__ = ["LowPass", "low_pass_kernel"]


def low_pass_kernel(period: int, num_frequencies: int) -> np.ndarray:
    """What a state weighs, by how long ago it was, in the lowest frequencies alone.

    The Fourier transform of a sequence of `period` states, cut off behind its
    `num_frequencies` lowest frequencies and transformed back, is a weighted sum of the
    states, whose weights depend on the distance of two places alone. To the transform a
    sequence repeats for ever. Ours does not: what is further away than half a period
    would be nearer in the next repetition, and weighs nothing.

    Args:
        period: Length that sequences are taken to repeat with.
        num_frequencies: How many frequencies are kept, that of 0 among them.

    Returns:
        Float32 `[period]`.
    """
    spectrum = np.zeros(period // 2 + 1)
    spectrum[:num_frequencies] = 1.0
    kernel = np.fft.irfft(spectrum, n=period)
    kernel[period // 2 + 1 :] = 0.0
    return kernel.astype(np.float32)


@keras.saving.register_keras_serializable("adaptiverec")
class LowPass(keras.layers.Layer):
    """``low + beta^2 * (x - low)``: the high frequencies of a sequence scaled, by feature.

    The frequency layer of BSARec (Shin et al. 2024, section "Proposed Method"): what
    attention does worst is to tell quick changes from slow ones. Here it is causal, so
    that no position sees the next one's item, and padding counts as nothing.

    Args:
        max_length: Longest sequence, in items; the period.
        num_frequencies: How many of the lowest frequencies count as low, that of 0 among
            them, at least 1. BSARec's c is twice as many less one.

    Raises:
        InvalidValueError: An argument is outside its rule.
    """

    def __init__(
        self, *, max_length: int, num_frequencies: int = 3, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_at_least("max_length", max_length, 1)
        check_at_least("num_frequencies", num_frequencies, 1)
        self.max_length = max_length
        self.num_frequencies = num_frequencies
        places = np.arange(max_length)
        ago = places[:, None] - places[None, :]
        kernel = low_pass_kernel(max_length, num_frequencies)
        # Row i is what place i takes of each place, float32 `[max_length, max_length]`.
        self.causal_weights = np.where(ago >= 0, kernel[ago], np.float32(0.0))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the scales for states of shape `[tokens, hidden_dim]`."""
        self.high_scale = self.add_weight(
            name="high_scale",
            shape=(input_shape[-1],),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
        )

    def call(self, states: Any, *, batch: PackedBatch) -> Any:
        """Filters at every token.

        Args:
            states: Float tensor of shape `[tokens, hidden_dim]`.
            batch: Where the tokens belong.

        Returns:
            Float tensor of the same shape.
        """

        def smooth(states: tf.Tensor) -> tf.Tensor:
            batch_size, length = tf.shape(states)[0], tf.shape(states)[1]
            weights = tf.constant(self.causal_weights, states.dtype)
            # Of the rank of the states, since some products of unlike ranks corrupt the
            # heap of TensorFlow 2.21, see SelfAttention.
            weights = tf.broadcast_to(
                weights[:length, :length], [batch_size, length, length]
            )
            return tf.matmul(weights, states)

        return self._scaled(batch.mix(smooth, states), states)

    def from_last(self, states: Any, *, batch: PackedBatch) -> Any:
        """Filters at the last token of each sequence alone.

        Args:
            states: Float tensor of shape `[tokens, hidden_dim]`.
            batch: Where the tokens belong.

        Returns:
            Float tensor of shape `[batch, hidden_dim]`.
        """

        def smooth(states: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
            length = tf.shape(states)[1]
            weights = tf.constant(self.causal_weights, states.dtype)
            weights = tf.gather(weights[:, :length], last)
            return tf.reduce_sum(states * weights[:, :, None], axis=1)

        low = batch.attend_from_sequences(smooth, states, batch.last_positions)
        return self._scaled(low, tf.gather(states, batch.last_tokens))

    def _scaled(self, low: Any, states: Any) -> Any:
        return low + tf.square(self.high_scale) * (states - low)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "max_length": self.max_length,
            "num_frequencies": self.num_frequencies,
        }
