"""Ids, orders, ratings, events, and which rows count, against plain Python."""

import datetime
import math
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

WHITE_SPACE = " \t\n\r\x0b\x0c"


@pytest.mark.parametrize(
    ("column", "text", "result"),
    [
        ("order_column", "5", 5),
        ("order_column", " -7\t", -7),
        ("order_column", "9223372036854775807", 2**63 - 1),
        ("order_column", "", "order is missing"),
        ("order_column", "  ", "order is missing"),
        ("order_column", "5.0", "order is not an integer"),
        ("order_column", "1e3", "order is not an integer"),
        ("order_column", "9223372036854775808", "order is not an integer"),
        ("order_column", "first", "order is not an integer"),
        ("rating_column", "5", 5.0),
        ("rating_column", " -0.25 ", -0.25),
        ("rating_column", "1e-3", 0.001),
        ("rating_column", "", "rating is missing"),
        ("rating_column", "good", "rating is not a number"),
        ("rating_column", "nan", "rating is not a number"),
        ("rating_column", "-inf", "rating is not a number"),
        ("rating_column", "1e999", "rating is not a number"),
        ("rating_column", "4,5", "rating is not a number"),
        ("event_column", "buy", "buy"),
        ("event_column", "", ""),
        ("event_column", " a\x00\x1b\u2028 ", " a\x00\x1b\u2028 "),
        ("passthrough_columns", "", ""),
        ("passthrough_columns", "a\x00\tb", "a\x00\tb"),
        ("passthrough_columns", "\ufffd\u0085", "\ufffd\u0085"),
    ],
)
def test_a_value(log, read_rows, column, text, result):
    given_column = ["more"] if column == "passthrough_columns" else "more"
    path = log(f'user,item,time,more\na,x,1,"{text}"\n')
    field = {
        "order_column": "order",
        "rating_column": "rating",
        "event_column": "event",
        "passthrough_columns": "extra/more",
    }[column]
    # Beside a good row it is read as a whole column, and beside a bad one by itself.
    good, bad = "b,x,1,8\n", "b,x,1\n"
    for more in (good, bad):
        path = log(f'user,item,time,more\na,x,1,"{text}"\n{more}')
        rows = read_rows(path, **{column: given_column})
        if isinstance(result, str) and result.startswith(("order", "rating")):
            assert rows.rejected[0][1] == result
        else:
            assert rows.good[0][field] == result


def test_without_a_time_column(log, read_rows):
    rows = read_rows(
        log("user,item,rank\na,x,5\nb,y,\n"), time_column=None, order_column="rank"
    )
    assert rows.good == [{"user": "a", "item": "x", "time": 0, "order": 5}]
    assert [row[1] for row in rows.rejected] == ["order is missing"]


ids = st.text(
    st.one_of(
        st.sampled_from("aBZ 1\u0130\u00df\u03a3\u01c5\u00c9\u212a\U00010400\x1c\xa0"),
        st.sampled_from(WHITE_SPACE),
    ),
    max_size=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ids, min_size=1, max_size=6), st.booleans(), st.booleans())
def test_ids_as_plain_python_has_them(tmp_path, read_rows, users, trim, lower):
    """Parquet, so that ids can be anything."""
    import pyarrow.parquet as pq

    table = pa.table(
        {"user": users, "item": ["x"] * len(users), "time": [1] * len(users)}
    )
    pq.write_table(table, tmp_path / "log.parquet")
    expected, reasons = [], []
    for user in users:
        ready = user.strip(WHITE_SPACE) if trim else user
        ready = ready.lower() if lower else ready
        if not ready.strip():
            reasons.append("user is missing")
        elif any(c < " " or "\x7f" <= c < "\xa0" or c in "\u2028\u2029" for c in ready):
            reasons.append("control character in user")
        else:
            expected.append(ready)
    rows = read_rows(tmp_path / "log.parquet", trim_ids=trim, lowercase_ids=lower)
    assert [row["user"] for row in rows.good] == expected
    assert [row[1] for row in rows.rejected] == reasons


