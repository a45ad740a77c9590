"""Record batches between the steps of the job: left in files, or sent along.

Where all workers share a disk (the local runner), a batch is spilled to a file and only
its handle goes through Beam, which keeps the job's memory small. On any other runner
the batch itself travels, as Arrow IPC bytes. The steps see neither: they ``put`` a
batch and ``get`` it back.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

__all__ = ["Handle", "Shuffle"]

# The bytes themselves, or (path, offset, length).
Handle: TypeAlias = bytes | tuple[str, int, int]


class Shuffle:
    """Puts batches aside and gets them back. Pickles.

    Args:
        directory: Where to leave batches in files, on a disk that all workers share;
            None lets them travel.
    """

    def __init__(self, directory: str | None) -> None:
        self._directory = directory

    def put(self, batches: list[pa.RecordBatch], kind: str) -> list[Handle]:
        """Puts batches aside, all in one file if they are spilled.

        Args:
            batches: Batches of one schema.
            kind: What they are, for the file's name.

        Returns:
            The handle of each.
        """
        if self._directory is None:
            return [_to_ipc(batch).to_pybytes() for batch in batches]
        path = str(Path(self._directory) / f"{kind}-{uuid.uuid4().hex}")
        handles: list[Handle] = []
        offset = 0
        with Path(path).open("wb") as file:
            for batch in batches:
                length = file.write(memoryview(_to_ipc(batch)))
                handles.append((path, offset, length))
                offset += length
        return handles

    def get(self, handle: Handle) -> pa.RecordBatch:
        """The batch behind a handle."""
        if isinstance(handle, bytes):
            data = handle
        else:
            path, offset, length = handle
            with Path(path).open("rb") as file:
                file.seek(offset)
                data = file.read(length)
        with pa.ipc.open_stream(data) as reader:
            return reader.read_next_batch()


def _to_ipc(batch: pa.RecordBatch) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()
