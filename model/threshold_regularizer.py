"""The threshold's regulariser, ``L_reg``: stay near where similarities have been."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from adaptiverec.model.similarity import negative_pairs, twin_similarity

__all__ = ["THRESHOLD_TARGETS", "ThresholdRegularizer", "similarity_quantile"]

THRESHOLD_TARGETS = ("quantile", "median", "mean")

# A quantile of 4 million similarities by sorting takes longer than the rest of a
# training step; a histogram this fine is off by at most 1/4096 of their range.
_NUM_BINS = 4096


def similarity_quantile(similarities: Any, quantile: float) -> Any:
    """The quantile of the in-batch similarities of all ``N(i)``.

    Args:
        similarities: Float tensor of shape `[2B, 2B]`, rows `[z1; z2]`, B ≥ 2.
        quantile: In [0, 1].

    Returns:
        Float scalar, exact to 1/4096 of the range of `similarities`.
    """
    low, high = ops.min(similarities), ops.max(similarities)
    width = ops.maximum((high - low) / _NUM_BINS, keras.config.epsilon())
    bins = ops.cast((similarities - low) * (1.0 / width), "int32")
    # What is no number (the model diverges) comes out negative.
    bins = ops.maximum(bins, 0)
    # Counting all pairs and taking back those outside N is sooner than leaving them out.
    twin_bins = twin_similarity(bins)
    counts = _histogram(bins) - _histogram(ops.diagonal(bins)) - _histogram(twin_bins)
    # The largest ones come out one bin too high.
    counts = ops.concatenate([counts[:-2], counts[-2:-1] + counts[-1:]], axis=0)
    cumulative = ops.cumsum(counts)
    wanted = quantile * cumulative[-1]
    bin_index = ops.minimum(
        ops.sum(ops.cast(cumulative < wanted, "int32")), _NUM_BINS - 1
    )
    # Indexing with a tensor would have XLA compile the step anew for each of its values.
    below_or_in, in_bin = tf.gather(cumulative, bin_index), tf.gather(counts, bin_index)
    # The point within the bin, as if its similarities were spread evenly over it.
    inside = ops.divide_no_nan(wanted - (below_or_in - in_bin), in_bin)
    return low + width * (ops.cast(bin_index, "float32") + inside)


def _histogram(bins: Any) -> Any:
    size = _NUM_BINS + 1
    # As tf.math.bincount, whose size is no constant to XLA.
    counts = tf.raw_ops.DenseBincount(
        input=ops.reshape(bins, [-1]), size=size, weights=tf.zeros([0])
    )
    return ops.cast(counts, "float32")


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

    def observe(self, similarities: Any) -> Any:
        """Takes one batch's similarities into this epoch's average.

        Args:
            similarities: Float tensor of shape `[2B, 2B]`, rows `[z1; z2]`.

        Returns:
            The batch's statistic, a float scalar; NaN for a batch of one sequence, which
            has no ``N`` and is not counted.
        """
        similarities = ops.stop_gradient(ops.cast(similarities, "float32"))
        negatives = ops.cast(negative_pairs(ops.shape(similarities)[0]), "float32")
        num_pairs = ops.sum(negatives)
        if self.target == "mean":
            value = ops.sum(similarities * negatives) / num_pairs
        else:
            quantile = 0.5 if self.target == "median" else self.quantile
            value = similarity_quantile(similarities, quantile)
        has_pairs = num_pairs > 0
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
