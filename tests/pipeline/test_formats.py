"""Parquet and Avro: their types, their damage, and files on another file system."""

import datetime
import decimal
import io
import json
import re
from pathlib import Path

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem, MatchResult
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptiverec.common.errors import InvalidValueError, NotFoundError, StageError
from adaptiverec.pipeline.file_parts import DamagedFileError

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture
def parquet(tmp_path):
    def write(columns, name="log.parquet", **given):
        path = tmp_path / name
        pq.write_table(pa.table(columns), path, **given)
        return path

    return write


@pytest.fixture
def avro(tmp_path):
    def write(fields, rows, name="log.avro", **given):
        path = tmp_path / name
        schema = {
            "type": "record",
            "name": "Row",
            "fields": [{"name": key, "type": kind} for key, kind in fields.items()],
        }
        with path.open("wb") as file:
            fastavro.writer(file, schema, rows, **given)
        return path

    return write


FIELDS = {"user": "string", "item": "string", "time": "long"}


@pytest.mark.parametrize(
    "ids",
    [
        pa.array(["7", "8"]),
        pa.array(["7", "8"], pa.large_string()),
        pa.array(["7", "8"]).dictionary_encode(),
        pa.array([b"7", b"8"]),
        pa.array([b"7", b"8"], pa.large_binary()),
        pa.array([b"7", b"8"], pa.binary(1)),
        pa.array([7, 8]),
        pa.array([7, 8], pa.int8()),
        pa.array([7, 8], pa.uint64()),
    ],
)
def test_ids_in_parquet(parquet, read_rows, ids):
    path = parquet({"user": ids, "item": ids, "time": [1, 2]})
    rows = read_rows(path)
    assert rows.good == [
        {"user": "7", "item": "7", "time": 1_000_000},
        {"user": "8", "item": "8", "time": 2_000_000},
    ]
    assert not rows.rejected


@pytest.mark.parametrize(
    ("given", "column", "rule"),
    [
        ({}, "user_column", "text or integers, since ids are text"),
        ({"order_column": "bad"}, "order_column", "integers, or text"),
    ],
)
@pytest.mark.parametrize(
    "kind", [pa.float32(), pa.bool_(), pa.float64(), pa.timestamp("us")], ids=str
)
def test_types_that_cannot_be_used(parquet, read_rows, given, column, rule, kind):
    bad = pa.nulls(1, kind)
    user = pa.array(["a"]) if given else bad
    path = parquet({"user": user, "item": ["x"], "time": [1], "bad": bad})
    name = "bad" if given else "user"
    message = (
        f"`{column}` must be a column of {rule}. Received: '{name}', which is {kind}"
    )
    with pytest.raises(InvalidValueError, match=re.escape(message) + ".*parquet"):
        read_rows(path, **given)


def test_nested_columns_cannot_be_used(parquet, avro, read_rows):
    path = parquet({"user": ["a"], "item": ["x"], "time": [1], "note": [[1]]})
    message = r"`passthrough_columns` must be a column of text, numbers, times or bool"
    with pytest.raises(InvalidValueError, match=message):
        read_rows(path, passthrough_columns=["note"])
    fields = {**FIELDS, "item": {"type": "array", "items": "string"}}
    path = avro(fields, [{"user": "a", "item": [], "time": 1}])
    with pytest.raises(InvalidValueError, match=r'which is \{"type": "array"'):
        read_rows(path)


