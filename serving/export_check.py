"""Whether a version of `adaptiverec export` still has the vocabulary it was made with."""

from __future__ import annotations

import hashlib
from pathlib import Path

import grpc
import tensorflow as tf

from adaptiverec.common.files import read_json
from adaptiverec.serving import contract
from adaptiverec.serving.status import RequestError

__all__ = ["check_export"]


def check_export(path: Path) -> None:
    """Compares the vocabulary with the export's record; other SavedModels have none.

    TensorFlow reads a vocabulary as it finds it, and counts its lines at most. One that
    was cut within its last line, or is another's of the same length, would answer with
    wrong items.

    Args:
        path: The SavedModel directory.

    Raises:
        RequestError: DATA_LOSS, it is not the vocabulary of the record, or the record
            cannot be read.
    """
    record = path / contract.EXTRA_DIRECTORY / contract.RECORD
    vocabulary = path / tf.saved_model.ASSETS_DIRECTORY / contract.VOCABULARY
    if not record.exists():
        return
    try:
        expected = read_json(record)["vocabulary_sha256"]
        with vocabulary.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(
            grpc.StatusCode.DATA_LOSS,
            f"{record} must be the record of an export, with the vocabulary beside it. "
            f"Received: {type(error).__name__}: {error}",
        ) from error
    if found != expected:
        raise RequestError(
            grpc.StatusCode.DATA_LOSS,
            f"{vocabulary} must have the SHA-256 of its export, {expected}. Received: "
            f"{found}",
        )
