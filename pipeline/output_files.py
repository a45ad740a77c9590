"""Files that workers write: whole under their name, or not there.

A runner may run a piece of work twice, even at the same time. Each run writes under a
name of its own and renames, so the last one to finish wins with the same content.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

__all__ = ["Places", "create_whole"]


class Places:
    """Where a run works.

    Attributes:
        output: The staging directory: what will be published.
        work: A directory for everything that will not, on the same file system.
    """

    def __init__(self, staging: str) -> None:
        self.output = staging
        self.work = FileSystems.join(staging, ".work")


@contextmanager
def create_whole(places: Places, *name: str) -> Iterator[BinaryIO]:
    """Opens a file for writing that gets its name when the block succeeds.

    Args:
        places: Where the run works.
        *name: Path of the file below ``places.output``.

    Yields:
        The file to write into.
    """
    temporary = FileSystems.join(places.work, f"unfinished-{uuid.uuid4().hex}")
    file = FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED)
    with file:
        yield file
    FileSystems.rename([temporary], [FileSystems.join(places.output, *name)])
