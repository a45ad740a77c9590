"""Ranking a test set under a protocol that is always named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from adaptiverec.common.progress import Steps
from adaptiverec.model.adaptive_rec import AdaptiveRec
from adaptiverec.model.baselines import Recommender
from adaptiverec.model.ranking import (
    MEASURES,
    RankingMeasure,
    mask_items,
    target_ranks,
)

__all__ = ["SEEN_ITEMS", "measures_of", "rank_with_baseline", "rank_with_model"]

# Whether the items of a user's history stay candidates. Published results of this family
# keep them; a recommender in use leaves them out. Both are always reported.
SEEN_ITEMS = ("kept", "removed")

Ranks = dict[str, np.ndarray]


def rank_with_model(
    model: AdaptiveRec, dataset: tf.data.Dataset, *, steps: Steps, label: str
) -> Ranks:
    """Ranks the targets of an evaluation dataset by a model's scores.

    Args:
        model: The model.
        dataset: Of :func:`~.instances.evaluation_dataset`.
        steps: Where to show progress.
        label: The name of the step.

    Returns:
        For each of :data:`SEEN_ITEMS` the ranks, float `[num_targets]`, in the order of
        the dataset. With seen items removed, a target that the user has had before can
        not be recommended, and ranks behind all.
    """
    score = tf.function(model.score_by_length, reduce_retracing=True)
    return _rank(lambda inputs: score(inputs["item_ids"]), dataset, steps, label)


def rank_with_baseline(
    baseline: Recommender, dataset: tf.data.Dataset, *, steps: Steps, label: str
) -> Ranks:
    """As :func:`rank_with_model`, by a baseline's scores."""

    def scores(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        item_ids = inputs["item_ids"].numpy()
        last = np.maximum((item_ids != 0).sum(axis=1) - 1, 0)
        return tf.constant(baseline.scores(item_ids[np.arange(len(last)), last]))

    return _rank(scores, dataset, steps, label)


def measures_of(ranks: np.ndarray, ks: tuple[int, ...] = (5, 10)) -> dict[str, float]:
    """Recall, NDCG and MRR at each k, as the means over the targets."""
    measures = [RankingMeasure(measure, k) for measure in MEASURES for k in ks]
    return {measure.name: float(np.mean(measure.value(ranks))) for measure in measures}


def _rank(
    scores_of: Callable[[dict[str, tf.Tensor]], tf.Tensor],
    dataset: tf.data.Dataset,
    steps: Steps,
    label: str,
) -> Ranks:
    steps.start(label, int(dataset.cardinality()))
    kept, removed = [], []
    for inputs, targets in dataset:
        batch_kept, batch_removed = _ranks_of_batch(
            scores_of(inputs), targets, inputs["seen_item_ids"]
        )
        kept.append(batch_kept.numpy())
        removed.append(batch_removed.numpy())
        steps.advance(label)
    return {"kept": np.concatenate(kept), "removed": np.concatenate(removed)}


@tf.function(reduce_retracing=True)
def _ranks_of_batch(scores: Any, targets: Any, seen_item_ids: Any) -> tuple[Any, Any]:
    kept = target_ranks(scores, targets)
    return kept, target_ranks(mask_items(scores, seen_item_ids), targets)
