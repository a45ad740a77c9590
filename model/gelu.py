"""GELU with a gradient that goes over its input once."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

__all__ = ["gelu"]


@keras.saving.register_keras_serializable("adaptiverec")
def gelu(x: Any) -> Any:
    """``x * Phi(x)``, exactly (Hendrycks & Gimpel 2016).

    As `keras.activations.gelu`, whose gradient, left to automatic differentiation, takes
    half as long again: on CPUs that is a tenth of a training step.
    """

    @tf.custom_gradient
    def exact(x: tf.Tensor) -> Any:
        # Phi, the distribution function of the normal distribution.
        phi = 0.5 * tf.math.erfc(x * -math.sqrt(0.5))

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            density = tf.exp(tf.square(x) * -0.5) * (1.0 / math.sqrt(2.0 * math.pi))
            return upstream * (phi + x * density)

        return x * phi, gradient

    return exact(x)