def test_rows_that_cannot_be_used(parquet, avro, read_rows):
    columns = {
        "user": ["a", None, "c", "d", "", "f\n"],
        "item": ["x", "y", None, "w", "x", "x"],
        "time": [1, 2, 3, None, 5, 6],
        "extra": [1.5, None, None, None, None, None],
    }
    rows = [
        dict(zip(columns, row, strict=True))
        for row in zip(*columns.values(), strict=True)
    ]
    fields = {
        "user": ["null", "string"],
        "item": ["string", "null"],
        "time": ["null", "long"],
        "extra": ["null", "double"],
    }
    for path in (parquet(columns, row_group_size=2), avro(fields, rows)):
        # A part of one row group; row numbers go on.
        read = read_rows(path, passthrough_columns=["extra"], block_bytes=1)
        assert read.good == [
            {"user": "a", "item": "x", "time": 1_000_000, "extra/extra": "1.5"}
        ]
        assert [rejected[:2] for rejected in read.rejected] == [
            (1, "user is missing"),
            (2, "item is missing"),
            (3, "time is missing"),
            (4, "user is missing"),
            (5, "control character in user"),
        ]
        assert [json.loads(row) for _, _, row in read.rejected] == rows[1:]
        assert read.num_parts == (3 if path.suffix == ".parquet" else 1)


def test_text_that_is_not_utf8(parquet, avro, read_rows):
    bad = pa.array([b"a", b"\xff"])
    path = parquet({"user": bad.view(pa.string()), "item": bad, "time": [1, 2]})
    read = read_rows(path)
    assert [row["user"] for row in read.good] == ["a"]
    assert [rejected[:2] for rejected in read.rejected] == [(1, "text is not UTF-8")]
    path = avro(
        {**FIELDS, "item": "bytes"}, [{"user": "a", "item": b"\xff", "time": 1}]
    )
    ((_, reason, row),) = read_rows(path).rejected
    assert reason == "text is not UTF-8"
    assert json.loads(row) == {"user": "a", "item": "\\xff", "time": 1}


MOMENT = datetime.datetime(2024, 7, 1, 12, 30, 45, 123_456, tzinfo=datetime.UTC)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_timestamps_in_parquet(parquet, read_rows, unit, zone):
    # Naive ones are Paris time, two hours ahead in summer.
    column = pa.array([MOMENT.replace(tzinfo=None)], pa.timestamp("us"))
    column = column.cast(pa.timestamp(unit), safe=False).cast(pa.timestamp(unit, zone))
    path = parquet({"user": ["a"], "item": ["x"], "time": column})
    expected = MOMENT if zone else MOMENT - datetime.timedelta(hours=2)
    digits = {"s": 0, "ms": 123_000}.get(unit, 123_456)
    (row,) = read_rows(path, time_zone="Europe/Paris").good
    assert EPOCH + datetime.timedelta(microseconds=row["time"]) == expected.replace(
        microsecond=digits
    )


def test_other_times_in_parquet(parquet, read_rows):
    nulls = {"user": ["a"], "item": ["x"]}
    midnight = (MOMENT - EPOCH).days * 86_400_000_000
    for column, time_format, expected in (
        (pa.array([MOMENT.date()]), "s", midnight),
        (pa.array([1.5]), "s", 1_500_000),
        (pa.array([1_500]), "ms", 1_500_000),
        (pa.array([decimal.Decimal("1.5")]), "s", 1_500_000),
        (pa.array(["2024-07-01"]), "iso8601", midnight),
        (pa.array(["1.7.2024"]).dictionary_encode(), "%d.%m.%Y", midnight),
        (pa.array([20240701]), "%Y%m%d", midnight),
    ):
        path = parquet({**nulls, "time": column})
        (row,) = read_rows(path, time_format=time_format).good
        assert row["time"] == expected
    # As Spark wrote them for long.
    path = parquet(
        {**nulls, "time": [datetime.datetime(2400, 1, 1)]},
        use_deprecated_int96_timestamps=True,
    )
    (row,) = read_rows(path).good
    assert row["time"] == 13_569_465_600_000_000


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("int", 7, 7_000_000),
        ("double", 7.5, 7_500_000),
        ("string", "7", 7_000_000),
        ({"type": "long", "logicalType": "timestamp-millis"}, 1_500, 1_500_000),
        ({"type": "long", "logicalType": "timestamp-micros"}, -1, -1),
        # Beyond what Python's calendar has.
        ({"type": "long", "logicalType": "timestamp-micros"}, 2**62, 2**62),
        ({"type": "int", "logicalType": "date"}, 1, 86_400_000_000),
        # Paris, an hour ahead in winter.
        (
            {"type": "long", "logicalType": "local-timestamp-millis"},
            7_200_000,
            3_600_000_000,
        ),
        (["null", "long"], 7, 7_000_000),
        (["int", "double"], 7, 7_000_000),
    ],
)
@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_times_in_avro(avro, read_rows, kind, value, expected, codec):
    rows = [{"user": "a", "item": "x", "time": value}]
    path = avro({**FIELDS, "time": kind}, rows, codec=codec)
    zone = "Europe/Paris" if "local" in str(kind) else "UTC"
    (row,) = read_rows(path, time_zone=zone).good
    assert row["time"] == expected


