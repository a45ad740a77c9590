"""The sections of the training report that rank held-out targets."""

from __future__ import annotations

from typing import Any

import numpy as np

from adaptiverec.common.progress import Steps
from adaptiverec.model.adaptive_rec import AdaptiveRec
from adaptiverec.model.baselines import LastItemFollowers, Popularity, Recommender
from adaptiverec.model.evaluation import SEEN_ITEMS, rank_with_baseline, rank_with_model
from adaptiverec.model.instances import Instances, evaluation_dataset
from adaptiverec.model.prepared_data import PreparedData
from adaptiverec.model.ranking import RankingMeasure
from adaptiverec.model.report_charts import Words, draw_intervals
from adaptiverec.model.report_cohorts import (
    Cohort,
    Interval,
    cohorts,
    mean_interval,
    rate_interval,
)
from adaptiverec.model.report_users import users_section
from adaptiverec.model.run import Run
from adaptiverec.model.sampling import sample_users

__all__ = ["ranking_sections"]

# One standard error of recall at 10 is then about .003.
_MAX_USERS = 10_000


def ranking_sections(
    model: AdaptiveRec,
    run: Run,
    prepared: PreparedData,
    part: str,
    steps: Steps,
) -> dict[str, Any] | None:
    """Measures of a sample of users, and what is recommended to a few of them.

    Args:
        model: Of the run.
        run: The run.
        prepared: Its data.
        part: `"validation"` or `"test"`.
        steps: Where to show progress.

    Returns:
        The sections; None where there are no targets.
    """
    seed = run.configuration["seed"]
    generator = np.random.default_rng([seed, 3])
    drawn, num_users = sample_users(prepared, part, _MAX_USERS, generator)
    if not num_users:
        return None
    dataset = evaluation_dataset(drawn, part, max_length=model.max_length)
    ranks = {
        "this model": rank_with_model(model, dataset, steps=steps, label="Ranking")
    }
    baselines: dict[str, Recommender] = {
        "last item's followers": LastItemFollowers(prepared, prepared.num_items),
        "popularity": Popularity(prepared, prepared.num_items),
    }
    for name, baseline in baselines.items():
        ranks[name] = rank_with_baseline(
            baseline, dataset, steps=steps, label=f"Ranking, {name}"
        )
    instances = Instances.of(drawn, part)
    whose = np.searchsorted(drawn.starts, instances.starts, side="right") - 1
    protocol = "removed" if run.configuration.get("exclude_seen") else "kept"
    own = ranks["this model"][protocol]
    hits, gains = own <= 10, _ndcg(own)
    popularity = run.popularity()[drawn.items[instances.targets] - 1]
    return {
        "protocol": protocol,
        "num_users": drawn.num_users,
        "num_all_users": num_users,
        "num_targets": len(own),
        "whole": [
            (
                name,
                seen,
                _said(rate_interval(found[seen] <= 10, whose)),
                _said(mean_interval(_ndcg(found[seen]), whose)),
            )
            for seen in SEEN_ITEMS
            for name, found in ranks.items()
        ],
        "cohorts": [
            _cohort_section(
                name,
                title,
                unit,
                cohorts(keys, hits, gains, whose),
                float(np.mean(gains)),
            )
            for name, title, unit, keys in (
                (
                    "history",
                    "By length of the history",
                    "interactions before the target",
                    instances.targets - instances.starts,
                ),
                (
                    "target-popularity",
                    "By popularity of the target",
                    "interactions of the target item in training",
                    popularity,
                ),
            )
        ],
        "users": users_section(
            model,
            drawn,
            part,
            prepared.vocabulary,
            ranks["this model"]["removed"],
            seed=seed,
        ),
    }


def _cohort_section(
    name: str, title: str, unit: str, groups: list[Cohort], whole: float
) -> dict[str, Any]:
    labels = [
        f"{group.least:,}"
        if group.least == group.most
        else f"{group.least:,} to {group.most:,}"
        for group in groups
    ]
    said = "; ".join(
        f"{label}: {group.ndcg.mean:.4f}"
        for label, group in zip(labels, groups, strict=True)
    )
    return {
        "title": title,
        "unit": unit,
        "chart": draw_intervals(
            labels,
            [group.ndcg for group in groups],
            whole,
            "NDCG@10",
            Words(name, f"NDCG@10, {title.lower()}", f"{said}. All: {whole:.4f}."),
        ),
        "rows": [
            (label, f"{group.num_targets:,}", _said(group.recall), _said(group.ndcg))
            for label, group in zip(labels, groups, strict=True)
        ],
    }


def _ndcg(ranks: np.ndarray) -> np.ndarray:
    return np.asarray(RankingMeasure("ndcg", 10).value(ranks))


def _said(interval: Interval) -> tuple[str, str]:
    """The mean, and its interval."""
    return f"{interval.mean:.4f}", f"{interval.low:.4f} to {interval.high:.4f}"
