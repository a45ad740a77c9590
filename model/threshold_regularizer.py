"""The threshold's regulariser, ``L_reg``: stay near where similarities have been."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from adaptiverec.model.similarity_histogram import SimilarityHistogram

__all__ = ["THRESHOLD_TARGETS", "ThresholdRegularizer"]

THRESHOLD_TARGETS = ("quantile", "median", "mean")


@keras.saving.register_keras_serializable("adaptiverec")
class ThresholdRegularizer(keras.layers.Layer):
    """``||k - q||_2`` over the batch, q being what similarities were an epoch ago.

    q is a statistic of the in-batch similarities of ``N``, averaged over the batches of
    the previous epoch. There is none in the first epoch, where the loss is 0.

    Args:
        target: The statistic: `"quantile"`, `"median"` or `"mean"`.
        quantile: Which quantile, where `target` is `"quantile"`.
    """

    def __init__(
        self, *, target: str = "quantile", quantile: float = 0.9, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.target = target
        self.quantile = quantile

    def build(self, input_shape: Any = None) -> None:
        """Creates the state, kept as weights so that a resumed run goes on with it."""
        state = {
            "initializer": "zeros",
            "trainable": False,
            "dtype": "float32",
            # Every replica of a step sees the whole batch, and comes to the same.
            "aggregation": "only_first_replica",
        }
        self.previous = self.add_weight(name="previous", **state)
        self.has_previous = self.add_weight(name="has_previous", **state)
        self.sum = self.add_weight(name="sum", **state)
        self.count = self.add_weight(name="count", **state)

    def observe(self, histogram: SimilarityHistogram) -> Any:
        """Takes one batch's similarities into this epoch's average.

        Args:
            histogram: Of the similarities.

        Returns:
            The batch's statistic, a float scalar; NaN for a batch of one sequence, which
            has no ``N`` and is not counted.
        """
        if self.target == "mean":
            value = histogram.mean(histogram.centres)
        else:
            quantile = 0.5 if self.target == "median" else self.quantile
            value = histogram.quantile(quantile)
        has_pairs = histogram.num_pairs > 0
        self.sum.assign_add(ops.where(has_pairs, value, 0.0))
        self.count.assign_add(ops.cast(has_pairs, "float32"))
        return ops.where(has_pairs, value, float("nan"))

    def start_epoch(self) -> None:
        """Makes the average of what was observed the new q, if anything was."""
        observed = ops.cast(self.count > 0, "float32")
        mean = ops.divide_no_nan(self.sum.value, self.count.value)
        self.previous.assign(observed * mean + (1.0 - observed) * self.previous)
        self.has_previous.assign(ops.maximum(self.has_previous, observed))
        self.sum.assign(0.0)
        self.count.assign(0.0)

    def call(self, thresholds: Any) -> Any:
        """The loss.

        Args:
            thresholds: k, float tensor of shape `[batch]`.

        Returns:
            Float scalar, 0 before the second epoch.
        """
        squares = ops.sum(ops.square(ops.cast(thresholds, "float32") - self.previous))
        # The norm's gradient is infinite at 0, which an exact fit would reach.
        return self.has_previous * ops.sqrt(squares + 1e-12)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "target": self.target,
            "quantile": self.quantile,
        }
