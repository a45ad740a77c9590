"""The contract of a served model: TensorFlow Serving's layout, and its signatures.

::

    BASE/VERSION/
      saved_model.pb, variables/               the graph and its weights
      assets/vocabulary.txt                    raw item ids; line n is the dense id n
      assets.extra/tf_serving_warmup_requests  requests replayed when the version is loaded
      assets.extra/adaptiverec.json            schema version; fingerprints of run and data
      assets.extra/parity.json                 proof that it answers as the evaluation does

Ids are raw, UTF-8 strings, and "" is padding, anywhere in a row. They are trimmed and
lowercased if the data was. The first dimension of every input and output is the batch.

Signatures ``serving_default`` and ``recommend``, the same function:

=============== ====== ================= ================== ==============================
input           dtype  shape             default            meaning
=============== ====== ================= ================== ==============================
history         string [batch, length]                      items, oldest first; the last
                                                            `max_length` known ones tell
                                                            what comes next
k               int32  [batch] or [1]    [10]               how many recommendations, at
                                                            least 1
exclude         string [batch or 1, any] [[""]]             items not to recommend
allow           string [batch or 1, any] [[""]]             recommend none but these; a
                                                            row of padding alone is no
                                                            limit, a row of unknown items
                                                            alone leaves nothing
exclude_history bool   [batch] or [1]    [true]             whether to exclude the whole
                                                            history, however long
=============== ====== ================= ================== ==============================

============== ====== ================= ==================================================
output         dtype  shape             meaning
============== ====== ================= ==================================================
items          string [batch, max k]    raw item ids, best first; "" where a row has fewer
scores         float  [batch, max k]    dot products; 0 where there is no item
unknown_items  int32  [batch]           items of the history that the model does not know,
                                        and has skipped
fallback       bool   [batch]           whether the history told nothing, being empty or
                                        wholly unknown: then popularity recommends, and
                                        scores are counts of training interactions
fingerprint    string [batch]           SHA-256 of the run's model
============== ====== ================= ==================================================

Filters act before the best are taken: k answers come back wherever k candidates remain.
No row is wider than the catalogue. Equal scores stand in the order of dense ids. A k below
1, or an input whose rows are neither one nor as many as histories, is INVALID_ARGUMENT.

``recommend_history`` is the same with nothing but ``history`` and ``k``, which must be
given: a server that batches takes any number of histories from it.

``recommend_ragged`` is the same for rows of very different lengths: in place of a matrix,
``history_values`` (string `[n]`), all rows one after the other, and ``history_lengths``
(int64 `[batch]`); likewise ``exclude_values``, ``exclude_lengths``, ``allow_values`` and
``allow_lengths`` (by default none; of a single length, the row is for all). It is for
servers that do not batch: since `n` is not the batch, those that do refuse its requests.

================== ============================== =======================================
signature          inputs                         outputs
================== ============================== =======================================
score              history, candidates            scores float and known bool of
                   (string [batch, any])          candidates' shape, 0 where unknown;
                                                  fallback, as above
embed_sequence     history                        embedding float [batch, hidden_dim], 0 of
                                                  a history that tells nothing; known bool
                                                  [batch]
embed_item         items (string [batch])         embedding, 0 where unknown; known
similar_items      items (string [batch]), k      items and scores [batch, max k] by
                   (default [10])                 cosine, never the item itself; known
classify           inputs (string [batch],        classes string and scores float
                   serialized tf.train.Example    [batch, 10], the best items after the
                   protos)                        feature `history`, a bytes list: for the
                                                  Classify method
================== ============================== =======================================

**Defaults** are the SignatureDef's own. The Predict method of TensorFlow Serving fills
them in where a request leaves inputs out, by its sources since 2023; so does `adaptiverec
serve`, and a TF1 session. `tf.saved_model.load(…).signatures` does not: give every input.

**Batching** (`--enable_batching`) wants as many rows of every input, and looks after the
defaults are filled in, which have one. So a request with one history may leave inputs out;
one with several gives every input a row for each, or asks ``recommend_history``, or wants
only some outputs (``output_filter``): that is not batched, by TensorFlow Serving's rules.
Lengths of rows must be equal, unless `pad_variable_length_inputs` is set; that pads with
the *first* element of an input, so start each row with "" then.
"""

from __future__ import annotations

__all__ = [
    "CLASSIFY",
    "EMBED_ITEM",
    "EMBED_SEQUENCE",
    "EXTRA_DIRECTORY",
    "PARITY",
    "RECOMMEND",
    "RECOMMEND_HISTORY",
    "RECOMMEND_RAGGED",
    "RECORD",
    "RETRIEVALS",
    "SCHEMA_VERSION",
    "SCORE",
    "SIGNATURE",
    "SIMILAR_ITEMS",
    "VOCABULARY",
    "WARMUP_REQUESTS",
]

# Raised whenever a client of the last version would misread this one.
SCHEMA_VERSION = 2

SIGNATURE = "serving_default"
RECOMMEND = "recommend"
RECOMMEND_HISTORY = "recommend_history"
RECOMMEND_RAGGED = "recommend_ragged"
SCORE = "score"
EMBED_SEQUENCE = "embed_sequence"
EMBED_ITEM = "embed_item"
SIMILAR_ITEMS = "similar_items"
CLASSIFY = "classify"

# Which layer looks through the catalogue: ours, or one of TensorFlow Recommenders'.
RETRIEVALS = ("exact", "brute_force", "streaming", "scann")

VOCABULARY = "vocabulary.txt"
EXTRA_DIRECTORY = "assets.extra"
WARMUP_REQUESTS = "tf_serving_warmup_requests"
RECORD = "adaptiverec.json"
PARITY = "parity.json"
