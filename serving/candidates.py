"""The catalogue as candidates: scores, filters and the best that are left of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from adaptiverec.serving.block_top_k import Scorer, pairs_top_k
from adaptiverec.serving.exact_top_k import ExactTopK, without
from adaptiverec.serving.flat_ids import FlatIds, counts_by_row
from adaptiverec.serving.gather_read import gather_read
from adaptiverec.serving.retrieval import make_index

__all__ = ["Candidates", "Filters", "Queries"]

# Up to so many allowed items of a batch their vectors are gathered (some 20 MB) rather
# than the whole catalogue scored.
_FEW = 1 << 16
_LOWEST = float("-inf")


class Queries(NamedTuple):
    """What is asked for.

    Attributes:
        vectors: Float `[batch, hidden_dim]`.
        fallback: Bool `[batch]`: whether popularity answers instead.
    """

    vectors: tf.Tensor
    fallback: tf.Tensor


class Filters(NamedTuple):
    """Which candidates count.

    Attributes:
        excluded: Those that do not, of each row; 0 for none.
        allowed: Those that do, of the rows that are limited; 0 for none.
        limited: Bool `[batch]`: whether nothing but the allowed ones counts.
    """

    excluded: FlatIds
    allowed: FlatIds
    limited: tf.Tensor


class Candidates(tf.Module):
    """All items of the catalogue.

    Args:
        matrix: Float `[num_rows, hidden_dim]`, the row being the dense id; rows before
            the first and after the last item are no candidates.
        num_items: Size of the catalogue.
        popularity: Of each item, `[num_items]`.
        retrieval: One of :data:`~.contract.RETRIEVALS`.
    """

    def __init__(
        self,
        matrix: tf.Variable,
        num_items: int,
        popularity: np.ndarray,
        retrieval: str = "exact",
    ) -> None:
        super().__init__(name="candidates")
        num_rows = int(matrix.shape[0])
        self._matrix = matrix
        self._num_items = num_items
        self._exact = ExactTopK().index_variable(matrix, range(1, num_items + 1))
        by_row = np.zeros(num_rows, np.float32)
        by_row[1 : num_items + 1] = popularity
        self._popularity = tf.Variable(by_row, trainable=False, name="popularity")
        norms = np.linalg.norm(matrix.numpy(), axis=1)
        self._inverse_norms = tf.Variable(
            1.0 / np.maximum(norms, 1e-12),
            trainable=False,
            dtype=tf.float32,
            name="inverse_norms",
        )
        self._index: Any = None
        if retrieval != "exact":
            self._index = make_index(retrieval, matrix, num_items)

    @property
    def is_exact(self) -> bool:
        """Whether the best are surely found."""
        return self._index is None or self._index.is_exact()

    def vectors(self, ids: tf.Tensor) -> tf.Tensor:
        """Embeddings of dense ids of any shape."""
        return gather_read(self._matrix, ids)

    def scores(self, queries: Queries, pairs: FlatIds) -> tf.Tensor:
        """The score of each pair of row and item, float `[n]`."""
        products = tf.reduce_sum(
            self.vectors(pairs.ids) * tf.gather(queries.vectors, pairs.rows), axis=1
        )
        return tf.where(
            tf.gather(queries.fallback, pairs.rows),
            gather_read(self._popularity, pairs.ids),
            products,
        )

    def best(
        self, queries: Queries, filters: Filters, k: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The k best candidates of each row that the filters leave.

        Args:
            queries: What is asked for.
            filters: Which candidates count.
            k: Int32 scalar, at least 1 and at most the size of the catalogue.

        Returns:
            Scores, float `[batch, k]`, best first and minus infinity where none is left;
            and dense ids, int32 of the same shape.
        """

        def of_the_allowed() -> tuple[tf.Tensor, tf.Tensor]:
            pairs = filters.allowed.distinct()
            pairs = pairs.where(~filters.excluded.contains(pairs))
            return pairs_top_k(self.scores(queries, pairs), pairs, k)

        def of_all() -> tuple[tf.Tensor, tf.Tensor]:
            if self._index is None:
                return self._best_exact(queries, filters, k)
            return self._best_by_index(queries, filters, k)

        few = tf.reduce_all(filters.limited) & (tf.size(filters.allowed.ids) <= _FEW)
        return tf.cond(few, of_the_allowed, of_all)

    def similar(
        self, vectors: tf.Tensor, excluded: FlatIds, k: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The k candidates of greatest cosine with each vector; as :meth:`best`."""
        directions = tf.math.l2_normalize(vectors, axis=1)
        products = self._exact.scorer(directions)
        scales = tf.convert_to_tensor(self._inverse_norms)

        def cosines(start: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
            return products(start, end) * scales[start:end, None]

        return self._exact.best(cosines, tf.shape(vectors)[0], k, excluded)

    def _best_exact(
        self, queries: Queries, filters: Filters, k: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        def best(scorer: Scorer) -> tuple[tf.Tensor, tf.Tensor]:
            num_queries = tf.shape(queries.vectors)[0]
            return self._exact.best(scorer, num_queries, k, filters.excluded)

        products = self._exact.scorer(queries.vectors)
        # A conditional around all, not around the scores: those it gave on would be
        # copied before anything is taken out of them.
        return tf.cond(
            tf.reduce_any(queries.fallback | filters.limited),
            lambda: best(self._special_scorer(products, queries, filters)),
            lambda: best(products),
        )

    def _best_by_index(
        self, queries: Queries, filters: Filters, k: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """By a layer that knows no filters: more are fetched than could be taken out."""
        excluded = filters.excluded.distinct()
        most = tf.reduce_max(counts_by_row(excluded.ids > 0, excluded))
        fetched = tf.minimum(k + tf.maximum(most, 0), self._num_items)
        scores, ids = self._index(queries.vectors, k=fetched)
        taken_out = excluded.contains(FlatIds.of_matrix(ids, tf.shape(ids)[0]))
        scores, ids = without(scores, ids, tf.reshape(taken_out, tf.shape(ids)), k)
        other = queries.fallback | filters.limited

        def with_others() -> tuple[tf.Tensor, tf.Tensor]:
            exact_scores, exact_ids = self._best_exact(queries, filters, k)
            return (
                tf.where(other[:, None], exact_scores, scores),
                tf.where(other[:, None], exact_ids, ids),
            )

        return tf.cond(tf.reduce_any(other), with_others, lambda: (scores, ids))

    def _special_scorer(
        self, products: Scorer, queries: Queries, filters: Filters
    ) -> Scorer:
        """Scores where some rows go by popularity, or are limited."""
        popularity = self._popularity.read_value()

        def score(start: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
            scores = tf.where(
                queries.fallback[None, :],
                popularity[start:end, None],
                products(start, end),
            )
            return _limited(scores, filters, start, end)

        return score


def _limited(
    scores: tf.Tensor, filters: Filters, start: tf.Tensor, end: tf.Tensor
) -> tf.Tensor:
    """Leaves the allowed ones of limited rows; scores `[end - start, batch]`."""
    allowed = filters.allowed
    inside = allowed.where((allowed.ids >= start) & (allowed.ids < end))
    places = tf.stack([inside.ids - start, inside.rows], axis=1)
    return tf.tensor_scatter_nd_update(
        tf.where(filters.limited[None, :], _LOWEST, scores),
        places,
        tf.gather_nd(scores, places),
    )
