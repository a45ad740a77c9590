"""The functions that are served: raw ids in, raw ids out, in stock TensorFlow ops alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from adaptiverec.model.adaptive_rec import AdaptiveRec
from adaptiverec.model.sequence_encoder import SequenceEncoder
from adaptiverec.serving import contract
from adaptiverec.serving.block_top_k import padded_rows
from adaptiverec.serving.candidates import Candidates, Filters, Queries
from adaptiverec.serving.flat_ids import FlatIds, counts_by_row, last_ids
from adaptiverec.serving.item_vocabulary import ItemVocabulary
from adaptiverec.serving.retrieval import check_retrieval
from adaptiverec.serving.serving_encoder import ServingEncoder
from adaptiverec.serving.signature_checks import check_k, check_rows
from adaptiverec.serving.signature_inputs import (
    BOOLS,
    FLAGS,
    INTS,
    ITEMS,
    LENGTHS,
    ROWS,
    VALUES,
    Items,
    K,
    items_of_lengths,
    items_of_matrix,
    signature,
)

__all__ = ["RecommenderModule"]

Outputs = dict[str, tf.Tensor]


class RecommenderModule(tf.Module):
    """Looks raw item ids up, encodes the history, and retrieves the best other items.

    It holds raw variables and no Keras model, so that the SavedModel is small and loads
    without Keras. The item matrix is there once: the encoder's embeddings are what
    retrieval looks through, their row being the dense id.

    The functions, all of them `tf.function`s, are the signatures of
    :mod:`adaptiverec.serving.contract`.

    Args:
        model: The trained model.
        vocabulary_path: Text file of raw item ids, line n being the dense id n. It
            becomes the asset of the SavedModel.
        popularity: How often each item occurs in the training part, `[num_items]`: what
            is recommended where a history tells nothing.
        trim: Whether the data was prepared with `trim_ids`.
        lowercase: Whether it was prepared with `lowercase_ids`.
        retrieval: One of :data:`~.contract.RETRIEVALS`.
        fingerprint: What identifies the model, in every answer.

    Raises:
        InvalidValueError: There is no such retrieval.
        NotFoundError: It needs a package that is not installed.
    """

    def __init__(
        self,
        model: AdaptiveRec,
        vocabulary_path: str,
        *,
        popularity: np.ndarray,
        trim: bool = False,
        lowercase: bool = False,
        retrieval: str = "exact",
        fingerprint: str = "",
    ) -> None:
        super().__init__(name="recommender")
        check_retrieval(retrieval)
        self._num_items = model.num_items
        self._max_length = model.max_length
        self._fingerprint = fingerprint
        self._vocabulary = ItemVocabulary(
            vocabulary_path, trim=trim, lowercase=lowercase
        )
        matrix = _matrix_in_whole_blocks(model.encoder)
        self._encoder = ServingEncoder(model.encoder, matrix)
        self._candidates = Candidates(matrix, model.num_items, popularity, retrieval)
        self._make_functions()

    @property
    def is_exact(self) -> bool:
        """Whether the retrieval surely finds the best items."""
        return self._candidates.is_exact

    def signatures(self) -> dict[str, Callable[..., Any]]:
        """The functions to save, by the names of the contract."""
        return {
            contract.SIGNATURE: self.recommend,
            contract.RECOMMEND: self.recommend,
            contract.RECOMMEND_HISTORY: self.recommend_history,
            contract.RECOMMEND_RAGGED: self.recommend_ragged,
            contract.SCORE: self.score,
            contract.EMBED_SEQUENCE: self.embed_sequence,
            contract.EMBED_ITEM: self.embed_item,
            contract.SIMILAR_ITEMS: self.similar_items,
            contract.CLASSIFY: self.classify,
        }

    def _make_functions(self) -> None:
        # Defaults that are tensors become the signature's; they are made here, since
        # importing a module must not start TensorFlow.
        ten, yes = tf.constant([10]), tf.constant([True])
        # One element of padding and not none: a server that batches pads shorter rows
        # with a tensor's first element, and refuses a tensor without any.
        padding = tf.constant([[""]])
        no_values = tf.constant([], tf.string)
        no_lengths = tf.constant([0], tf.int64)

        @signature(history=ROWS, k=K, exclude=ROWS, allow=ROWS, exclude_history=FLAGS)
        def recommend(
            history: tf.Tensor,
            k: tf.Tensor = ten,
            exclude: tf.Tensor = padding,
            allow: tf.Tensor = padding,
            exclude_history: tf.Tensor = yes,
        ) -> Outputs:
            num_rows = tf.shape(history)[0]
            return self._recommend(
                self._of_matrix("history", history, num_rows),
                k,
                self._of_matrix("exclude", exclude, num_rows),
                self._of_matrix("allow", allow, num_rows),
                exclude_history,
            )

        @signature(history=ROWS, k=K)
        def recommend_history(history: tf.Tensor, k: tf.Tensor) -> Outputs:
            return recommend(history, k, padding, padding, yes)

        @signature(
            history_values=VALUES,
            history_lengths=LENGTHS,
            k=K,
            exclude_values=VALUES,
            exclude_lengths=LENGTHS,
            allow_values=VALUES,
            allow_lengths=LENGTHS,
            exclude_history=FLAGS,
        )
        def recommend_ragged(
            history_values: tf.Tensor,
            history_lengths: tf.Tensor,
            k: tf.Tensor = ten,
            exclude_values: tf.Tensor = no_values,
            exclude_lengths: tf.Tensor = no_lengths,
            allow_values: tf.Tensor = no_values,
            allow_lengths: tf.Tensor = no_lengths,
            exclude_history: tf.Tensor = yes,
        ) -> Outputs:
            num_rows = tf.shape(history_lengths)[0]
            return self._recommend(
                self._of_lengths("history", history_values, history_lengths, num_rows),
                k,
                self._of_lengths("exclude", exclude_values, exclude_lengths, num_rows),
                self._of_lengths("allow", allow_values, allow_lengths, num_rows),
                exclude_history,
            )

        @signature(items=VALUES, k=K)
        def similar_items(items: tf.Tensor, k: tf.Tensor = ten) -> Outputs:
            return self._similar_items(items, k)

        self.recommend = recommend
        self.recommend_history = recommend_history
        self.recommend_ragged = recommend_ragged
        self.similar_items = similar_items

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.string, name="history"),
            tf.TensorSpec([None, None], tf.string, name="candidates"),
        ]
    )
    def score(self, history: tf.Tensor, candidates: tf.Tensor) -> Outputs:
        """The signature `score`."""
        num_rows = tf.shape(history)[0]
        queries, _ = self._queries(self._of_matrix("history", history, num_rows))
        pairs = self._of_matrix("candidates", candidates, num_rows).ids
        shape = tf.stack([num_rows, tf.shape(candidates)[1]])
        known = tf.reshape(pairs.ids != 0, shape)
        scores = tf.reshape(self._candidates.scores(queries, pairs), shape)
        return {
            "scores": tf.where(known, scores, 0.0),
            "known": known,
            "fallback": queries.fallback,
        }

    @tf.function(
        input_signature=[tf.TensorSpec([None, None], tf.string, name="history")]
    )
    def embed_sequence(self, history: tf.Tensor) -> Outputs:
        """The signature `embed_sequence`."""
        items = self._of_matrix("history", history, tf.shape(history)[0])
        queries, _ = self._queries(items)
        known = ~queries.fallback
        return {
            "embedding": tf.where(known[:, None], queries.vectors, 0.0),
            "known": known,
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="items")])
    def embed_item(self, items: tf.Tensor) -> Outputs:
        """The signature `embed_item`."""
        ids = self._vocabulary.dense_ids(self._vocabulary.normalize(items))
        known = ids != 0
        vectors = self._candidates.vectors(ids)
        return {"embedding": tf.where(known[:, None], vectors, 0.0), "known": known}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs: tf.Tensor) -> Outputs:
        """The signature `classify`."""
        features = {
            "history": tf.io.RaggedFeature(tf.string, row_splits_dtype=tf.int64)
        }
        history = tf.io.parse_example(inputs, features)["history"]
        num_rows = tf.shape(inputs)[0]
        none = self._of_matrix("exclude", tf.fill([1, 1], ""), num_rows)
        answer = self._recommend(
            self._of_lengths(
                "history", history.flat_values, history.row_lengths(), num_rows
            ),
            tf.fill([1], 10),
            none,
            none,
            tf.fill([1], True),
        )
        return {"classes": answer["items"], "scores": answer["scores"]}

    def _similar_items(self, items: tf.Tensor, k: tf.Tensor) -> Outputs:
        num_rows = tf.shape(items)[0]
        with tf.control_dependencies(check_k(k, num_rows)):
            k = tf.broadcast_to(tf.minimum(k, self._num_items), [num_rows])
        ids = self._vocabulary.dense_ids(self._vocabulary.normalize(items))
        itself = FlatIds.of_matrix(ids[:, None], num_rows)
        scores, best = self._candidates.similar(
            self._candidates.vectors(ids), itself, _widest(k)
        )
        known = ids != 0
        return {**self._given(scores, best, k, known), "known": known}

    @tf.function(input_signature=[ITEMS, INTS, ITEMS, ITEMS, BOOLS])
    def _recommend(
        self,
        history: Items,
        k: tf.Tensor,
        exclude: Items,
        allow: Items,
        exclude_history: tf.Tensor,
    ) -> Outputs:
        num_rows = history.ids.num_rows
        checks = check_k(k, num_rows)
        checks.append(check_rows("exclude_history", exclude_history, num_rows))
        with tf.control_dependencies(checks):
            # More than the catalogue is all of it, whatever was asked for.
            k = tf.broadcast_to(tf.minimum(k, self._num_items), [num_rows])
            exclude_history = tf.broadcast_to(exclude_history, [num_rows])
        queries, unknown_items = self._queries(history)
        flat = history.ids
        of_history = tf.where(tf.gather(exclude_history, flat.rows), flat.ids, 0)
        filters = Filters(
            excluded=flat._replace(ids=of_history).and_also(exclude.ids),
            allowed=allow.ids,
            limited=counts_by_row(allow.given, allow.ids) > 0,
        )
        scores, ids = self._candidates.best(queries, filters, _widest(k))
        return {
            **self._given(scores, ids, k, tf.fill([num_rows], True)),
            "unknown_items": unknown_items,
            "fallback": queries.fallback,
            "fingerprint": tf.fill([num_rows], self._fingerprint),
        }

    @tf.function(input_signature=[ITEMS])
    def _queries(self, history: Items) -> tuple[Queries, tf.Tensor]:
        """What is asked for, and how many items of each history are unknown."""
        ids, num_known = last_ids(history.ids, self._max_length)
        queries = Queries(self._encoder(ids), num_known == 0)
        return queries, counts_by_row(history.given, history.ids) - num_known

    def _given(
        self, scores: tf.Tensor, ids: tf.Tensor, k: tf.Tensor, known: tf.Tensor
    ) -> Outputs:
        """The first k of each row as raw ids; "" and 0 where there are fewer."""
        places = tf.range(tf.shape(ids)[1])[None, :]
        given = (scores > -float("inf")) & (places < k[:, None]) & known[:, None]
        return {
            "items": self._vocabulary.raw_ids(tf.where(given, ids, 0)),
            "scores": tf.where(given, scores, 0.0),
        }

    def _of_matrix(self, name: str, items: tf.Tensor, num_rows: tf.Tensor) -> Items:
        return items_of_matrix(self._vocabulary, name, items, num_rows)

    def _of_lengths(
        self, name: str, values: tf.Tensor, lengths: tf.Tensor, num_rows: tf.Tensor
    ) -> Items:
        return items_of_lengths(self._vocabulary, name, values, lengths, num_rows)


def _widest(k: tf.Tensor) -> tf.Tensor:
    # Of a batch without rows too, there is a width.
    return tf.maximum(tf.reduce_max(k), 1)


def _matrix_in_whole_blocks(encoder: SequenceEncoder) -> tf.Variable:
    """Padding, the items, and zeros up to a whole block; nobody looks for those."""
    vectors = encoder.item_embedding.embeddings.numpy()[: encoder.num_items + 1]
    missing = padded_rows(len(vectors)) - len(vectors)
    return tf.Variable(
        np.pad(vectors, [[0, missing], [0, 0]]), trainable=False, name="item_matrix"
    )
