"""The contract of a served model: TensorFlow Serving's layout, and one signature.

::

    BASE/VERSION/
      saved_model.pb, variables/               the graph and its weights
      assets/vocabulary.txt                    raw item ids; line n is the dense id n
      assets.extra/tf_serving_warmup_requests  requests replayed when the version is loaded
      assets.extra/adaptiverec.json            schema version; fingerprints of run and data

Signature ``serving_default``:

============== ====== ================= ===================================================
input          dtype  shape             meaning
============== ====== ================= ===================================================
history        string [batch, length]   raw item ids, oldest first; "" is padding, anywhere
k              int32  [batch] or [1]    how many recommendations, at least 1
============== ====== ================= ===================================================

============== ====== ================= ===================================================
output         dtype  shape             meaning
============== ====== ================= ===================================================
items          string [batch, max k]    raw item ids, best first, none of the history; ""
                                        where there are no more of a row
scores         float  [batch, max k]    their scores; 0 where there is no item
unknown_items  int32  [batch]           items of the history that the model does not know,
                                        and has skipped
============== ====== ================= ===================================================

No row is wider than the catalogue. A history without any item that the model knows, or a
k below 1, is INVALID_ARGUMENT.
"""

from __future__ import annotations

__all__ = [
    "EXTRA_DIRECTORY",
    "RECORD",
    "SCHEMA_VERSION",
    "SIGNATURE",
    "VOCABULARY",
    "WARMUP_REQUESTS",
]

# Raised whenever a client of the last version would misread this one.
SCHEMA_VERSION = 1

SIGNATURE = "serving_default"
VOCABULARY = "vocabulary.txt"
EXTRA_DIRECTORY = "assets.extra"
WARMUP_REQUESTS = "tf_serving_warmup_requests"
RECORD = "adaptiverec.json"
