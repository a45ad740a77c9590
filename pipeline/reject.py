"""The rows set aside: one JSON line each, with the reason and where it was."""

from __future__ import annotations

import json

from adaptiverec.pipeline.contract import REJECTED_DIRECTORY
from adaptiverec.pipeline.output_files import Places, create_whole
from adaptiverec.pipeline.parse_lines import Rejects
from adaptiverec.pipeline.read_blocks import ByteRange

__all__ = ["write_rejects"]


def write_rejects(
    places: Places, byte_range: ByteRange, offset: int, rejects: Rejects
) -> str:
    """Writes the rejected rows of a block; a second run writes the same file again.

    Args:
        places: Where the run works.
        byte_range: Where the block is from.
        offset: Byte offset of the block in its file, decompressed.
        rejects: The rows.

    Returns:
        The file's name in the directory of rejected rows.
    """
    name = f"{byte_range.file_number:05d}-{offset:012d}.jsonl"
    rows = zip(rejects.offsets, rejects.reasons, rejects.lines, strict=True)
    lines = [
        json.dumps(
            {
                "file": byte_range.path,
                "offset": offset + line_offset,
                "reason": reason,
                "row": line.decode("utf-8", "backslashreplace"),
            },
            ensure_ascii=False,
        )
        for line_offset, reason, line in rows
    ]
    with create_whole(places, REJECTED_DIRECTORY, name) as file:
        # A path may hold bytes that are not UTF-8; Python has them as surrogates.
        text = "".join(line + "\n" for line in lines)
        file.write(text.encode("utf-8", "backslashreplace"))
    return name
