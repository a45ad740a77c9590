"""What clocks show, against Python's own time zones."""

import datetime
import zoneinfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptiverec.pipeline.time_zones import Clock, clock_of

EPOCH = datetime.datetime(1970, 1, 1)
MICROSECOND = datetime.timedelta(microseconds=1)
HOUR = 3_600_000_000
# With half an hour of summer time, days that never were, and offsets of odd seconds.
ZONES = [
    "Europe/London",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
    "Europe/Amsterdam",
    "Asia/Kathmandu",
    "UTC",
]


def by_python(local, zone):
    moment = local.replace(tzinfo=zoneinfo.ZoneInfo(zone))
    offset = moment.utcoffset()
    assert offset is not None
    return (local - EPOCH - offset) // MICROSECOND


def by_us(moments, zone):
    local = [(moment - EPOCH) // MICROSECOND for moment in moments]
    return clock_of(zone).to_utc(np.array(local, np.int64)).tolist()


@pytest.mark.parametrize("zone", ZONES)
@given(
    st.lists(
        st.one_of(
            st.datetimes(),
            st.datetimes(datetime.datetime(1930, 1, 1), datetime.datetime(2040, 1, 1)),
        ),
        max_size=5,
    )
)
def test_as_python_says(zone, moments):
    assert by_us(moments, zone) == [by_python(moment, zone) for moment in moments]


@pytest.mark.parametrize("zone", ZONES)
def test_every_quarter_of_an_hour_of_years_with_changes(zone):
    for first in (datetime.datetime(1940, 1, 1), datetime.datetime(2011, 1, 1)):
        quarter = datetime.timedelta(minutes=15)
        moments = [first + n * quarter for n in range(0, 366 * 96)]
        assert by_us(moments, zone) == [by_python(moment, zone) for moment in moments]


def test_a_time_that_was_shown_twice_is_the_first():
    # 27 October 2024, 02:00 summer time: London's clocks go back to 01:00.
    twice = datetime.datetime(2024, 10, 27, 1, 30)
    (time,) = by_us([twice], "Europe/London")
    assert EPOCH + time * MICROSECOND == datetime.datetime(2024, 10, 27, 0, 30)


def test_a_time_that_was_skipped_is_as_much_later():
    # 31 March 2024, 01:00: London's clocks go forward to 02:00.
    skipped = datetime.datetime(2024, 3, 31, 1, 30)
    (time,) = by_us([skipped], "Europe/London")
    shown = (EPOCH + time * MICROSECOND).replace(tzinfo=datetime.UTC)
    shown = shown.astimezone(zoneinfo.ZoneInfo("Europe/London"))
    assert shown.replace(tzinfo=None) == datetime.datetime(2024, 3, 31, 2, 30)


def test_times_beyond_the_calendar():
    ends = np.array([-(2**63) + 1, 2**63 - 1])
    earliest, latest = Clock("America/New_York").to_utc(ends).tolist()
    # Behind UTC: the earliest is later there, and the latest cannot be.
    assert -(2**63) + 1 < earliest < -(2**63) + 6 * HOUR
    assert latest == 2**63 - 1
    assert clock_of("UTC").to_utc(ends).tolist() == ends.tolist()
    assert clock_of("Europe/London").to_utc(np.array([], np.int64)).tolist() == []
