"""Times by patterns, against Python's own ``strptime``."""

import datetime

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adaptiverec.pipeline.time_patterns import parse_times
from adaptiverec.pipeline.time_zones import clock_of

EPOCH = datetime.datetime(1970, 1, 1)
PATTERNS = [
    "%d/%m/%Y %H:%M",
    "%Y-%m-%d %H:%M:%S.%f",
    "%Y%m%d%H%M%S",
    "%Y%m%d",
    "%m/%d/%Y",
    "%Y",
    "%S%M%H %d%m%Y",
    "%H:%M",
    "%f%Y",
    "%d%f %Y",
    "%d.%m.%y",
    "%d %b %Y %I:%M %p",
    "%Y-%m-%dT%H:%M:%S%z",
    "%Y-%j",
    "T%d\t%m  %Y%%",
    "%d\u00e9%m\u00e9%Y",
    "1%d%m%Y",
]


def by_python(text, pattern):
    """Microseconds since 1970, or None."""
    try:
        moment = datetime.datetime.strptime(text, pattern)
    except ValueError:
        return None
    local = (moment.replace(tzinfo=None) - EPOCH) // datetime.timedelta(microseconds=1)
    offset = moment.utcoffset() or datetime.timedelta(0)
    return local - offset // datetime.timedelta(microseconds=1)


def by_us(texts, pattern):
    times, unreadable = parse_times(
        pa.array(texts, pa.string()), pattern, clock_of("UTC")
    )
    return [
        None if bad else int(time) for time, bad in zip(times, unreadable, strict=True)
    ]


def changed(text):
    """Texts that are nearly right: what a quick way gets wrong."""
    return st.one_of(
        st.just(text),
        st.integers(0, len(text)).map(lambda n: text[:n] + text[n + 1 :]),
        st.tuples(st.integers(0, len(text)), st.sampled_from("0123 9-/:.+\u0663Z")).map(
            lambda change: text[: change[0]] + change[1] + text[change[0] + 1 :]
        ),
    )


moments = st.datetimes(
    timezones=st.sampled_from(
        [datetime.UTC, datetime.timezone(datetime.timedelta(hours=-5, minutes=-30))]
    )
)


@pytest.mark.parametrize("pattern", PATTERNS)
@given(data=st.data())
def test_what_python_reads(pattern, data):
    some = data.draw(st.lists(moments, min_size=1, max_size=4))
    texts = []
    for moment in some:
        # The C library does not pad years below 1000.
        written = moment.strftime(pattern.replace("%Y", f"{moment.year:04d}"))
        texts.append(data.draw(changed(written)))
    assert by_us(texts, pattern) == [by_python(text, pattern) for text in texts]


@pytest.mark.parametrize("pattern", ["%Y%m%d", "%d%m%Y", "%Y%m%d%H%M%S", "%H%M %Y"])
@given(texts=st.lists(st.text("0123456789 ", min_size=7, max_size=15), max_size=6))
@example(texts=["20240230", "20230229", "20240229", "00000101", "2024 1 1", "20241301"])
def test_digits_that_may_be_no_time(pattern, texts):
    assert by_us(texts, pattern) == [by_python(text, pattern) for text in texts]


def test_every_day_of_the_calendar_we_live_in():
    first = datetime.date(1899, 12, 30)
    days = [first + datetime.timedelta(days=n) for n in range(75_000)]
    texts = [day.strftime("%d/%m/%Y") for day in days]
    expected = [(day - EPOCH.date()).days * 86_400_000_000 for day in days]
    assert by_us(texts, "%d/%m/%Y") == expected


def test_local_times_are_those_of_the_time_zone():
    texts = pa.array(["01/07/2024 12:00", "1/7/2024 12:00"])
    times, _ = parse_times(texts, "%d/%m/%Y %H:%M", clock_of("Europe/Paris"))
    assert times.tolist() == [1_719_828_000_000_000] * 2
    # A text that names its zone means that one.
    zoned = pa.array(["01/07/2024 +0000"])
    times, _ = parse_times(zoned, "%d/%m/%Y %z", clock_of("Europe/Paris"))
    assert times.tolist() == [1_719_792_000_000_000]
