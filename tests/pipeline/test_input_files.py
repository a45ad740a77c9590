import bz2
import gzip
import inspect
import re

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptiverec.common.errors import InvalidValueError, NotFoundError, StageError
from adaptiverec.pipeline import prepare
from adaptiverec.pipeline.file_parts import TextForm
from adaptiverec.pipeline.input_files import InputFile, find_files, split_into_ranges
from adaptiverec.pipeline.options import PrepareOptions
from adaptiverec.pipeline.read_blocks import read_blocks
from adaptiverec.pipeline.transcode import TextEncoding

DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(prepare).parameters.items()
}
GOOD = "user,item,time\na,x,1\nb,y,2\n"


def find(*paths, **given):
    columns = {"user_column": "user", "item_column": "item", "time_column": "time"}
    files = {"input": [str(path) for path in paths], "output": "out"}
    return find_files(
        PrepareOptions.checked(**{**DEFAULTS, **columns, **files, **given})
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.text("ab", max_size=9), max_size=12),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.integers(1, 30),
    st.sampled_from([(None, 1), ("gzip", 1), (None, 2), ("gzip", 4)]),
)
def test_every_line_is_in_one_block(tmp_path, lines, ending, ended, size, way):
    """Blocks are whole lines that join to the file, each with its offset."""
    compression, unit = way
    codec = {1: "utf-8", 2: "utf-16-be", 4: "utf-32-be"}[unit]
    header = "the header\n".encode(codec)
    text = ending.join(lines) + (ending if ended else "")
    data = header + text.encode(codec)
    path = tmp_path / "log"
    path.write_bytes(gzip.compress(data) if compression else data)
    form = TextForm("jsonl", compression, TextEncoding(codec, unit, "be"))
    file = InputFile(0, str(path), path.stat().st_size, len(header), form)
    assert file.compressed == (way != (None, 1))
    ranges = split_into_ranges(file, size)
    if not file.compressed:
        assert sum(part.stored_bytes for part in ranges) == len(data) - len(header)
    blocks = [block for part in ranges for block in read_blocks(part, form, size)]
    at = len(header)
    for block in blocks:
        assert block.offset == at
        assert block.data
        at += len(block.data) * unit
        assert block.data.endswith(b"\n") or at == len(data)
    assert b"".join(block.data for block in blocks) == text.encode()


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_a_line_longer_than_a_block(tmp_path, size):
    path = tmp_path / "log.gz"
    data = b"a" * 3_000_000 + b"\nb\n"
    path.write_bytes(gzip.compress(data))
    form = TextForm("jsonl", "gzip", TextEncoding("utf-8"))
    file = InputFile(0, str(path), path.stat().st_size, 0, form)
    (part,) = split_into_ranges(file, 100_000)
    assert b"".join(block.data for block in read_blocks(part, form, size)) == data


def test_a_file_without_rows_has_no_ranges(log):
    assert split_into_ranges(InputFile(0, "x", 0, 0, None), 10) == []
    names = ("empty.csv", "empty.jsonl", "empty.parquet", "empty.avro", "empty.csv.gz")
    for file in find(*(log("", name) for name in names)):
        assert split_into_ranges(file, 10) == []
    for data in ("user,item,time", "user,item,time\n", "\n\n", "user,item,time\n\n"):
        for encoding in ("utf-8", "utf-16"):
            path = log(data.encode(encoding), "none.csv")
            (file,) = find(path, encoding=encoding)
            form = file.form
            for part in split_into_ranges(file, 10):
                blocks = read_blocks(part, form, 10)
                assert b"".join(block.data for block in blocks).strip() == b""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("log", ("csv", None)),
        ("log.txt", ("csv", None)),
        ("LOG.CSV.GZ", ("csv", "gzip")),
        ("log.tsv.bz2", ("csv", "bz2")),
        ("log.csv.zst", ("csv", "zstd")),
        ("log.csv.zstd", ("csv", "zstd")),
        ("log.jsonl", ("jsonl", None)),
        ("log.ndjson.gz", ("jsonl", "gzip")),
        ("log.json.zst", ("jsonl", "zstd")),
    ],
)
def test_the_extension_tells_the_format(log, read_rows, name, expected):
    kind, compression = expected
    text = GOOD
    if kind == "jsonl":
        text = '{"user":"a","item":"x","time":1}\n{"user":"b","item":"y","time":2}\n'
    data = compress(text.encode(), compression)
    (file,) = find(log(data, name))
    assert (file.form.format, file.form.compression) == expected
    assert [row["user"] for row in read_rows(file.path).good] == ["a", "b"]


def compress(data, compression):
    if compression == "gzip":
        return gzip.compress(data)
    if compression == "bz2":
        return bz2.compress(data)
    if compression == "zstd":
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(data)
        return sink.getvalue().to_pybytes()
    return data


@pytest.mark.parametrize("compression", ["gzip", "bz2", "zstd"])
def test_a_compressed_file_that_was_cut_off(log, read_rows, compression):
    rows = "".join(f"u{n * 7919 % 997},i{n * 31 % 101},{n}\n" for n in range(30_000))
    data = compress(b"user,item,time\n" + rows.encode(), compression)
    option = {"bz2": "bzip2"}.get(compression, compression)
    whole = read_rows(log(data, "log"), compression=option)
    assert len(whole.good) == 30_000
    # Twice in one file, as tools that append leave it.
    assert len(read_rows(log(data + data, "log"), compression=option).good) == 60_000
    for cut in (len(data) - 1, len(data) // 2, 3):
        path = log(data[:cut], "log")
        with pytest.raises(Exception, match=r"runcated|readable") as caught:
            read_rows(path, compression=option)
        assert type(caught.value).__name__ in ("DamagedFileError", "StageError")


def test_text_given_as_compressed(log):
    message = "An input file must be readable to its end. Received: .*log"
    with pytest.raises(StageError, match=message):
        find(log(GOOD), compression="zstd")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (gzip.compress(b"x", mtime=0), "a gzip file; give it as `compression`"),
        (bz2.compress(b"x"), "a bzip2 file; give it as `compression`"),
        (compress(b"x", "zstd"), "a zstd file; give it as `compression`"),
        (b"PAR1\x15\x04", "a Parquet file; give it as `format`"),
        (b"Obj\x01\x04", "an Avro file; give it as `format`"),
    ],
)
def test_a_file_that_is_no_text(log, data, what):
    with pytest.raises(InvalidValueError, match=re.escape(f"which is {what}")):
        find(log(data))


