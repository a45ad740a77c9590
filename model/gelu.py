"""GELU with a gradient that goes over its input once."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

__all__ = ["gelu"]

_LOG_DENSITY_AT_0 = -0.5 * math.log(2.0 * math.pi)


@keras.saving.register_keras_serializable("adaptiverec")
def gelu(x: Any) -> Any:
    """``x * Phi(x)``, exactly (Hendrycks & Gimpel 2016).

    As `keras.activations.gelu`, whose gradient, left to automatic differentiation, takes
    half as long again: on CPUs that is a tenth of a training step.
    """

    @tf.custom_gradient
    def exact(x: tf.Tensor) -> Any:
        scaled = x * math.sqrt(0.5)
        # Phi, the distribution function of the normal distribution, and its density. The
        # complement, `erfc`, takes four times as long where inputs are not all near 0.
        phi = 0.5 + 0.5 * tf.math.erf(scaled)
        density = tf.exp(_LOG_DENSITY_AT_0 - tf.square(scaled))
        # All that is kept for the gradient. Where none is asked for, graphs leave it out.
        slope = phi + x * density

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return upstream * slope

        return x * phi, gradient

    return exact(x)
