"""How weights start: N(0, .02), as BERT's and SASRec's do."""

from __future__ import annotations

import keras

__all__ = ["small_normal"]


def small_normal() -> keras.initializers.Initializer:
    """A new initializer each time: one shared by two weights would start them equal."""
    return keras.initializers.RandomNormal(stddev=0.02)
