"""Raw item ids to dense ids and back, inside the graph."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

__all__ = ["ItemVocabulary"]


class ItemVocabulary(tf.Module):
    """Looks item ids up, as they were written in the log.

    One hash table, read from the vocabulary's file, leads from raw to dense ids; back
    leads a vector of strings, which takes a third of the memory of a second table.

    Args:
        path: Text file of raw item ids, line n being the dense id n. It becomes an asset
            of the SavedModel.
        trim: Whether the data was prepared with `trim_ids`.
        lowercase: Whether it was prepared with `lowercase_ids`.
    """

    def __init__(
        self, path: str, *, trim: bool = False, lowercase: bool = False
    ) -> None:
        super().__init__(name="vocabulary")
        self._trim = trim
        self._lowercase = lowercase
        lines = Path(path).read_bytes().split(b"\n")[:-1]
        self._line_of_item = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                path,
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
                # A file with fewer lines, being copied or cut off, is then not loaded.
                vocab_size=len(lines),
            ),
            # Padding and unknown items have the dense id 0.
            default_value=-1,
        )
        self._items = tf.Variable([b"", *lines], trainable=False, name="items")

    def normalize(self, items: tf.Tensor) -> tf.Tensor:
        """Raw ids as the vocabulary has them: what was done to the log is done here."""
        if self._trim:
            items = tf.strings.strip(items)
        if self._lowercase:
            # Of ASCII alone, as in the log: of Unicode it would go by the server's locale.
            items = tf.strings.lower(items)
        return items

    def dense_ids(self, items: tf.Tensor) -> tf.Tensor:
        """Dense ids of normalized raw ids of any shape, int32; 0 where unknown."""
        return tf.cast(self._line_of_item.lookup(items), tf.int32) + 1

    def raw_ids(self, dense_ids: tf.Tensor) -> tf.Tensor:
        """Raw ids of dense ids of any shape; "" where they are 0."""
        return tf.gather(self._items, dense_ids)
