"""The vocabulary of an earlier run, whose dense ids this run keeps."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from adaptiverec.common.errors import ContractError, NotFoundError
from adaptiverec.common.files import is_remote
from adaptiverec.common.progress import say
from adaptiverec.pipeline import contract
from adaptiverec.pipeline.options import PrepareOptions
from adaptiverec.pipeline.vocabulary import parse_vocabulary

__all__ = ["BaseVocabulary", "read_base_vocabulary"]


class BaseVocabulary(NamedTuple):
    """A vocabulary that was checked.

    Attributes:
        source: Where it is from, as the user named it.
        text: The content of its file.
        sha256: SHA-256 of that.
    """

    source: str
    text: bytes
    sha256: str


def read_base_vocabulary(options: PrepareOptions) -> BaseVocabulary | None:
    """Reads what ``base_vocabulary`` names: a prepared directory, or a vocabulary file.

    Returns:
        The vocabulary; None where the option is not given.

    Raises:
        NotFoundError: There is nothing of that name.
        ContractError: It is not whole, was altered, or is no vocabulary.
    """
    source = options.base_vocabulary
    if source is None:
        return None
    described: dict[str, Any] | None = None
    path = source
    metadata = _read(_join(source, contract.METADATA))
    marker = _read(_join(source, contract.MARKER))
    if metadata is not None or marker is not None or _is_directory(source):
        described = contract.check_whole(metadata, marker, where=source)
        path = _join(source, described["vocabulary"]["file"])
    text = _read(path)
    if text is None:
        raise NotFoundError(
            "`base_vocabulary` must be an earlier output, or a vocabulary file. "
            f"Received: {path!r}, which cannot be read"
        )
    sha256 = hashlib.sha256(text).hexdigest()
    if described is not None:
        if sha256 != described["vocabulary"]["sha256"]:
            raise ContractError(
                "The vocabulary must be the one that the metadata describes (by its "
                f"SHA-256). Received: another one in {source}"
            )
        _mention_other_ids(described, options)
    parse_vocabulary(text, where=path)
    return BaseVocabulary(source, text, sha256)


def _mention_other_ids(described: dict[str, Any], options: PrepareOptions) -> None:
    """Ids that are written differently would silently be other items."""
    now = {"trim": options.trim_ids, "lowercase": options.lowercase_ids}
    if described.get("id_normalization", now) != now:
        say(
            f"Note: {options.base_vocabulary} was made with other `trim_ids` or "
            "`lowercase_ids`, so its item ids may not be found again."
        )


def _is_directory(path: str) -> bool:
    return not is_remote(path) and Path(path).is_dir()


def _join(directory: str, name: str) -> str:
    if is_remote(directory):
        return f"{directory.rstrip('/')}/{name}"
    return str(Path(directory) / name)


def _read(path: str) -> bytes | None:
    try:
        with FileSystems.open(
            path, compression_type=CompressionTypes.UNCOMPRESSED
        ) as file:
            return file.read()
    except (BeamIOError, OSError, ValueError):
        return None
