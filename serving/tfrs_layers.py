"""TensorFlow Recommenders' retrieval layers, beside Keras 3.

TFRS 0.7.7 refuses to be imported unless `tf.keras` is Keras 2. Setting
`TF_USE_LEGACY_KERAS` would make it so in the whole process, the user's own models
included. Instead TFRS alone is shown, while it is imported, a `tensorflow` whose `keras`
is `tf_keras`; everybody else's stays Keras 3.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

import tensorflow as tf

__all__ = ["factorized_top_k"]


class _TensorFlowWithKeras2(types.ModuleType):
    """Stands in for `tensorflow`: the same module but for `keras`."""

    def __init__(self) -> None:
        super().__init__("tensorflow")
        self.__path__ = tf.__path__
        self.keras = importlib.import_module("tf_keras")

    def __getattr__(self, name: str) -> Any:
        return getattr(tf, name)


def factorized_top_k() -> types.ModuleType:
    """The module `tensorflow_recommenders.layers.factorized_top_k`."""
    name = "tensorflow_recommenders.layers.factorized_top_k"
    if name not in sys.modules:
        real = sys.modules["tensorflow"]
        sys.modules["tensorflow"] = _TensorFlowWithKeras2()
        try:
            importlib.import_module("tensorflow_recommenders")
        finally:
            sys.modules["tensorflow"] = real
    return importlib.import_module(name)
