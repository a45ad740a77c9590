"""How the similarities of a batch are spread: what is asked of all pairs, in one pass.

A batch of 1,024 sequences in two views has 4 million pairs. Sorting them for a quantile
takes longer than the rest of a training step, and each exponential of them as long as
reading them a few times; counting them once answers all.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf
from keras import ops

from adaptiverec.model.similarity import twin_similarity

__all__ = ["NUM_BINS", "SimilarityHistogram", "similarity_histogram"]

NUM_BINS = 8192
_WIDTH = 2.0 / NUM_BINS


class SimilarityHistogram(NamedTuple):
    """The pairs of all ``N(i)``, by their similarity.

    Attributes:
        counts: Pairs in each bin, float tensor of shape `[NUM_BINS]`. The bins divide
            [-1, 1], the range of the cosine, evenly.
    """

    counts: Any

    @property
    def num_pairs(self) -> Any:
        """The number of pairs, float scalar."""
        return ops.sum(self.counts)

    @property
    def centres(self) -> Any:
        """Of the bins, float tensor of shape `[NUM_BINS]`."""
        return (ops.arange(NUM_BINS, dtype="float32") + 0.5) * _WIDTH - 1.0

    def mean(self, values: Any) -> Any:
        """Of a value for each bin, such as that of its centre, over all pairs.

        Args:
            values: Float tensor of shape `[NUM_BINS]`.

        Returns:
            Float scalar, 0 where there are no pairs.
        """
        return ops.divide_no_nan(ops.sum(self.counts * values), self.num_pairs)

    def quantile(self, quantile: float) -> Any:
        """The similarity that this share of the pairs does not exceed.

        Args:
            quantile: In [0, 1].

        Returns:
            Float scalar, exact to the width of a bin.
        """
        cumulative = ops.cumsum(self.counts)
        # At least the first pair, in front of which bins may be empty.
        wanted = ops.maximum(quantile * cumulative[-1], 1.0)
        place = ops.minimum(
            ops.sum(ops.cast(cumulative < wanted, "int32")), NUM_BINS - 1
        )
        # Indexing with a tensor would have XLA compile the step anew for each value.
        below_or_in, within = (
            tf.gather(cumulative, place),
            tf.gather(self.counts, place),
        )
        # The point within the bin, as if its pairs were spread evenly over it.
        inside = ops.divide_no_nan(wanted - (below_or_in - within), within)
        return (ops.cast(place, "float32") + inside) * _WIDTH - 1.0


def similarity_histogram(cosines: Any) -> SimilarityHistogram:
    """Counts the pairs of all ``N(i)``; no gradient goes through it.

    Args:
        cosines: Of the rows `[z1; z2]`, float tensor of shape `[2B, 2B]`.
    """
    bins = ops.cast((cosines + 1.0) * (1.0 / _WIDTH), "int32")
    # What is no number (the model diverges) comes out negative.
    bins = ops.maximum(bins, 0)
    # Counting all pairs and taking back those outside N is sooner than leaving them out.
    counts = (
        _counts(bins) - _counts(ops.diagonal(bins)) - _counts(twin_similarity(bins))
    )
    # Those of 1 itself come out one bin too high.
    last = counts[NUM_BINS - 1 : NUM_BINS] + counts[NUM_BINS:]
    counts = ops.concatenate([counts[: NUM_BINS - 1], last], axis=0)
    return SimilarityHistogram(ops.stop_gradient(counts))


def _counts(bins: Any) -> Any:
    # As tf.math.bincount, whose size is no constant to XLA.
    counts = tf.raw_ops.DenseBincount(
        input=ops.reshape(bins, [-1]), size=NUM_BINS + 1, weights=tf.zeros([0])
    )
    return ops.cast(counts, "float32")
