"""The output directory: worked on under another name, then published as a whole.

A local directory is renamed in one step. Object stores have no such step: there the
files are moved one by one with the marker last, and readers insist on the marker.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from adaptiverec.common.errors import OutputError, OutputExistsError
from adaptiverec.common.files import is_remote, sha256_of_bytes, staged_directory
from adaptiverec.common.progress import say
from adaptiverec.pipeline.contract import (
    MARKER,
    METADATA,
    POPULARITY,
    REJECTED_DIRECTORY,
    REPORT,
    VOCABULARY,
)
from adaptiverec.pipeline.output_files import Places, create_whole

__all__ = ["out_of_room", "staged_output", "write_file", "write_last"]

# What a full disk, a quota, and a limit on the size of files say.
_OUT_OF_ROOM = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)))

# The order in which files are moved to their place, where it matters.
_RANK = {METADATA: 0, MARKER: 2}
# What `prepare` and `batch-recommend` write.
_PUBLISHED = re.compile(
    "|".join(map(re.escape, (METADATA, VOCABULARY, POPULARITY, REPORT)))
    + rf"|(sequences|recommendations)-[^/]*|{re.escape(REJECTED_DIRECTORY)}/[^/]*"
)


@contextmanager
def staged_output(output: str) -> Iterator[Places]:
    """Gives a place to work in, and publishes it as ``output`` when the block succeeds.

    Args:
        output: A local path, or one of a file system that Beam knows.

    Yields:
        The places; what is in ``places.work`` is not published.

    Raises:
        OutputExistsError: ``output`` is there already.
        OutputError: ``output`` cannot be written.
    """
    try:
        with _staged(output) as places:
            yield places
    except OSError as error:
        no_room = out_of_room(error, output)
        if no_room is None:
            raise
        raise no_room from error


def out_of_room(error: BaseException, output: str) -> OutputError | None:
    """What to raise instead of an error, if there was no room for what was written.

    Args:
        error: The error, or one that quotes it, as runners do.
        output: The output, for the message.
    """
    reason = next((text for text in _OUT_OF_ROOM if text in str(error)), None)
    if reason is None or isinstance(error, OutputError):
        return None
    return OutputError(
        "There must be room beside the output for the rows themselves, twice, and the "
        f"sequences. Received: {reason} in {output}"
    )


@contextmanager
def _staged(output: str) -> Iterator[Places]:
    if is_remote(output):
        with _staged_elsewhere(output) as places:
            yield places
        return
    path = Path(output).absolute()
    _mention_leftovers(path)
    with staged_directory(path) as staging:
        places = Places(str(staging))
        FileSystems.mkdirs(places.work)
        FileSystems.mkdirs(FileSystems.join(places.output, REJECTED_DIRECTORY))
        yield places
        FileSystems.delete([places.work])
        with contextlib.suppress(OSError):
            # Only if it is empty.
            (staging / REJECTED_DIRECTORY).rmdir()


def write_file(places: Places, name: str, data: bytes) -> None:
    """Writes one of the files to publish."""
    with create_whole(places, name) as file:
        file.write(data)


def write_last(places: Places, metadata: dict[str, Any]) -> None:
    """Writes what makes an output whole: its metadata, and then the marker."""
    # Paths may hold bytes that are not UTF-8, which Python has as surrogates.
    text = json.dumps(metadata, indent=2, ensure_ascii=False) + "\n"
    data = text.encode("utf-8", "backslashreplace")
    write_file(places, METADATA, data)
    write_file(places, MARKER, (sha256_of_bytes(data) + "\n").encode())


def _mention_leftovers(path: Path) -> None:
    pattern = f".{glob.escape(path.name)}.incomplete-*"
    for leftover in sorted(path.parent.glob(pattern)):
        say(
            f"Note: {leftover} was left by a run that was killed or still goes on; "
            "if none does, it can be deleted."
        )


@contextmanager
def _staged_elsewhere(output: str) -> Iterator[Places]:
    output = output.rstrip("/")
    try:
        parent, name = FileSystems.split(output)
        if _leftovers(output):
            say(
                f"Note: {output} is not whole: it was left by a run that was killed "
                "while it published. It will be replaced."
            )
        staging = FileSystems.join(parent, f".{name}.incomplete-{uuid.uuid4().hex[:8]}")
        places = Places(staging)
        for directory in (
            staging,
            FileSystems.join(staging, REJECTED_DIRECTORY),
            places.work,
        ):
            FileSystems.mkdirs(directory)
    except (BeamIOError, ValueError, OSError) as error:
        if isinstance(error, OutputExistsError):
            raise
        raise OutputError(
            "The output must be a path that can be written. Received: "
            f"{output} ({error})"
        ) from error
    try:
        yield places
        _delete(_leftovers(output))
        work = FileSystems.join(places.work, "")
        sources = [path for path in _files_below(staging) if not path.startswith(work)]
        # The marker tells readers that all the rest is there. What comes first tells
        # the next run whose files these are, if there is no marker.
        sources.sort(key=lambda path: _RANK.get(path[len(staging) + 1 :], 1))
        for source in sources:
            target = output + source[len(staging) :]
            with contextlib.suppress(BeamIOError, OSError):
                # There already, or a store without directories.
                FileSystems.mkdirs(FileSystems.split(target)[0])
            FileSystems.rename([source], [target])
    finally:
        with contextlib.suppress(BeamIOError, OSError):
            # Not all stores know a directory to delete, nor all a file in one.
            _delete(_files_below(staging))
        with contextlib.suppress(BeamIOError, OSError):
            FileSystems.delete([staging])


def _leftovers(output: str) -> list[str]:
    """The files of a run that was killed while it moved them to ``output``.

    Raises:
        OutputExistsError: There is anything else.
    """
    files = _files_below(output)
    names = {path[len(output) + 1 :] for path in files}
    if files and (
        METADATA not in names
        or MARKER in names
        or not all(_PUBLISHED.fullmatch(name) for name in names)
    ):
        raise OutputExistsError(
            "The output must not exist yet, since nothing is ever overwritten. "
            f"Received: {output}"
        )
    return files


def _delete(files: list[str]) -> None:
    if files:
        FileSystems.delete(files)


def _files_below(directory: str) -> list[str]:
    (result,) = FileSystems.match([FileSystems.join(directory, "**")])
    return [entry.path for entry in result.metadata_list]
