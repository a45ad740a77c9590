"""A paired test over users: does one system rank their targets better than another?"""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
from user_ranks import read_ranks

from adaptiverec.model.ranking import RankingMeasure

__all__ = ["compare", "mean_gains"]


def mean_gains(paths: list[Path], protocol: str, measure: str) -> np.ndarray:
    """Each user's measure, averaged over a system's seeds.

    Args:
        paths: Files of ranks, one a seed.
        protocol: Which ranks of them.
        measure: Such as `"ndcg@10"`.

    Returns:
        Float `[num_targets]`.
    """
    name, k = measure.split("@")
    value = RankingMeasure(name, int(k)).value
    return np.mean([np.asarray(value(read_ranks(p, protocol))) for p in paths], axis=0)


def compare(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """The mean difference of two systems, and whether chance explains it.

    The users are the sample; their mean difference is normal by the central limit
    theorem, at thousands of users. Seeds are averaged, so chance among seeds is only as
    small in it as there are many.

    Args:
        first: Each user's measure by one system, float `[num_targets]`.
        second: By the other.

    Returns:
        `difference`, the ends `low` and `high` of its 95 % interval, and the two-sided
        `p` of no difference.
    """
    differences = first.astype(np.float64) - second.astype(np.float64)
    mean = float(differences.mean())
    error = float(differences.std(ddof=1)) / len(differences) ** 0.5
    normal = statistics.NormalDist()
    reach = normal.inv_cdf(0.975) * error
    p = 2.0 * normal.cdf(-abs(mean) / error) if error else float(mean == 0)
    return {"difference": mean, "low": mean - reach, "high": mean + reach, "p": p}
