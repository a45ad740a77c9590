import gzip

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptiverec.pipeline.input_files import InputFile, split_into_ranges
from adaptiverec.pipeline.parse_lines import Layout
from adaptiverec.pipeline.read_blocks import read_blocks

LAYOUT = Layout(",", 3, 0, 1, 2)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.text("ab", max_size=9), max_size=12),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.integers(1, 30),
    st.booleans(),
)
def test_every_line_is_in_one_block(tmp_path, lines, ending, ended, size, compressed):
    """Blocks are whole lines that join to the file, each with its offset."""
    header = b"the header\n"
    data = header + ending.join(lines).encode() + (ending.encode() if ended else b"")
    path = tmp_path / ("log.gz" if compressed else "log")
    path.write_bytes(gzip.compress(data) if compressed else data)
    num_bytes = path.stat().st_size
    file = InputFile(0, str(path), num_bytes, len(header), LAYOUT)
    ranges = split_into_ranges(file, size)
    if not compressed:
        assert sum(part.stored_bytes for part in ranges) == len(data) - len(header)
    blocks = [block for part in ranges for block in read_blocks(part, size)]
    at = len(header)
    for offset, block in blocks:
        assert offset == at
        assert block
        at += len(block)
        assert block.endswith(b"\n") or at == len(data)
    assert b"".join(block for _, block in blocks) == data[len(header) :]


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_a_line_longer_than_a_block(tmp_path, size):
    path = tmp_path / "log.gz"
    data = b"a" * 3_000_000 + b"\nb\n"
    path.write_bytes(gzip.compress(data))
    file = InputFile(0, str(path), path.stat().st_size, 0, LAYOUT)
    (part,) = split_into_ranges(file, 100_000)
    assert b"".join(block for _, block in read_blocks(part, 100_000)) == data


def test_a_file_without_rows_has_no_ranges():
    assert split_into_ranges(InputFile(0, "x", 0, 0, None), 10) == []
