"""The contract of a prepared directory: its files, their schema, how to know it is whole.

The Beam job writes by it and the training reads by it; so that neither drags in the
other's dependencies, this module needs nothing beyond the standard library. ::

    DIR/
      metadata.json                      what was read, kept and dropped, and how
      vocabulary.txt                     raw item ids; line n is the dense id n
      popularity.tsv                     how many interactions each item has
      sequences-00000-of-00004.tfrecord  one tf.train.Example a user; with the metadata's
                                         "compression": "gzip" named *.tfrecord.gz
      report.html                        pictures of the data, if wanted; for people
      rejected/*.jsonl                   the rows set aside, a reason with each
      _SUCCESS                           the SHA-256 of metadata.json, written last

Each user's record holds the sequence once, oldest first, with these features:

===============  ========  =========================================================
feature          type      meaning
===============  ========  =========================================================
``user_id``      bytes[1]  raw user id, UTF-8
``item_ids``     int64[n]  dense item ids, 1 … num_items (0 is padding and never
                           stored)
``split``        int64[2]  ``train_end, validation_end``: items ``[0, train_end)`` are
                           for training, ``[train_end, validation_end)`` are validation
                           targets, ``[validation_end, n)`` test targets
``timestamps``   int64[n]  microseconds since 1970-01-01 UTC; only where the log has
                           times
``ratings``      float[n]  the rating of each interaction; only with ``rating_column``
``event_types``  bytes[n]  the type of event, UTF-8; only with ``event_column``
``extra/NAME``   bytes[n]  the text of the column NAME, UTF-8, empty where a row has
                           none; only for ``passthrough_columns``
===============  ========  =========================================================

A target's history is everything before it in the record, whichever part that is of.

Records are in the order of a 64-bit hash of the user id (see
:mod:`adaptiverec.pipeline.hashing`), then its bytes, through all shards; shard s of S
holds the users whose hash is in the s-th of S equal parts of the range of hashes.

``popularity.tsv`` has the columns ``item_id``, ``interactions`` and
``train_interactions`` under a header, separated by tabs, in the order of dense ids: the
kept interactions of each item, and those of them in training parts. With a base
vocabulary some items may have none.

In the metadata, ``sha256`` is always that of a file as it is stored, and
``content_sha256`` of a shard that of what it holds uncompressed. ``fingerprint`` is made
of vocabulary and uncompressed shards: it identifies the data, however it is stored.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from adaptiverec.common.errors import ContractError

__all__ = [
    "EVENT_TYPES",
    "EXTRA",
    "ITEM_IDS",
    "MARKER",
    "METADATA",
    "POPULARITY",
    "RATINGS",
    "REJECTED_DIRECTORY",
    "REPORT",
    "SCHEMA_VERSION",
    "SPLIT",
    "TIMESTAMPS",
    "USER_ID",
    "VOCABULARY",
    "check_whole",
    "fingerprint",
    "shard_name",
]

# Raised whenever a reader of the last version would misread this one.
SCHEMA_VERSION = 2

METADATA = "metadata.json"
VOCABULARY = "vocabulary.txt"
POPULARITY = "popularity.tsv"
REPORT = "report.html"
REJECTED_DIRECTORY = "rejected"
MARKER = "_SUCCESS"

USER_ID = "user_id"
ITEM_IDS = "item_ids"
TIMESTAMPS = "timestamps"
SPLIT = "split"
RATINGS = "ratings"
EVENT_TYPES = "event_types"
# Before the name of a column that is passed through.
EXTRA = "extra/"

_REQUIRED_KEYS = (
    "num_users",
    "num_items",
    "num_interactions",
    "num_train_instances",
    "rejected",
    "vocabulary",
    "compression",
    "shards",
    "fingerprint",
)


def shard_name(index: int, num_shards: int, compression: str = "none") -> str:
    """The file name of shard ``index``, counted from 0, of ``num_shards``."""
    extension = ".tfrecord.gz" if compression == "gzip" else ".tfrecord"
    return f"sequences-{index:05d}-of-{num_shards:05d}{extension}"


def fingerprint(vocabulary_sha256: str, shard_sha256s: list[str]) -> str:
    """Identifies the data itself: equal for equal vocabulary and shards, whenever made.

    Args:
        vocabulary_sha256: SHA-256 of the vocabulary file.
        shard_sha256s: SHA-256 of what each shard holds, uncompressed.
    """
    parts = [f"schema {SCHEMA_VERSION}", vocabulary_sha256, *shard_sha256s]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def check_whole(
    metadata: bytes | None, marker: bytes | None, *, where: str
) -> dict[str, Any]:
    """Parses ``metadata.json`` after checking that the directory is whole and readable.

    Args:
        metadata: The bytes of ``metadata.json``, or None where there is none.
        marker: The bytes of ``_SUCCESS``, or None where there is none.
        where: The directory, for messages.

    Returns:
        The parsed metadata.

    Raises:
        ContractError: The directory is not a whole prepared directory of this schema
            version.
    """
    if metadata is None or marker is None:
        missing = METADATA if metadata is None else MARKER
        raise ContractError(
            "A prepared directory must be whole: `adaptiverec prepare` writes "
            f"{METADATA} and, last of all, {MARKER}. Received: {where}, which has no "
            f"{missing}"
        )
    try:
        parsed = json.loads(metadata)
    except ValueError as error:
        raise ContractError(
            f"{METADATA} must be JSON. Received: {where}/{METADATA} ({error})"
        ) from error
    version = parsed.get("schema_version") if isinstance(parsed, dict) else None
    if version != SCHEMA_VERSION:
        raise ContractError(
            f"The prepared data must have schema_version {SCHEMA_VERSION}; run "
            f"`adaptiverec prepare` of this release again. Received: {version!r} in "
            f"{where}/{METADATA}"
        )
    missing_keys = [key for key in _REQUIRED_KEYS if key not in parsed]
    if missing_keys:
        raise ContractError(
            f"{METADATA} must have the keys {', '.join(_REQUIRED_KEYS)}. Received: "
            f"{where}/{METADATA} without {', '.join(missing_keys)}"
        )
    actual = hashlib.sha256(metadata).hexdigest()
    if marker.decode("ascii", "replace").strip() != actual:
        raise ContractError(
            f"{MARKER} must hold the SHA-256 of {METADATA}; the directory was changed "
            f"after it was made. Received: {where}"
        )
    return parsed
