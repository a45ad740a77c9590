"""In-batch similarities and the sets of pairs that the contrastive losses are made of.

A contrastive batch is ``z = [z1; z2]``: B sequences, each in two views, so 2B rows. The
*twin* of row i is the other view of the same sequence; ``N(i)``, its in-batch
negatives, is every row but i and its twin, 2B - 2 of them (poster, "Construct Negative
Pairs").
"""

from __future__ import annotations

from typing import Any

from keras import ops

__all__ = [
    "SIMILARITIES",
    "negative_pairs",
    "pairwise_similarity",
    "twin_similarity",
    "twin_similarity_of_views",
]

SIMILARITIES = ("cosine", "dot")


def pairwise_similarity(views: Any, kind: str = "cosine") -> Any:
    """The similarity of every row with every other.

    Args:
        views: Float tensor of shape `[2B, hidden_dim]`.
        kind: `"cosine"` or `"dot"` (the plain inner product).

    Returns:
        Float tensor of shape `[2B, 2B]`.
    """
    if kind == "cosine":
        views = ops.normalize(views, axis=-1)
    return ops.matmul(views, ops.transpose(views))


def negative_pairs(num_rows: Any) -> Any:
    """Marks ``N(i)``: all but the row itself and its twin.

    Args:
        num_rows: 2B, an integer or a scalar tensor.

    Returns:
        Boolean tensor of shape `[2B, 2B]`.
    """
    # The same for each pair of views.
    same_sequence = ops.eye(num_rows // 2, dtype="bool")
    return ops.tile(ops.logical_not(same_sequence), [2, 2])


def twin_similarity(similarities: Any) -> Any:
    """The similarity of each row with its twin, read from all similarities.

    Args:
        similarities: Float tensor of shape `[2B, 2B]`.

    Returns:
        Float tensor of shape `[2B]`.
    """
    batch_size = ops.shape(similarities)[0] // 2
    first = ops.diagonal(similarities[:batch_size, batch_size:])
    return ops.concatenate([first, first], axis=0)


def twin_similarity_of_views(views: Any, kind: str = "cosine") -> Any:
    """The same, computed from the views.

    It costs next to nothing, while the gradient of reading from the matrix is a matrix.

    Args:
        views: Float tensor of shape `[2B, hidden_dim]`.
        kind: `"cosine"` or `"dot"`.

    Returns:
        Float tensor of shape `[2B]`.
    """
    if kind == "cosine":
        views = ops.normalize(views, axis=-1)
    z1, z2 = ops.split(views, 2, axis=0)
    first = ops.sum(z1 * z2, axis=-1)
    return ops.concatenate([first, first], axis=0)