def test_parquet_is_not_compressed_as_a_whole(log):
    with pytest.raises(
        InvalidValueError, match=r"as a whole. Received: .*a\.parquet\.gz"
    ):
        find(log("x", "a.parquet.gz"))


def positions(path, **given):
    (file,) = find(path, **given)
    return dict(file.form.positions)


def test_columns_by_name_or_position(log):
    path = log("user,item,time,0\na,x,1,b\n")
    assert positions(path) == {"user": 0, "item": 1, "time": 2}
    # A name goes first.
    given = {"user_column": "0", "item_column": "1", "time_column": "2"}
    assert positions(path, **given) == {"user": 3, "item": 1, "time": 2}
    for file in find(path, header=False, **given):
        assert dict(file.form.positions) == {"user": 0, "item": 1, "time": 2}
        assert file.data_start == 0
    extras = {"passthrough_columns": ["0", "time"], "rating_column": "2"}
    assert positions(path, **extras) == {
        "user": 0,
        "item": 1,
        "time": 2,
        "rating": 2,
        "extra/0": 3,
        "extra/time": 2,
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"user_column": "usr"},
            "`user_column` must name one column of every file; the columns are 'user', "
            "'item', 'time'. Received: 'usr', which is not there, for ",
        ),
        (
            {"passthrough_columns": ["note"]},
            "`passthrough_columns` must name one column of every file",
        ),
        (
            {"rating_column": "3"},
            "`rating_column` must be a position from 0 to 2, since the first line has 3 "
            "fields; the columns are 'user', 'item', 'time'. Received: '3', which is no "
            "name either, for ",
        ),
    ],
)
def test_a_column_that_is_not_there(log, given, message):
    with pytest.raises(NotFoundError, match=re.escape(message)):
        find(log(GOOD), **given)


def test_headers_as_they_may_be_written(log):
    ways = [
        ('"us,er","item","time"\n', {"user_column": "us,er"}),
        ("'us\"er',item,time\n", {"user_column": 'us"er', "quote": "'"}),
        ('"user",item,time\n', {"user_column": '"user"', "quote": ""}),
        ('"us::er"::item::time\n', {"user_column": "us::er", "delimiter": "::"}),
        ('"us\ner",item,time\n', {"user_column": "us\ner", "multiline": True}),
        (
            '"us\n::er"::item::time\r\n',
            {"user_column": "us\n::er", "multiline": True, "delimiter": "::"},
        ),
        ("\n\r\nus\u00e9r,item,time\n", {"user_column": "us\u00e9r"}),
        ("\ufeffuser,item,time\n", {}),
    ]
    for header, options in ways:
        path = log(header + "a,x,1\n")
        (file,) = find(path, **options)
        assert dict(file.form.positions) == {"user": 0, "item": 1, "time": 2}
        assert file.data_start == len(header.encode())


def test_a_first_line_that_never_ends(log):
    message = "The first line of an input file must be a row of at most 1048576 bytes"
    with pytest.raises(NotFoundError, match=message):
        find(log("user,item,time" * 100_000))


def test_the_pattern_of_times_is_checked(log):
    for pattern in ("%Q", "%d %", "%Y %Y"):
        message = "`time_format` must be a pattern that Python's strptime can read. Rec"
        with pytest.raises(InvalidValueError, match=re.escape(message)):
            find(log(GOOD), time_format=pattern)
    for pattern in ("%d %b %Y %I:%M %p", "%c", "%Y-%m-%d %Z", "%G-W%V-%u", "%j %y%%"):
        find(log(GOOD), time_format=pattern)


def test_keys_of_json_lines(log):
    path = log('{"user":"a","item":"x","time":1}\n{"user":"b","more":2}\n', "a.jsonl")
    message = (
        "`user_column` must name a key of the objects; the first of them have 'item', "
        "'more', 'time', 'user'. Received: 'usr', which is not there, for "
    )
    with pytest.raises(NotFoundError, match=re.escape(message) + ".*jsonl"):
        find(path, user_column="usr")
    # One file may well be without what only some objects have; all of them may not.
    find(
        path, log('{"user":"a","item":"x","time":1}\n', "b.jsonl"), event_column="more"
    )
    with pytest.raises(NotFoundError, match="'coupon', which is not there, for any of"):
        find(path, passthrough_columns=["coupon"])
    # Rows that are no objects are rejected one by one; see test_parse_json.
    find(log("oops\n", "c.jsonl"))


def test_json_that_is_one_list(log):
    message = (
        "must have one object on each line. Received: .*, which begins with a list"
    )
    with pytest.raises(InvalidValueError, match=message):
        find(log('[{"user":"a"},\n{"user":"b"}]\n', "a.json"))


@pytest.mark.parametrize("name", ["a.parquet", "a.avro"])
def test_a_file_that_is_not_what_its_name_says(log, name):
    with pytest.raises(
        StageError, match="must be readable to its end. Received: .*" + name
    ):
        find(log("user,item,time\n" * 9, name))