def test_other_types_in_avro(avro, read_rows):
    enum = {"type": "enum", "name": "Event", "symbols": ["view", "buy"]}
    fields = {
        "user": ["long", "string"],
        "item": {"type": "fixed", "name": "Sku", "size": 2},
        "time": "long",
        "event": enum,
        "before": ["null", "Event"],
        "ok": "boolean",
        "nested": {
            "type": "record",
            "name": "Nested",
            "fields": [{"name": "again", "type": ["null", "Nested"]}],
        },
    }
    row = {
        "user": 5,
        "item": b"ab",
        "time": 1,
        "event": "buy",
        "before": "view",
        "ok": True,
        "nested": {"again": {"again": None}},
    }
    path = avro(fields, [row, {**row, "user": "x", "before": None}])
    extras = {"event_column": "event", "passthrough_columns": ["before", "ok"]}
    first, second = read_rows(path, **extras).good
    assert first == {
        "user": "5",
        "item": "ab",
        "time": 1_000_000,
        "event": "buy",
        "extra/before": "view",
        "extra/ok": "true",
    }
    assert (second["user"], second["extra/before"]) == ("x", "")


ids = st.one_of(st.none(), st.text("ab \n\u00e9", max_size=3))
times = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(0, 9))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(ids, ids, times), max_size=12), st.integers(1, 4))
def test_every_format_gives_the_same_rows(tmp_path, read_rows, rows, size):
    """What is told by one format is what is told by the others."""
    dicts = [dict(zip(FIELDS, row, strict=True)) for row in rows]
    kinds = {"user": pa.string(), "item": pa.string(), "time": pa.int64()}
    table = pa.table(
        {
            name: pa.array([row[name] for row in dicts], kind)
            for name, kind in kinds.items()
        }
    )
    pq.write_table(table, tmp_path / "log.parquet", row_group_size=size)
    schema = {
        "type": "record",
        "name": "Row",
        "fields": [
            {"name": name, "type": ["null", kind]} for name, kind in FIELDS.items()
        ],
    }
    with (tmp_path / "log.avro").open("wb") as file:
        fastavro.writer(file, schema, dicts, sync_interval=size)
    lines = "".join(json.dumps(row) + "\n" for row in dicts)
    (tmp_path / "log.jsonl").write_text(lines)
    read = {
        name: read_rows(tmp_path / f"log.{name}", block_bytes=20)
        for name in ("parquet", "avro", "jsonl")
    }
    first = read["parquet"]
    assert len(first.good) + len(first.rejected) == len(rows)
    for other in read.values():
        assert other.good == first.good
        assert [row[1] for row in other.rejected] == [row[1] for row in first.rejected]


def test_a_column_that_is_not_there(parquet, avro, read_rows):
    columns = {"user": ["a"], "item": ["x"], "ts": [1]}
    fields = {"user": "string", "item": "string", "ts": "long"}
    paths = (parquet(columns), avro(fields, [{"user": "a", "item": "x", "ts": 1}]))
    for path in paths:
        message = (
            "`time_column` must name one column of every file; the columns are 'user', "
            f"'item', 'ts'. Received: 'time', which is not there, for {path}"
        )
        with pytest.raises(NotFoundError, match=re.escape(message)):
            read_rows(path)
        assert len(read_rows(path, time_column="ts").good) == 1


