import datetime
import inspect

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptiverec.pipeline import prepare, timestamps
from adaptiverec.pipeline.file_parts import CsvForm
from adaptiverec.pipeline.options import PrepareOptions
from adaptiverec.pipeline.parse_block import BlockParser
from adaptiverec.pipeline.parse_lines import parse_lines
from adaptiverec.pipeline.row_rules import RowRules
from adaptiverec.pipeline.transcode import TextBlock, TextEncoding

POSITIONS = (("user", 0), ("item", 1), ("time", 2))
FORM = CsvForm("csv", None, TextEncoding("utf-8"), ",", '"', False, 3, POSITIONS)
DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(prepare).parameters.items()
}

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
    ("ms", "1e306", "time is out of range"),
    ("s", "-1e303", "time is out of range"),
    ("iso8601", "1386460800", "time is not a date"),
    ("iso8601", "2010-02-30", "time is not a date"),
    ("iso8601", "2010-12-01T25:00:00", "time is not a date"),
    ("iso8601", "01/12/2010", "time is not a date"),
    ("iso8601", "", "time is missing"),
    ("s", "  ", "time is missing"),
]


def parse_both_ways(text, time_format):
    """A row with this time, by the quick way and by the careful one."""
    columns = {"user_column": "u", "item_column": "i", "time_column": "t"}
    given = {"input": ["x"], "output": "y", "time_format": time_format}
    options = PrepareOptions.checked(**{**DEFAULTS, **columns, **given})
    rules = RowRules(options)
    block = TextBlock.at(f"u,i,{text}\n".encode(), 0)
    quick = BlockParser(options, rules).parse(block, FORM)
    slow = parse_lines(block, FORM, rules)
    assert quick.batch.equals(slow.batch)
    assert quick.rejects == slow.rejects
    return slow.batch.column("time").to_pylist(), slow.rejects.reasons


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
    times = timestamps.convert(pa.array([moment.isoformat()]), "iso8601").values
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    assert times[0] == (moment - epoch) // datetime.timedelta(microseconds=1)


def test_integers_and_decimals_in_one_column_agree():
    texts = pa.array(["5", "5.0", "bad", "50e-1", "9223372036854"])
    times = timestamps.convert(texts, "s")
    assert times.values[[0, 1, 3]].tolist() == [5_000_000] * 3
    assert times.unreadable.tolist() == [False, False, True, False, False]
    assert times.out_of_range is None


def test_numbers_that_do_not_fit():
    for column in (pa.array([0, 2**62]), pa.array([0.0, 1e300])):
        times = timestamps.convert(column, "s")
        assert times.out_of_range.tolist() == [False, True]
    times = timestamps.convert(pa.array([0.5, np.nan]), "s")
    assert times.values.tolist() == [500_000, 0]
    assert times.unreadable.tolist() == [False, True]
    assert not timestamps.is_exact(pa.array([0.0, 2.0**53]), "s")


MOMENT = datetime.datetime(2024, 2, 29, 12, 30, 45, 123_456)
MICROSECONDS = 1_709_209_845_123_456


@pytest.mark.parametrize(
    ("kind", "microseconds"),
    [
        (pa.timestamp("s"), 1_709_209_845_000_000),
        (pa.timestamp("ms"), 1_709_209_845_123_000),
        (pa.timestamp("us"), MICROSECONDS),
        (pa.timestamp("ns"), MICROSECONDS),
        (pa.timestamp("us", "UTC"), MICROSECONDS),
        (pa.timestamp("ns", "+05:30"), MICROSECONDS),
        (pa.date32(), 1_709_164_800_000_000),
        (pa.date64(), 1_709_164_800_000_000),
    ],
)
def test_times_of_their_own_type(kind, microseconds):
    column = pa.array([MOMENT], pa.timestamp("us")).cast(kind, safe=False)
    # They are what they are, whatever the format of others.
    for time_format in ("s", "iso8601", "%Y"):
        assert timestamps.convert(column, time_format).values.tolist() == [microseconds]


def test_what_is_beyond_microseconds_is_cut_off():
    column = pa.array([1_999, -1], pa.timestamp("ns"))
    assert timestamps.convert(column, "s").values.tolist() == [1, -1]


def test_a_timestamp_that_does_not_fit():
    column = pa.array([2**62, 5], pa.timestamp("s", "UTC"))
    times = timestamps.convert(column, "s")
    assert times.out_of_range.tolist() == [True, False]
    assert times.values.tolist() == [0, 5_000_000]


@pytest.mark.parametrize(
    ("column", "time_format", "expected"),
    [
        (pa.array([20240229]), "%Y%m%d", 1_709_164_800_000_000),
        (pa.array([7], pa.uint64()), "s", 7_000_000),
        (pa.array([7], pa.int8()), "ms", 7_000),
        (pa.array([1.5], pa.float32()), "s", 1_500_000),
    ],
)
def test_numbers_by_the_format(column, time_format, expected):
    assert timestamps.convert(column, time_format).values.tolist() == [expected]


def test_local_times_are_those_of_the_time_zone():
    # Paris is two hours ahead in summer.
    texts = pa.array(["2024-07-01T12:00:00", "2024-07-01T12:00:00Z"])
    hours = timestamps.convert(texts, "iso8601", "Europe/Paris").values // 3_600_000_000
    assert (hours % 24).tolist() == [10, 12]
    native = pa.array([datetime.datetime(2024, 7, 1, 12)])
    assert (
        timestamps.convert(native, "s", "Europe/Paris").values[0] // 3_600_000_000
    ) % 24 == 10
