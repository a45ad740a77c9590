"""A paired test over users and seeds: does one system rank better than another?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats
from user_ranks import read_ranks

from adaptiverec.model.ranking import RankingMeasure

__all__ = ["Difference", "Variance", "compare", "gains_of_seeds", "variance_of_seeds"]


class Variance(NamedTuple):
    """An estimated variance, and the degrees of freedom that it was estimated with."""

    value: float
    degrees: int


class Difference(NamedTuple):
    """The mean difference of two systems, and what chance does to it.

    Attributes:
        mean: First less second.
        reach: Half of the 95 % interval.
        p: Two-sided, of no difference.
        over_seeds: Whether both allow for chance among seeds, and not among users alone.
    """

    mean: float
    reach: float
    p: float
    over_seeds: bool


def gains_of_seeds(paths: list[Path], protocol: str, measure: str) -> np.ndarray:
    """Each user's measure under each seed of a system.

    Args:
        paths: Files of ranks, one a seed.
        protocol: Which ranks of them.
        measure: Such as `"ndcg@10"`.

    Returns:
        Float64 `[seeds, num_targets]`.
    """
    name, k = measure.split("@")
    value = RankingMeasure(name, int(k)).value
    return np.stack(
        [np.asarray(value(read_ranks(p, protocol)), np.float64) for p in paths]
    )


def variance_of_seeds(systems: Iterable[np.ndarray]) -> Variance | None:
    """How much a system's mean varies by its seed, pooled over those with several.

    Args:
        systems: Of :func:`gains_of_seeds`.

    Returns:
        None where no system has several seeds.
    """
    squares, degrees = 0.0, 0
    for gains in systems:
        means = gains.mean(axis=1)
        squares += float(np.square(means - means.mean()).sum())
        degrees += len(means) - 1
    return Variance(squares / degrees, degrees) if degrees else None


def compare(
    first: np.ndarray, second: np.ndarray, of_seeds: Variance | None = None
) -> Difference:
    """The mean difference of two systems, and whether chance explains it.

    Users are a sample, and so are seeds. Variances of independent parts add up: that of
    the users' mean difference, and those of the means over seeds. What comes of it has
    Student's distribution, with Welch and Satterthwaite's degrees of freedom. Part of the
    seeds' chance is in the users' differences already, so that the interval is rather too
    wide.

    Args:
        first: Each user's measure under each seed, float `[seeds, num_targets]`.
        second: By the other system; as many seeds or others.
        of_seeds: Of :func:`variance_of_seeds`. Without it the interval is over users
            alone.
    """
    differences = first.mean(axis=0) - second.mean(axis=0)
    count = len(differences)
    parts = [Variance(differences.var(ddof=1) / count, count - 1)]
    if of_seeds is not None:
        share = 1 / len(first) + 1 / len(second)
        parts.append(Variance(share * of_seeds.value, of_seeds.degrees))
    mean, variance = float(differences.mean()), sum(part.value for part in parts)
    if not variance:
        return Difference(mean, 0.0, float(mean == 0.0), of_seeds is not None)
    degrees = variance**2 / sum(part.value**2 / part.degrees for part in parts)
    error = variance**0.5
    return Difference(
        mean,
        float(stats.t.ppf(0.975, degrees)) * error,
        2.0 * float(stats.t.sf(abs(mean) / error, degrees)),
        of_seeds is not None,
    )