def test_files_without_rows(parquet, avro, read_rows):
    none = {
        "user": pa.array([], pa.string()),
        "item": pa.array([], pa.string()),
        "time": pa.array([], pa.int64()),
    }
    assert read_rows(parquet(none), avro(FIELDS, [])).good == []


@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_an_avro_file_cut_off_anywhere(tmp_path, avro, read_rows, codec):
    rows = [{"user": f"u{n}", "item": "x", "time": n} for n in range(40)]
    data = avro(FIELDS, rows, codec=codec, sync_interval=100).read_bytes()
    path = tmp_path / "cut.avro"
    whole = set()
    for end in range(1, len(data)):
        path.write_bytes(data[:end])
        try:
            whole.add(len(read_rows(path).good))
        except (DamagedFileError, StageError):
            continue
        # Only between blocks can nothing be noticed.
        marker = data[-16:]
        assert data[:end].endswith(marker)
    assert max(whole) < 40


@pytest.mark.parametrize("place", [0.3, 0.6, 0.999])
def test_a_damaged_file(tmp_path, parquet, avro, read_rows, place):
    rng = np.random.default_rng(5)
    users = [str(n) for n in rng.integers(0, 1 << 40, 20_000)]
    columns = {"user": users, "item": users, "time": list(range(20_000))}
    rows = [
        dict(zip(columns, row, strict=True))
        for row in zip(*columns.values(), strict=True)
    ]
    paths = (
        parquet(columns, write_page_checksum=True),
        avro(FIELDS, rows, codec="deflate"),
    )
    for path in paths:
        data = bytearray(path.read_bytes())
        at = int(len(data) * place)
        data[at : at + 40] = rng.bytes(40)[: len(data) - at]
        path.write_bytes(data)
        with pytest.raises((DamagedFileError, StageError)):
            read_rows(path)


def test_files_of_different_formats(parquet, avro, log, read_rows):
    paths = [
        parquet({"user": ["p"], "item": ["x"], "time": [1]}),
        avro(FIELDS, [{"user": "a", "item": "x", "time": 1}]),
        log("user,item,time\nc,x,1\n", "log.csv"),
        log('{"user":"j","item":"x","time":1}\n', "log.jsonl"),
    ]
    rows = read_rows(*paths)
    assert [row["user"] for row in rows.good] == ["a", "c", "j", "p"]
    assert {tuple(row.values())[1:] for row in rows.good} == {("x", 1_000_000)}


class _Memory(FileSystem):
    """A file system that is not local: its files can be read and sought, no more."""

    files: dict[str, bytes] = {}  # noqa: RUF012

    @classmethod
    def scheme(cls):
        return "memory"

    def open(self, path, mime_type="", compression_type=""):
        return io.BufferedReader(io.BytesIO(self.files[path]))

    def match(self, patterns, limits=None):
        return [
            MatchResult(
                pattern,
                [
                    FileMetadata(path, len(data))
                    for path, data in self.files.items()
                    if path == pattern
                ],
            )
            for pattern in patterns
        ]

    def _refuse(self, *_, **__):
        raise BeamIOError("read only")

    join = split = mkdirs = has_dirs = _list = create = copy = rename = exists = (
        size
    ) = last_updated = checksum = metadata = delete = _refuse


def test_files_elsewhere(parquet, avro, log, read_rows):
    paths = [
        avro(FIELDS, [{"user": "a", "item": "x", "time": 1}]),
        log("user,item,time\nc,x,1\n" * 1, "log.csv"),
        log('{"user":"j","item":"x","time":1}\n', "log.jsonl"),
        parquet(
            {"user": ["p", "q"], "item": ["x"] * 2, "time": [1, 2]}, row_group_size=1
        ),
    ]
    urls = []
    for path in paths:
        urls.append("memory://bucket/" + str(path).rsplit("/", 1)[1])
        _Memory.files[urls[-1]] = Path(path).read_bytes()
    assert [row["user"] for row in read_rows(*urls, block_bytes=5).good] == list(
        "acjpq"
    )
