"""The rank of a target in the catalogue, and the measures made of ranks."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from adaptiverec.common.checks import check_at_least, check_choice

__all__ = ["MEASURES", "RankingMeasure", "mask_items", "set_columns", "target_ranks"]

MEASURES = ("recall", "ndcg", "mrr")


def target_ranks(scores: Any, targets: Any) -> Any:
    """Ranks each row's target among its scores, 1 being the best.

    Equal scores share the middle of their ranks, so a model that scores everything alike
    does not score well; and what cannot be compared (NaN) counts as better than the
    target, so a broken model scores worst.

    Args:
        scores: Float tensor of shape `[batch, num_candidates]`.
        targets: Int tensor of shape `[batch]`, columns of `scores`.

    Returns:
        Float tensor of shape `[batch]`, in halves.

    Example:
        >>> target_ranks(keras.ops.array([[0.1, 0.9, 0.9, 0.2]]), [1]).numpy()
        array([1.5], dtype=float32)
    """
    scores = ops.convert_to_tensor(scores)
    targets = ops.cast(targets, "int32")
    target_scores = tf.gather(scores, targets, batch_dims=1)[:, None]
    not_worse = ops.logical_not(scores < target_scores)
    equal = ops.cast(
        ops.sum(ops.cast(scores == target_scores, "int32"), axis=1), "float32"
    )
    at_least = ops.cast(ops.sum(ops.cast(not_worse, "int32"), axis=1), "float32")
    # The target is among the equal ones itself, and behind half of the others.
    return at_least - 0.5 * ops.maximum(equal - 1.0, 0.0)


def mask_items(scores: Any, item_ids: Any) -> Any:
    """Sets the scores of each row's items to minus infinity.

    Args:
        scores: Float tensor of shape `[batch, num_items + 1]`, column = dense item id.
        item_ids: Int tensor of shape `[batch, any]`, 0 for none; repeats are allowed.

    Returns:
        Float tensor of the shape of `scores`.
    """
    values = ops.full(ops.shape(item_ids), -float("inf"), dtype=scores.dtype)
    return set_columns(scores, item_ids, values)


def set_columns(scores: Any, columns: Any, values: Any) -> Any:
    """Gives some columns of each row other values.

    Args:
        scores: Float tensor of shape `[batch, num_columns]`.
        columns: Int tensor of shape `[batch, any]`; of repeats any one counts.
        values: Of these columns, float tensor of the shape of `columns`.

    Returns:
        Float tensor of the shape of `scores`.
    """
    batch_size, width = ops.shape(columns)[0], ops.shape(columns)[1]
    row = ops.repeat(ops.arange(batch_size, dtype="int32")[:, None], width, axis=1)
    index = ops.stack([row, ops.cast(columns, "int32")], axis=-1)
    return ops.scatter_update(
        scores, ops.reshape(index, [-1, 2]), ops.reshape(values, [-1])
    )


@keras.saving.register_keras_serializable("adaptiverec")
class RankingMeasure(keras.metrics.Mean):
    """Recall, NDCG or MRR at k, of one relevant item for each row.

    With one target, recall at k is the hit rate: the share of ranks ≤ k. NDCG at k is
    the mean of ``1 / log2(rank + 1)`` and MRR at k of ``1 / rank``, both 0 past k.

    Args:
        measure: One of :data:`MEASURES`.
        k: How long the list of recommendations is.

    Raises:
        InvalidValueError: An argument is outside its rule.

    Example:
        >>> metric = RankingMeasure("ndcg", k=10)
        >>> metric.update_state([1.0, 3.0, 11.0])
        >>> round(float(metric.result()), 3)
        0.5
    """

    def __init__(
        self, measure: str, k: int, *, name: str | None = None, **kwargs: Any
    ) -> None:
        check_choice("measure", measure, MEASURES)
        check_at_least("k", k, 1)
        super().__init__(name=name or f"{measure}@{k}", **kwargs)
        self.measure = measure
        self.k = k

    def update_state(self, ranks: Any, sample_weight: Any = None) -> None:
        """Takes in the ranks of some targets.

        Args:
            ranks: Float tensor of shape `[batch]`, of :func:`target_ranks`.
            sample_weight: Float tensor of shape `[batch]`, or None.
        """
        super().update_state(self.value(ranks), sample_weight=sample_weight)

    def value(self, ranks: Any) -> Any:
        """The measure of each rank, float tensor of shape `[batch]`."""
        ranks = ops.cast(ranks, "float32")
        if self.measure == "recall":
            gain = ops.ones_like(ranks)
        elif self.measure == "ndcg":
            gain = ops.log(2.0) / ops.log(ranks + 1.0)
        else:
            gain = 1.0 / ranks
        return ops.where(ranks <= self.k, gain, 0.0)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "measure": self.measure, "k": self.k}
