"""The default retrieval layer: exact, fast, and with one copy of the item matrix."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from adaptiverec.common.checks import check_at_least
from adaptiverec.common.errors import InvalidValueError
from adaptiverec.serving.block_top_k import (
    Scorer,
    best_rows,
    block_size_for,
    padded_rows,
)
from adaptiverec.serving.flat_ids import FlatIds

__all__ = ["ExactTopK", "without"]


class ExactTopK(tf.Module):
    """Finds the k candidates of greatest dot product with each query.

    It keeps the contract of TensorFlow Recommenders' `TopK` layers and gives what its
    `BruteForce` gives, in the same order where scores are equal; but k may exceed the
    number of candidates, and exclusions never take the place of others.

    Args:
        k: How many are found where a call does not say.

    Raises:
        InvalidValueError: k is below 1.

    Example:
        >>> layer = ExactTopK(k=2).index(tf.constant([[1.0], [3.0], [2.0]]))
        >>> layer(tf.constant([[1.0]]))[1].numpy()
        array([[1, 2]], dtype=int32)
    """

    def __init__(self, k: int = 10) -> None:
        super().__init__(name="exact_top_k")
        check_at_least("k", k, 1)
        self._k = k
        self._matrix: tf.Variable | None = None
        self._identifiers: tf.Variable | None = None
        self._candidates = range(0)
        self._block_size = 1

    def index(self, candidates: Any, identifiers: Any = None) -> ExactTopK:
        """Takes the candidates, in place of those it had.

        Args:
            candidates: Float `[num_candidates, hidden_dim]`.
            identifiers: What a call gives for each candidate, `[num_candidates]` of any
                type; by default its row.

        Returns:
            Itself.

        Raises:
            InvalidValueError: There is no candidate, or not one identifier for each.
        """
        candidates = tf.convert_to_tensor(candidates)
        if candidates.shape.rank != 2 or not candidates.shape[0]:
            raise InvalidValueError(
                "candidates must have shape [num_candidates, hidden_dim], with at least "
                f"one. Received: shape {candidates.shape}"
            )
        count = int(candidates.shape[0])
        if identifiers is not None:
            identifiers = tf.convert_to_tensor(identifiers)
            if identifiers.shape != [count]:
                raise InvalidValueError(
                    "identifiers must have one element for each candidate. Received: "
                    f"shape {identifiers.shape} for {count} candidates"
                )
            identifiers = tf.Variable(identifiers, trainable=False, name="identifiers")
        missing = padded_rows(count) - count
        matrix = tf.pad(candidates, [[0, missing], [0, 0]])
        self.index_variable(
            tf.Variable(matrix, trainable=False, name="candidates"),
            range(count),
        )
        self._identifiers = identifiers
        return self

    def index_variable(self, matrix: tf.Variable, candidates: range) -> ExactTopK:
        """Takes rows of a variable as candidates, without a copy.

        Args:
            matrix: Float `[num_rows, hidden_dim]`; `num_rows` is what
                :func:`~.block_top_k.padded_rows` gives.
            candidates: Which rows; all but some in the first and the last block.

        Returns:
            Itself.
        """
        self._matrix = matrix
        self._identifiers = None
        self._candidates = candidates
        self._block_size = block_size_for(int(matrix.shape[0]))
        return self

    def index_from_dataset(self, candidates: tf.data.Dataset) -> ExactTopK:
        """As :meth:`index`, of a dataset of batches.

        Args:
            candidates: Batches of candidates, or of pairs (identifiers, candidates).

        Returns:
            Itself.

        Raises:
            InvalidValueError: As of :meth:`index`.
        """
        batches = list(candidates)
        if not isinstance(candidates.element_spec, tuple):
            return self.index(tf.concat(batches, axis=0))
        identifiers, vectors = zip(*batches, strict=True)
        return self.index(tf.concat(vectors, axis=0), tf.concat(identifiers, axis=0))

    def __call__(self, queries: Any, k: Any = None) -> tuple[tf.Tensor, tf.Tensor]:
        """See :meth:`call`."""
        return self.call(queries, k)

    def call(self, queries: Any, k: Any = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Finds the best candidates for each query.

        Args:
            queries: Float `[batch, hidden_dim]`.
            k: How many, an int or an int32 scalar; of more than there are, all.

        Returns:
            Scores, float `[batch, k]`, best first, and identifiers of the same shape.

        Raises:
            InvalidValueError: There are no candidates yet.
        """
        queries = tf.convert_to_tensor(queries)
        none = tf.zeros([0], tf.int32)
        scores, rows = self.best(
            self.scorer(queries),
            tf.shape(queries)[0],
            self._k if k is None else k,
            FlatIds(none, none, tf.shape(queries)[0]),
        )
        return scores, self._identified(rows)

    def query_with_exclusions(
        self, queries: Any, exclusions: Any, k: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Finds the best candidates that are not excluded.

        Args:
            queries: Float `[batch, hidden_dim]`.
            exclusions: Identifiers `[batch, num_to_exclude]`; unknown ones and repeats do
                no harm.
            k: As of :meth:`call`.

        Returns:
            As of :meth:`call`. Where fewer than k remain, the scores of the rest are
            minus infinity.

        Raises:
            InvalidValueError: There are no candidates yet.
        """
        queries, exclusions = map(tf.convert_to_tensor, (queries, exclusions))
        k = tf.cast(self._k if k is None else k, tf.int32)
        # As many more as could be excluded, which are then taken out.
        scores, identifiers = self.call(queries, k + tf.shape(exclusions)[1])
        return without(scores, identifiers, _equal_any(identifiers, exclusions), k)

    def is_exact(self) -> bool:
        """It is."""
        return True

    def scorer(self, queries: tf.Tensor) -> Scorer:
        """What gives the scores of a range of rows for the queries."""
        matrix = tf.convert_to_tensor(self._indexed())

        def score(start: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
            return tf.matmul(matrix[start:end], queries, transpose_b=True)

        return score

    def best(
        self, scorer: Scorer, num_queries: tf.Tensor, k: Any, excluded: FlatIds
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The best rows by a scorer of one's own; see :func:`~.block_top_k.best_rows`."""
        return best_rows(
            scorer,
            int(self._indexed().shape[0]),
            num_queries,
            tf.minimum(tf.cast(k, tf.int32), len(self._candidates)),
            block_size=self._block_size,
            candidates=self._candidates,
            excluded=excluded,
        )

    def _indexed(self) -> tf.Variable:
        if self._matrix is None:
            raise InvalidValueError(
                "The layer must have its candidates before it is called: call index() "
                "or index_from_dataset(). Received: a layer without candidates"
            )
        return self._matrix

    def _identified(self, rows: tf.Tensor) -> tf.Tensor:
        if self._identifiers is None:
            return rows
        return tf.gather(self._identifiers, rows)


def without(
    scores: tf.Tensor, identifiers: tf.Tensor, excluded: tf.Tensor, k: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The k best that are not excluded.

    Args:
        scores: Float `[batch, fetched]`, best first.
        identifiers: Of the same shape.
        excluded: Bool of the same shape.
        k: Int32 scalar.

    Returns:
        Scores and identifiers of shape `[batch, min(k, fetched)]`; where fewer remain,
        scores of minus infinity.
    """
    # A stable sort moves the others to the front, still best first.
    order = tf.argsort(tf.cast(excluded, tf.int32), axis=1, stable=True)[:, :k]
    scores = tf.where(excluded, -float("inf"), scores)
    return (
        tf.gather(scores, order, batch_dims=1),
        tf.gather(identifiers, order, batch_dims=1),
    )


def _equal_any(identifiers: tf.Tensor, exclusions: tf.Tensor) -> tf.Tensor:
    exclusions = tf.cast(exclusions, identifiers.dtype)
    return tf.reduce_any(identifiers[:, :, None] == exclusions[:, None, :], axis=2)
