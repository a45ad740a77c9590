"""What `batch-recommend` reads: a model, prepared data and lists of ids, checked."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from adaptiverec.common.errors import ContractError, InvalidValueError, NotFoundError
from adaptiverec.common.files import read_json, sha256_of_bytes
from adaptiverec.pipeline import contract as data_contract
from adaptiverec.serving import contract
from adaptiverec.serving.versions import check_base_path, find_versions

__all__ = ["IdList", "ModelSource", "PreparedSource", "check_match"]

_SAVED_MODEL = "saved_model.pb"


@dataclasses.dataclass(frozen=True)
class ModelSource:
    """A version that `adaptiverec export` made.

    Attributes:
        path: Its directory.
        version: Its number, or None where the directory has another name.
        record: Its `adaptiverec.json`.
        vocabulary: Its `vocabulary.txt`.
        sha256: SHA-256 over names and contents of all files that answers depend on.
    """

    path: Path
    version: int | None
    record: dict[str, Any]
    vocabulary: bytes
    sha256: str

    @classmethod
    def open(cls, path: str) -> ModelSource:
        """Finds the version and checks that it is whole.

        Args:
            path: The version, or a base path with versions.

        Raises:
            NotFoundError: There is none.
            ContractError: It is not one of `adaptiverec export`, or was altered.
        """
        place = Path(path).absolute()
        if not (place / _SAVED_MODEL).is_file():
            check_base_path(place)
            versions = find_versions(place)
            place = versions[max(versions)]
        record_path = place / contract.EXTRA_DIRECTORY / contract.RECORD
        vocabulary_path = place / "assets" / contract.VOCABULARY
        if not record_path.is_file() or not vocabulary_path.is_file():
            raise ContractError(
                "The model must be a whole version that `adaptiverec export` made, with "
                f"assets and {contract.EXTRA_DIRECTORY}/{contract.RECORD}. Received: "
                f"{place}"
            )
        try:
            record = read_json(record_path)
        except ValueError as error:
            raise ContractError(
                f"{contract.RECORD} must be JSON. Received: {record_path} ({error})"
            ) from error
        found = record.get("schema_version") if isinstance(record, dict) else None
        if found != contract.SCHEMA_VERSION:
            raise ContractError(
                f"The model must have schema_version {contract.SCHEMA_VERSION}; export it "
                f"again with this release. Received: {found!r} in {record_path}"
            )
        vocabulary = vocabulary_path.read_bytes()
        if sha256_of_bytes(vocabulary) != record["vocabulary_sha256"]:
            raise ContractError(
                "The model's vocabulary must be the one of its export, by its SHA-256. "
                f"Received: another one in {vocabulary_path}"
            )
        version = int(place.name) if place.name.isdecimal() else None
        return cls(place, version, record, vocabulary, _sha256_of_tree(place))


def _sha256_of_tree(directory: Path) -> str:
    digest = hashlib.sha256()
    extra = directory / contract.EXTRA_DIRECTORY
    for path in sorted(directory.rglob("*")):
        # What stands in assets.extra is about the model, and no part of it.
        if path.is_file() and not path.is_relative_to(extra):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.relative_to(directory)}\n{content}\n".encode())
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class PreparedSource:
    """A prepared directory, local or on a file system that Beam knows.

    Attributes:
        path: The directory.
        metadata: Its `metadata.json`.
        vocabulary: Its `vocabulary.txt`.
    """

    path: str
    metadata: dict[str, Any]
    vocabulary: bytes

    @classmethod
    def open(cls, path: str) -> PreparedSource:
        """Reads all but the sequences.

        Raises:
            NotFoundError: There is no such directory.
            ContractError: It is not whole, of another schema version, or altered.
        """
        metadata = _read(path, data_contract.METADATA)
        if metadata is None and not FileSystems.exists(path):
            raise NotFoundError(
                "The prepared data must be a directory made by `adaptiverec prepare`. "
                f"Received: {path}, which is none"
            )
        parsed = data_contract.check_whole(
            metadata, _read(path, data_contract.MARKER), where=path
        )
        vocabulary = _read(path, parsed["vocabulary"]["file"]) or b""
        if sha256_of_bytes(vocabulary) != parsed["vocabulary"]["sha256"]:
            raise ContractError(
                "The vocabulary must be the one that the metadata describes (by its "
                f"SHA-256). Received: another one in {path}"
            )
        return cls(path, parsed, vocabulary)


def _read(directory: str, name: str) -> bytes | None:
    try:
        with FileSystems.open(
            FileSystems.join(directory, name),
            compression_type=CompressionTypes.UNCOMPRESSED,
        ) as file:
            return file.read()
    except (OSError, BeamIOError):
        return None


def check_match(model: ModelSource, data: PreparedSource, match: str) -> None:
    """Raises unless model and data have in common what they must.

    Raw ids go in and out, so what counts is that equal ids mean equal items: the data's
    vocabulary is the model's, or begins with it, as one that has grown does, and what was
    done to ids is the same.

    Args:
        model: The model.
        data: The data.
        match: `vocabulary`, `data` or `nothing`; see
            :func:`adaptiverec.serving.batch_recommend`.

    Raises:
        ContractError: They do not match.
    """
    expected = model.record["data_fingerprint"]
    if match == "data" and data.metadata["fingerprint"] != expected:
        raise ContractError(
            "The prepared data must be what the model was trained on, by its fingerprint "
            f"{expected[:12]}…, with match=data. Received: {data.path} with fingerprint "
            f"{data.metadata['fingerprint'][:12]}…"
        )
    if match == "nothing":
        return
    if not data.vocabulary.startswith(model.vocabulary):
        raise ContractError(
            "The prepared data must have the vocabulary that the model was trained with, "
            "or one grown from it (`adaptiverec prepare --base-vocabulary`); "
            "match=nothing takes any. Received: another vocabulary in "
            f"{data.path} than in {model.path}"
        )
    normalization = data.metadata.get("id_normalization")
    if normalization != model.record["id_normalization"]:
        raise ContractError(
            "Ids of the prepared data must have been trimmed and lowercased as those that "
            f"the model was trained with: {json.dumps(model.record['id_normalization'])}. "
            f"Received: {json.dumps(normalization)} in {data.path}"
        )


@dataclasses.dataclass(frozen=True)
class IdList:
    """Raw item ids of a file.

    Attributes:
        ids: The ids, in the file's order.
        sha256: SHA-256 of the file.
    """

    ids: tuple[str, ...]
    sha256: str

    @classmethod
    def read(cls, name: str, path: str) -> IdList:
        """Reads a text file with an id a line; empty lines mean nothing.

        Args:
            name: The option, for messages.
            path: The file.

        Raises:
            NotFoundError: There is no such file.
            InvalidValueError: It is not UTF-8, or holds no id: the model takes a list of
                nothing for no list, which is not what an empty file says.
        """
        try:
            content = Path(path).read_bytes()
            # An id may have any other line break within.
            lines = content.decode().split("\n")
            ids = tuple(filter(None, (line.removesuffix("\r") for line in lines)))
        except FileNotFoundError:
            raise NotFoundError(f"{name} must be a file. Received: {path}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidValueError(
                f"{name} must be a text file in UTF-8. Received: {path} ({error})"
            ) from error
        if not ids:
            raise InvalidValueError(
                f"{name} must hold an item id at least. Received: {path}, with none"
            )
        return cls(ids, sha256_of_bytes(content))
