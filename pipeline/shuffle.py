"""Record batches between the steps of the job: left in files, or sent along.

Where all workers share a disk (the local runner), a batch is spilled to a file and only
its handle goes through Beam, which keeps the job's memory small. On any other runner
rows travel from the reading to the sorting, as Arrow IPC bytes, since that is what a
runner's own shuffle is for. What comes after is gathered by shard, or as a whole, and a
runner makes one element of what it gathers: so it lies in files on the file system of
the output, and handles travel. The steps see nothing of it: they ``put`` a batch and
``get`` it back.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

__all__ = ["ROWS", "Handle", "Shuffle"]

# The kind of batches that the reading puts aside.
ROWS = "rows"

_BUFFER_BYTES = 1 << 20

# The bytes themselves, or (path, offset, length).
Handle: TypeAlias = bytes | tuple[str, int, int]


class Shuffle:
    """Puts batches aside and gets them back. Pickles.

    Args:
        directory: Where to leave batches in files, on a disk that all workers share;
            None lets them travel.
        shared: Where to leave what had better not travel then, on a file system that
            all workers share and that Beam knows; None lets that travel too.

    Attributes:
        directory: As given.
    """

    def __init__(self, directory: str | None, shared: str | None = None) -> None:
        self.directory = directory
        self._shared = shared

    def put(self, batches: list[pa.RecordBatch], kind: str) -> list[Handle]:
        """Puts batches aside, all in one file if they are spilled.

        Args:
            batches: Batches of one schema.
            kind: What they are, for the file's name.

        Returns:
            The handle of each.
        """
        name = f"{kind}-{uuid.uuid4().hex}"
        if self.directory is not None:
            path = str(Path(self.directory) / name)
            with Path(path).open("wb") as file:
                return _write(batches, path, file)
        if self._shared is None or kind == ROWS:
            return [_to_ipc(batch).to_pybytes() for batch in batches]
        path = FileSystems.join(self._shared, name)
        with FileSystems.create(
            path, compression_type=CompressionTypes.UNCOMPRESSED
        ) as file:
            return _write(batches, path, file)

    def get(self, handle: Handle) -> pa.RecordBatch:
        """The batch behind a handle."""
        with pa.ipc.open_stream(self._bytes_of(handle)) as reader:
            return reader.read_next_batch()

    def _bytes_of(self, handle: Handle) -> bytes | pa.Buffer:
        if isinstance(handle, bytes):
            return handle
        path, offset, length = handle
        if self.directory is not None:
            # Nothing is copied, and what is deleted meanwhile can still be read.
            with pa.memory_map(path) as file:
                file.seek(offset)
                return file.read_buffer(length)
        with FileSystems.open(
            path, compression_type=CompressionTypes.UNCOMPRESSED
        ) as file:
            file.seek(offset)
            return file.read(length)


def _write(batches: list[pa.RecordBatch], path: str, file: Any) -> list[Handle]:
    handles: list[Handle] = []
    with pa.output_stream(file, buffer_size=_BUFFER_BYTES) as stream:
        for batch in batches:
            begin = stream.tell()
            with pa.ipc.new_stream(stream, batch.schema) as writer:
                writer.write_batch(batch)
            handles.append((path, begin, stream.tell() - begin))
    return handles


def _to_ipc(batch: pa.RecordBatch) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()
