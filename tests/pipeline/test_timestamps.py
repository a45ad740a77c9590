import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptiverec.pipeline import timestamps
from adaptiverec.pipeline.parse_block import BlockParser
from adaptiverec.pipeline.parse_lines import Layout, parse_lines

LAYOUT = Layout(",", 3, 0, 1, 2)

GOOD = [
    ("s", "1386460800", 1_386_460_800_000_000),
    ("s", "1386460800.0", 1_386_460_800_000_000),
    ("s", "1386460800.123456", 1_386_460_800_123_456),
    ("s", "8.8e8", 880_000_000_000_000),
    ("s", " 7\t", 7_000_000),
    ("s", "-1", -1_000_000),
    ("s", "+1", 1_000_000),
    ("s", "0.0000004", 0),
    ("ms", "1386460800123", 1_386_460_800_123_000),
    ("ms", "0.5", 500),
    ("us", "1386460800123456", 1_386_460_800_123_456),
    # Beyond 2**53, where a float64 no longer holds every integer.
    ("us", "9007199254740993", 9_007_199_254_740_993),
    ("us", "9223372036854775807", 2**63 - 1),
    ("iso8601", "1970-01-02", 86_400_000_000),
    ("iso8601", "2010-12-01 08:26:00", 1_291_191_960_000_000),
    ("iso8601", "2010-12-01T08:26", 1_291_191_960_000_000),
    ("iso8601", "2010-12-01T08:26:00Z", 1_291_191_960_000_000),
    ("iso8601", "2010-12-01T09:26:00+01:00", 1_291_191_960_000_000),
    ("iso8601", "2010-12-01T02:56:00-0530", 1_291_191_960_000_000),
    ("iso8601", "1970-01-01T00:00:00.000001", 1),
    ("iso8601", "1970-01-01T00:00:00.000001999", 1),
    ("iso8601", "1969-12-31T23:59:59", -1_000_000),
]

BAD = [
    ("s", "soon", "time is not a number"),
    ("s", "1e", "time is not a number"),
    ("s", "nan", "time is not a number"),
    ("s", "inf", "time is not a number"),
    ("s", "2010-12-01", "time is not a number"),
    ("s", "1_000", "time is not a number"),
    ("s", "9223372036855", "time is out of range"),
    ("s", "-1e300", "time is out of range"),
    ("us", "9223372036854775808", "time is out of range"),
    ("us", "-9223372036854775808", "time is out of range"),
    ("iso8601", "1386460800", "time is not a date"),
    ("iso8601", "2010-02-30", "time is not a date"),
    ("iso8601", "2010-12-01T25:00:00", "time is not a date"),
    ("iso8601", "01/12/2010", "time is not a date"),
    ("iso8601", "", "time is missing"),
    ("s", "  ", "time is missing"),
]


def parse_both_ways(text, time_format):
    """A row with this time, by the quick way and by the careful one."""
    line = f"u,i,{text}\n".encode()
    quick = BlockParser(time_format).parse(line, LAYOUT)
    batch, rejects = parse_lines(line, LAYOUT, time_format)
    assert quick.batch.equals(batch)
    assert quick.rejects == rejects
    return batch.column("time").to_pylist(), rejects.reasons


@pytest.mark.parametrize(("time_format", "text", "microseconds"), GOOD)
def test_good_times(time_format, text, microseconds):
    assert parse_both_ways(text, time_format) == ([microseconds], [])


@pytest.mark.parametrize(("time_format", "text", "reason"), BAD)
def test_bad_times(time_format, text, reason):
    assert parse_both_ways(text, time_format) == ([], [reason])


@pytest.mark.parametrize("time_format", ["s", "ms", "us", "iso8601"])
@given(
    text=st.one_of(
        st.text(st.characters(codec="utf-8", exclude_characters='\r\n,"'), max_size=9),
        st.text("0123456789+-.eExXTZ: ", max_size=24),
        st.floats().map(repr),
        st.integers().map(str),
        st.datetimes().map(str),
        st.datetimes(timezones=st.just(datetime.UTC)).map(datetime.datetime.isoformat),
    )
)
def test_both_ways_agree_on_anything(text, time_format):
    parse_both_ways(text, time_format)


@given(st.datetimes(timezones=st.just(datetime.UTC)))
def test_iso_dates_are_those_of_the_standard_library(moment):
    times, _, _ = timestamps.from_text(pa.array([moment.isoformat()]), "iso8601")
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    assert times[0] == (moment - epoch) // datetime.timedelta(microseconds=1)


def test_integers_and_decimals_in_one_column_agree():
    texts = pa.array(["5", "5.0", "bad", "50e-1", "9223372036854"])
    times, unreadable, out_of_range = timestamps.from_text(texts, "s")
    assert times[[0, 1, 3]].tolist() == [5_000_000] * 3
    assert unreadable.tolist() == [False, False, True, False, False]
    assert not out_of_range.any()
    assert timestamps.from_column(pa.array([0, 2**62]), "s") is None
    assert timestamps.from_column(pa.array([0.0, np.nan]), "s") is None
