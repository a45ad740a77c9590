"""Candidate sets of a target and some sampled negatives, as the poster reports them."""

from __future__ import annotations

import numpy as np

__all__ = ["candidate_ranks", "sample_negatives"]


def sample_negatives(
    seen_item_ids: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    *,
    count: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Draws distinct items outside of each user's history, the target out as well.

    The items with the highest of Gumbel noise plus log weight are a draw without
    replacement (Efraimidis & Spirakis 2006).

    Args:
        seen_item_ids: Histories, int `[batch, any]`, padded with 0.
        targets: Int `[batch]`.
        weights: How likely each dense id is to be drawn, `[num_items + 1]`; id 0 and
            whatever has weight 0 are never drawn.
        count: How many negatives.
        generator: Of the random numbers.

    Returns:
        Dense ids, int `[batch, count]`.
    """
    keys = generator.gumbel(size=(len(targets), len(weights))).astype(np.float32)
    with np.errstate(divide="ignore"):
        keys += np.log(weights).astype(np.float32)
    rows = np.arange(len(targets))
    keys[rows[:, None], seen_item_ids] = -np.inf
    keys[rows, targets] = -np.inf
    keys[:, 0] = -np.inf
    negatives = np.argpartition(-keys, count - 1, axis=1)[:, :count]
    if np.isneginf(np.take_along_axis(keys, negatives, axis=1)).any():
        raise ValueError(
            f"Every user needs {count} items outside of the history with a weight above "
            "0. Received: one with fewer"
        )
    return negatives


def candidate_ranks(
    scores: np.ndarray, targets: np.ndarray, negatives: np.ndarray
) -> np.ndarray:
    """The rank of each target among its negatives; ties share the middle.

    Args:
        scores: Float `[batch, num_items + 1]`, column = dense id.
        targets: Int `[batch]`.
        negatives: Int `[batch, count]`, the target not among them.

    Returns:
        Float `[batch]`, 1 being the best.
    """
    own = np.take_along_axis(scores, targets[:, None], axis=1)
    others = np.take_along_axis(scores, negatives, axis=1)
    # What cannot be compared (NaN) counts as better.
    return 1.0 + (~(others <= own)).sum(axis=1) + 0.5 * (others == own).sum(axis=1)