def test_ids_are_trimmed_and_lowered_in_text(log, read_rows):
    path = log("user,item,time\n A1\t,X \xc9,1\na1,x \xe9,2\n")
    rows = read_rows(path, trim_ids=True, lowercase_ids=True)
    assert [(row["user"], row["item"]) for row in rows.good] == [("a1", "x \xe9")] * 2
    assert len(read_rows(path).good) == 1


rows_of_events = st.lists(
    st.tuples(
        st.sampled_from(["view", "buy", "", "cart"]),
        st.sampled_from([1.0, 3.0, 5.0, math.nan]),
        st.integers(0, 9),
    ),
    max_size=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows_of_events,
    st.sampled_from([None, ["buy"], ["buy", "view", ""]]),
    st.sampled_from([None, 3.0]),
    st.sampled_from([None, 2]),
    st.sampled_from([None, 7]),
)
def test_which_rows_count(tmp_path, tallied, rows, events, least, start, end):
    """A row that several rules filter counts for the first of them."""
    if events and "" in events:
        # Options are texts that are not empty.
        events = events[:2]
    path = tmp_path / "log.csv"
    lines = [
        f"u{n},x,{time},{event},{rating}\n"
        for n, (event, rating, time) in enumerate(rows)
    ]
    path.write_text("user,item,time,event,rating\n" + "".join(lines))
    day = datetime.datetime(1970, 1, 1)
    expected = Counter({"rows_read": len(rows)} if rows else {})
    kept = []
    for n, (event, rating, time) in enumerate(rows):
        if math.isnan(rating):
            expected["rejected: rating is not a number"] += 1
        elif events and event not in events:
            expected["filtered: event_types"] += 1
        elif least is not None and rating < least:
            expected["filtered: min_rating"] += 1
        elif start is not None and time < start:
            expected["filtered: start_time"] += 1
        elif end is not None and time >= end:
            expected["filtered: end_time"] += 1
        else:
            kept.append(f"u{n}")
    tally, users = tallied(
        path,
        event_types=events,
        min_rating=least,
        event_column="event",
        rating_column="rating",
        **{
            name: None if at is None else f"{day + datetime.timedelta(seconds=at)}"
            for name, at in (("start_time", start), ("end_time", end))
        },
    )
    assert tally == expected
    assert users == kept


@pytest.fixture(scope="session")
def tallied(tmp_path_factory):
    """What the step itself counts, and the users of the rows that are left."""
    import inspect

    from adaptiverec.pipeline import prepare
    from adaptiverec.pipeline.input_files import find_files, split_into_ranges
    from adaptiverec.pipeline.job import TALLY, Job
    from adaptiverec.pipeline.options import PrepareOptions
    from adaptiverec.pipeline.output_files import Places
    from adaptiverec.pipeline.read_rows import ReadRows
    from adaptiverec.pipeline.shuffle import Shuffle

    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(prepare).parameters.items()
    }

    def run(path, **given):
        columns = {"user_column": "user", "item_column": "item", "time_column": "time"}
        files = {"input": [str(path)], "output": "out"}
        options = PrepareOptions.checked(**{**defaults, **columns, **files, **given})
        directory = tmp_path_factory.mktemp("places")
        for name in (".work", "rejected"):
            (directory / name).mkdir()
        places = Places(str(directory))
        step = ReadRows(Job(options, places, Shuffle(None), 1, 1 << 20))
        step.setup()
        tally, users = Counter(), []
        for file in find_files(options):
            for part in split_into_ranges(file, 1 << 20):
                for output in step.process(part):
                    if getattr(output, "tag", None) == TALLY:
                        tally.update(output.value)
                    elif isinstance(output, tuple):
                        batch = Shuffle(None).get(output[1])
                        users += batch.column("user").to_pylist()
        return tally, users

    return run
