"""Varints, beside a number's own definition of one."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import example, given

from adaptiverec.pipeline.varints import varint_bytes, varint_sizes, write_varints

# As many values of each size as of any other.
NUMBERS = st.integers(0, 63).flatmap(lambda bits: st.integers(0, (2 << bits) - 1))


def plainly(value: int) -> bytes:
    """Seven bits at a time, the lowest first; the eighth says that more follow."""
    groups = [value & 127]
    while value := value >> 7:
        groups.append(value & 127)
    return bytes(group | 128 for group in groups[:-1]) + bytes(groups[-1:])


@given(st.lists(NUMBERS), st.lists(st.integers(0, 9), min_size=1))
@example([2**56 - 1, 2**56, 2**49 - 1, 2**49, 2**63, 2**64 - 1, 0], [0])
def test_varints_are_written_between_what_is_there(numbers, gaps):
    values = np.array(numbers, np.uint64)
    expected, positions = bytearray(), []
    for row, number in enumerate(numbers):
        expected += b"\xee" * gaps[row % len(gaps)]
        positions.append(len(expected))
        expected += plainly(number)
    expected += b"\xee"
    sizes = varint_sizes(values)
    assert sizes.tolist() == [len(plainly(number)) for number in numbers]
    buffer = np.full(len(expected), 0xEE, np.uint8)
    write_varints(buffer, np.array(positions, np.int64), values, sizes)
    assert buffer.tobytes() == bytes(expected)


@given(NUMBERS)
def test_one_varint(number):
    assert varint_bytes(number) == plainly(number)


def test_negative_numbers_take_ten_bytes():
    values = np.array([-1, -(2**63)])
    sizes = varint_sizes(values)
    buffer = np.zeros(20, np.uint8)
    write_varints(buffer, np.array([0, 10]), values, sizes)
    assert sizes.tolist() == [10, 10]
    assert buffer.tobytes() == plainly(2**64 - 1) + plainly(2**63)
