"""Local directories that appear whole or not at all, and fingerprints of files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adaptiverec.common.errors import OutputError, OutputExistsError

__all__ = [
    "check_output_is_free",
    "is_remote",
    "read_json",
    "sha256_of_bytes",
    "staged_directory",
    "write_json",
    "write_text",
]


def is_remote(path: str) -> bool:
    """Whether a path is on another file system than the local one."""
    return "://" in path


def check_output_is_free(path: Path) -> None:
    """Raises unless ``path`` is absent or an empty directory.

    Raises:
        OutputExistsError: Something is there.
    """
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists() or path.is_symlink():
        raise OutputExistsError(
            "The output must not exist yet, since nothing is ever overwritten. "
            f"Received: {path}"
        )


@contextmanager
def staged_directory(path: Path) -> Iterator[Path]:
    """Gives a directory to fill, and renames it to ``path`` when the block succeeds.

    The work is done in a hidden sibling, so a reader of ``path`` sees nothing or
    everything, and a block that raises leaves nothing of it behind.

    Args:
        path: The directory to make; its parents are made too.

    Yields:
        The directory to write into.

    Raises:
        OutputExistsError: ``path`` exists, now or when the work is done.
        OutputError: The place cannot be written.
    """
    check_output_is_free(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(
            tempfile.mkdtemp(prefix=f".{path.name}.incomplete-", dir=path.parent)
        )
    except OSError as error:
        raise OutputError(
            f"The output must be a path that can be written. Received: {path} ({error})"
        ) from error
    try:
        # mkdtemp is private to its owner; what is published follows the umask.
        staging.chmod(0o777 & ~_umask())
        yield staging
        try:
            staging.rename(path)
        except OSError as error:
            check_output_is_free(path)
            raise OutputError(
                f"The finished output could not be renamed to its place. Received: "
                f"{path} ({error})"
            ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sha256_of_bytes(data: bytes) -> str:
    """The hexadecimal SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def read_json(path: Path) -> Any:
    """Parses a UTF-8 JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Writes JSON for people and diffs: indented, keys as given, newline at the end."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file."""
    # Written aside and renamed, so that a reader never sees half a file.
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
