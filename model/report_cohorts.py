"""Measures by kind of target, each with the interval that its number of users allows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["Cohort", "Interval", "cohorts", "mean_interval", "rate_interval"]

# Of a normal distribution, 95 % lie this many standard deviations around the mean.
_Z = 1.959964
# Cohorts are ranges between these, joined until each has enough targets.
_EDGES = (
    0,
    1,
    2,
    3,
    5,
    10,
    20,
    50,
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    100_000,
)
_LEAST_SHARE = 0.05
_LEAST_TARGETS = 30


class Interval(NamedTuple):
    """A mean and its 95 % confidence interval."""

    mean: float
    low: float
    high: float


class Cohort(NamedTuple):
    """Targets whose history's length, or whose item's popularity, is in a range.

    Attributes:
        least: The smallest number in it.
        most: The largest.
        num_targets: How many targets.
        recall: The share of targets among the first ten.
        ndcg: Their NDCG at 10.
    """

    least: int
    most: int
    num_targets: int
    recall: Interval
    ndcg: Interval


def cohorts(
    keys: np.ndarray, hits: np.ndarray, gains: np.ndarray, users: np.ndarray
) -> list[Cohort]:
    """Groups targets by ranges of a number.

    Args:
        keys: The number, int `[num_targets]`, at least 0.
        hits: Whether each target is among the first ten, `[num_targets]`.
        gains: Its NDCG at 10, float `[num_targets]`.
        users: Whose target it is, int `[num_targets]`; targets of one user are not
            independent.

    Returns:
        The groups, ascending; each has at least 5 % of the targets, and 30, where there
        are so many at all.
    """
    least = max(_LEAST_TARGETS, _LEAST_SHARE * len(keys))
    groups: list[np.ndarray] = []
    waiting = np.zeros(len(keys), bool)
    bounds = [*_EDGES, np.inf]
    for low, high in itertools.pairwise(bounds):
        waiting |= (keys >= low) & (keys < high)
        if waiting.sum() >= least:
            groups.append(waiting)
            waiting = np.zeros(len(keys), bool)
    if waiting.any():
        # Too few of their own: they join those before.
        if groups:
            groups[-1] = groups[-1] | waiting
        else:
            groups.append(waiting)
    return [
        Cohort(
            int(keys[group].min()),
            int(keys[group].max()),
            int(group.sum()),
            rate_interval(hits[group], users[group]),
            mean_interval(gains[group], users[group]),
        )
        for group in groups
    ]


def mean_interval(values: Sequence[float] | np.ndarray, users: np.ndarray) -> Interval:
    """The mean of numbers from 0 to 1, with an interval from the spread between users.

    Wilson's interval of a share, of as many independent targets as have a share that
    varies like this mean; so it also holds near 0 and 1, where most are the same.

    Args:
        values: Float `[num_targets]`, from 0 to 1.
        users: Whose target each is; several of one user count as one cluster.

    Returns:
        The mean and its interval.
    """
    return _wilson(values, users, at_most=np.inf)


def rate_interval(hits: Sequence[bool] | np.ndarray, users: np.ndarray) -> Interval:
    """A share, with Wilson's interval, which also holds where there are few hits or none.

    Args:
        hits: `[num_targets]`.
        users: Whose target each is. Where a user has several that are alike, they count
            as fewer.

    Returns:
        The share and its interval.
    """
    return _wilson(hits, users, at_most=len(hits))


def _wilson(
    values: Sequence[float] | np.ndarray, users: np.ndarray, *, at_most: float
) -> Interval:
    values = np.asarray(values, np.float64)
    mean, inside = float(values.mean()), float(values.mean() * (1.0 - values.mean()))
    # Where all are alike, all that is known of users is that they are so many.
    number = float(len(np.unique(users)))
    if number > 1 and values.min() < values.max():
        # One more than a share's variance tells, as it is taken over one less.
        number = min(inside / _variance_of_mean(values, users) + 1.0, at_most)
    spread = 1.0 + _Z**2 / number
    middle = (mean + _Z**2 / (2.0 * number)) / spread
    width = _Z / spread * np.sqrt(inside / number + _Z**2 / (4.0 * number**2))
    return Interval(
        mean, max(0.0, float(middle - width)), min(1.0, float(middle + width))
    )


def _variance_of_mean(values: np.ndarray, users: np.ndarray) -> float:
    """Of the mean of values in clusters (Liang & Zeger 1986)."""
    _, cluster = np.unique(users, return_inverse=True)
    sums = np.bincount(cluster, weights=values - values.mean())
    num_clusters = len(sums)
    correction = num_clusters / (num_clusters - 1)
    return float(correction * np.sum(np.square(sums)) / len(values) ** 2)
