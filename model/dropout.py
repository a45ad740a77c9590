"""Dropout with cheap random numbers."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from adaptiverec.common.checks import check_rate
from adaptiverec.model.replicas import replica_seed

__all__ = ["Dropout"]

_LEVELS = 256


@keras.saving.register_keras_serializable("adaptiverec")
class Dropout(keras.layers.Layer):
    """Sets elements to 0 at random in training and scales the others up to make good.

    As `keras.layers.Dropout`, but a byte decides on each element instead of a float32:
    drawing random numbers is most of its cost. The rate is rounded to 1/256, and elements
    are scaled by the rounded rate, so that the expected output is the input.

    Args:
        rate: Share of elements that are set to 0, from 0 to below 1.
        seed: Of the random numbers; by default one of its own.

    Raises:
        InvalidValueError: The rate is outside its rule.
    """

    def __init__(self, rate: float, *, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_rate("rate", rate)
        self.rate = rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True
        self._kept_levels = max(round((1.0 - rate) * _LEVELS), 1)
        self.built = True

    def call(self, inputs: Any, *, training: bool = False) -> Any:
        """Drops out, in training alone; the output has the shape of the input."""
        if not training or self._kept_levels == _LEVELS:
            return inputs
        shape = tf.shape(inputs)
        size = tf.size(inputs)
        words = tf.random.stateless_uniform(
            [(size + 3) // 4],
            replica_seed(self.seed_generator),
            minval=None,
            maxval=None,
            dtype=tf.uint32,
        )
        levels = tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:size]
        kept = tf.cast(tf.reshape(levels, shape) < self._kept_levels, inputs.dtype)
        return inputs * (kept * (_LEVELS / self._kept_levels))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
