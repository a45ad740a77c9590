"""The served function: raw ids in, raw ids out, in stock TensorFlow ops alone."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from adaptiverec.model.adaptive_rec import AdaptiveRec
from adaptiverec.serving.tfrs_layers import factorized_top_k

__all__ = ["RecommenderModule"]


class RecommenderModule(tf.Module):
    """Looks raw item ids up, encodes the history, and retrieves the best other items.

    It holds the encoder's raw variables and not the Keras model, so that the SavedModel
    is small and loads without Keras.

    Args:
        model: The trained model.
        vocabulary_path: Text file of raw item ids, line n being the dense id n. It
            becomes an asset of the SavedModel.
        trim: Whether the data was prepared with `trim_ids`.
        lowercase: Whether it was prepared with `lowercase_ids`.
    """

    def __init__(
        self,
        model: AdaptiveRec,
        vocabulary_path: str,
        *,
        trim: bool = False,
        lowercase: bool = False,
    ) -> None:
        super().__init__(name="recommender")
        self._trim = trim
        self._lowercase = lowercase
        # Used while the function is traced; being no tf.Module it is not saved.
        self._encoder = _Untracked(model.encoder)
        self._max_length = model.max_length
        self._num_items = model.num_items
        self._variables = [weight.value for weight in model.encoder.weights]
        whole_line = tf.lookup.TextFileIndex.WHOLE_LINE
        line_number = tf.lookup.TextFileIndex.LINE_NUMBER
        self._row_of_item = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                vocabulary_path, tf.string, whole_line, tf.int64, line_number
            ),
            default_value=-1,
        )
        self._item_of_row = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                vocabulary_path, tf.int64, line_number, tf.string, whole_line
            ),
            default_value="",
        )
        self._index = factorized_top_k().BruteForce()
        self._index.index(tf.convert_to_tensor(model.encoder.item_vectors))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.string, name="history"),
            tf.TensorSpec([None], tf.int32, name="k"),
        ]
    )
    def recommend(self, history: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        """The signature; see :mod:`adaptiverec.serving.contract`."""
        with tf.control_dependencies(_check_k(history, k)):
            # More than the catalogue is all of it, whatever was asked for.
            k = tf.minimum(k, self._num_items)
        history = self._normalize(history)
        k = tf.broadcast_to(k, tf.shape(history)[:1])
        # Rows of the catalogue, -1 for what the model does not know and for padding.
        rows = self._row_of_item.lookup(history)
        known = rows >= 0
        unknown_items = tf.math.count_nonzero(
            (history != "") & ~known, axis=1, dtype=tf.int32
        )
        with tf.control_dependencies([_check_history(history, known)]):
            histories = tf.ragged.boolean_mask(rows, known)
        item_ids = histories[:, -self._max_length :].to_tensor(default_value=-1) + 1
        query = self._encoder.layer(item_ids)

        # As many more as could be of the history, which are then taken out.
        width = tf.reduce_max(k)
        fetched = tf.minimum(width + tf.shape(history)[1], self._num_items)
        scores, candidates = self._index(query, k=fetched)
        candidates = tf.cast(candidates, tf.int64)
        seen = tf.reduce_any(candidates[:, :, None] == rows[:, None, :], axis=2)
        # A stable sort moves the others to the front, still best first.
        order = tf.argsort(tf.cast(seen, tf.int32), axis=1, stable=True)[:, :width]
        candidates = tf.gather(candidates, order, batch_dims=1)
        scores = tf.gather(scores, order, batch_dims=1)
        given = ~tf.gather(seen, order, batch_dims=1)
        given &= tf.range(tf.shape(order)[1])[None, :] < k[:, None]
        return {
            "items": self._item_of_row.lookup(tf.where(given, candidates, -1)),
            "scores": tf.where(given, scores, 0.0),
            "unknown_items": unknown_items,
        }

    def _normalize(self, item_ids: tf.Tensor) -> tf.Tensor:
        """Raw ids as the vocabulary has them: what was done to the log is done here."""
        if self._trim:
            item_ids = tf.strings.strip(item_ids)
        if self._lowercase:
            # Of ASCII alone, as in the log: of Unicode it would go by the server's locale.
            item_ids = tf.strings.lower(item_ids)
        return item_ids


class _Untracked:
    """Keeps a layer out of the SavedModel's objects, which tf.Module would collect."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer


def _check_k(history: tf.Tensor, k: tf.Tensor) -> list[tf.Operation]:
    batch_size, num_k = tf.shape(history)[0], tf.shape(k)[0]
    return [
        tf.debugging.Assert(
            tf.reduce_all(k >= 1), ["k must be at least 1. Received:", k], summarize=10
        ),
        tf.debugging.Assert(
            (num_k == 1) | (num_k == batch_size),
            [
                "k must have one element, or one for each history. Received:",
                num_k,
                "for histories:",
                batch_size,
            ],
        ),
    ]


def _check_history(history: tf.Tensor, known: tf.Tensor) -> tf.Operation:
    without = tf.where(~tf.reduce_any(known, axis=1))[:, 0]
    return tf.debugging.Assert(
        tf.equal(tf.size(without), 0),
        [
            "A history must have at least one item that the model knows. Received, "
            "first of such rows:",
            tf.gather(history, without[:1]),
            "at:",
            without[:1],
        ],
        summarize=10,
    )
