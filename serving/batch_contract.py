"""The contract of what `adaptiverec batch-recommend` writes.

::

    DIR/
      metadata.json                             options, counts, fingerprints, files
      recommendations-00000-of-00004.parquet    or *.tfrecord: one record a user
      _SUCCESS                                  the SHA-256 of metadata.json, written last

Users are in the order of the prepared data, through all shards. A record has:

================= ============== =======================================================
column or feature Parquet        meaning (in TFRecord: a `tf.train.Example`'s feature)
================= ============== =======================================================
``user_id``       string         raw user id (bytes[1])
``items``         list<string>   raw item ids, best first; at most k (bytes)
``scores``        list<float>    their scores (float)
``unknown_items`` int32          items of the history that the model does not know and has
                                 skipped (int64[1])
``fallback``      bool           whether the history told nothing, and popularity
                                 recommends: scores are counts then (int64[1], 0 or 1)
================= ============== =======================================================

They are the outputs of the signature `recommend`; see
:mod:`adaptiverec.serving.contract`.
"""

from __future__ import annotations

__all__ = [
    "FALLBACK",
    "FEATURES",
    "FORMATS",
    "ITEMS",
    "SCHEMA_VERSION",
    "SCORES",
    "UNKNOWN_ITEMS",
    "USER_ID",
    "shard_name",
]

# Raised whenever a reader of the last version would misread this one.
SCHEMA_VERSION = 1

USER_ID = "user_id"
ITEMS = "items"
SCORES = "scores"
UNKNOWN_ITEMS = "unknown_items"
FALLBACK = "fallback"
FEATURES = (USER_ID, ITEMS, SCORES, UNKNOWN_ITEMS, FALLBACK)

FORMATS = ("parquet", "tfrecord")


def shard_name(index: int, num_shards: int, file_format: str) -> str:
    """The file name of shard ``index``, counted from 0, of ``num_shards``."""
    return f"recommendations-{index:05d}-of-{num_shards:05d}.{file_format}"
