"""Which layer looks through the catalogue: ours, or one of TensorFlow Recommenders'."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from adaptiverec.common.checks import check_choice
from adaptiverec.common.errors import NotFoundError
from adaptiverec.serving import contract
from adaptiverec.serving.tfrs_layers import factorized_top_k

__all__ = ["check_retrieval", "make_index"]

# Of a pass over the catalogue in the streaming layer.
_STREAMED_BATCH = 4096

Index = Callable[..., tuple[tf.Tensor, tf.Tensor]]


def check_retrieval(name: str) -> None:
    """Raises unless there is such a retrieval and what it needs is installed.

    Raises:
        InvalidValueError: It is none of :data:`~.contract.RETRIEVALS`.
        NotFoundError: It needs a package that is not installed.
    """
    check_choice("retrieval", name, contract.RETRIEVALS)
    if name == "scann" and importlib.util.find_spec("scann") is None:
        raise NotFoundError(
            "retrieval='scann' needs the package scann, built for this TensorFlow (pip "
            "install scann); and a server that has its operations, which the stock "
            "tensorflow/serving has not. Received: no module 'scann'"
        )


def make_index(name: str, matrix: tf.Variable, num_items: int) -> Any:
    """Makes a layer of TensorFlow Recommenders.

    Args:
        name: One of :data:`~.contract.RETRIEVALS`, but `"exact"`.
        matrix: The item matrix; the row is the dense id.
        num_items: Size of the catalogue; the dense ids are 1 … num_items.

    Returns:
        The layer, whose identifiers are dense ids, int32. It has a copy of the matrix.
    """
    layers = factorized_top_k()
    vectors = tf.convert_to_tensor(matrix)[1 : num_items + 1]
    identifiers = tf.range(1, num_items + 1)
    if name == "brute_force":
        return layers.BruteForce().index(vectors, identifiers)
    if name == "streaming":
        dataset = tf.data.Dataset.from_tensor_slices((identifiers, vectors))
        return layers.Streaming().index_from_dataset(dataset.batch(_STREAMED_BATCH))
    return layers.ScaNN().index(vectors, identifiers)
