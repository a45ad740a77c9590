"""The shape of what was learned: a map of the items, and how many directions are in use."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["EmbeddingMap", "Spectrum", "embedding_map", "spectrum"]


class EmbeddingMap(NamedTuple):
    """Items on the two directions in which the embeddings vary most.

    Attributes:
        points: Float `[items, 2]`.
        shares: How much of the variance either direction has, from 0 to 1.
        groups: Which popularity group each item is in, int `[items]`.
        ranges: The least and most interactions of each group, ascending.
        num_items: How many items there are in all.
    """

    points: np.ndarray
    shares: tuple[float, float]
    groups: np.ndarray
    ranges: list[tuple[int, int]]
    num_items: int


class Spectrum(NamedTuple):
    """Singular values of centred vectors.

    Attributes:
        values: Descending, float `[hidden_dim]`; the first is 1.
        effective_rank: e to the entropy of their shares (Roy & Vetterli 2007): from 1,
            all vectors on a line, to `hidden_dim`.
        directions_for_90: So many directions hold 90 % of the variance.
    """

    values: np.ndarray
    effective_rank: float
    directions_for_90: int


def embedding_map(
    vectors: np.ndarray,
    popularity: np.ndarray,
    *,
    num_groups: int,
    size: int = 1_500,
    seed: int = 0,
) -> EmbeddingMap:
    """Projects item embeddings onto their first two principal axes.

    Args:
        vectors: Float `[num_items, hidden_dim]`.
        popularity: Interactions of each item, int `[num_items]`.
        num_groups: At most so many groups of about equal size; items with as many
            interactions are in one.
        size: At most so many items are drawn.
        seed: Of the drawing.

    Returns:
        The :class:`EmbeddingMap` of the drawn items; the axes are those of all.
    """
    centred = _centred(vectors)
    variances, axes = np.linalg.eigh(centred.T @ centred)
    # An axis has no sign of its own; this one is the same on every machine.
    first_two = axes[:, [-1, -2]] if axes.shape[1] > 1 else np.repeat(axes, 2, axis=1)
    largest = first_two[np.argmax(np.abs(first_two), axis=0), [0, 1]]
    first_two = first_two * np.where(largest < 0, -1.0, 1.0)
    total = max(float(variances.sum()), 1e-30)
    number = min(size, len(vectors))
    rows = np.sort(
        np.random.default_rng(seed).choice(len(vectors), size=number, replace=False)
    )
    counts = popularity[rows]
    inner = np.quantile(popularity, np.arange(1, num_groups) / num_groups)
    edges = np.unique(np.ceil(inner))
    groups = np.searchsorted(edges, counts, side="right")
    present, groups = np.unique(groups, return_inverse=True)
    ranges = [
        (int(counts[groups == group].min()), int(counts[groups == group].max()))
        for group in range(len(present))
    ]
    shares = [max(float(value), 0.0) / total for value in variances[::-1][:2]]
    return EmbeddingMap(
        centred[rows] @ first_two,
        (shares[0], shares[1] if len(shares) > 1 else 0.0),
        groups,
        ranges,
        len(vectors),
    )


def spectrum(vectors: np.ndarray) -> Spectrum:
    """How vectors spread over directions.

    Args:
        vectors: Float `[rows, hidden_dim]`.

    Returns:
        The :class:`Spectrum`.
    """
    centred = _centred(vectors)
    # From the small matrix, whatever the number of rows.
    variances = np.maximum(np.linalg.eigvalsh(centred.T @ centred)[::-1], 0.0)
    values = np.sqrt(variances)
    if not values[0] > 0:
        return Spectrum(values, 1.0, 1)
    shares = values / values.sum()
    positive = shares[shares > 0]
    rank = float(np.exp(-np.sum(positive * np.log(positive))))
    held = np.cumsum(variances) / variances.sum()
    return Spectrum(
        values / values[0], rank, int(np.searchsorted(held, 0.9 - 1e-12)) + 1
    )


def _centred(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, np.float64)
    return vectors - vectors.mean(axis=0)
