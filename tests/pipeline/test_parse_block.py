import csv
import dataclasses
import inspect
import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adaptiverec.pipeline import parse_block, parse_lines, prepare, quoting
from adaptiverec.pipeline.file_parts import CsvForm
from adaptiverec.pipeline.options import PrepareOptions
from adaptiverec.pipeline.parse_block import BlockParser
from adaptiverec.pipeline.reject import Rejects
from adaptiverec.pipeline.row_rules import RowRules
from adaptiverec.pipeline.transcode import TextBlock, TextEncoding

UTF8 = TextEncoding("utf-8")
POSITIONS = (("user", 0), ("item", 1), ("time", 3))
FORM = CsvForm("csv", None, UTF8, ",", '"', False, 4, POSITIONS)
DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(prepare).parameters.items()
}


def options(**given):
    columns = {"user_column": "u", "item_column": "i", "time_column": "t"}
    files = {"input": ["x"], "output": "y"}
    return PrepareOptions.checked(**{**DEFAULTS, **columns, **files, **given})


def parse(data, form=FORM, **given):
    chosen = options(**given)
    parser = BlockParser(chosen, RowRules(chosen))
    return parser.parse(TextBlock.at(data, 0), form)


def careful(data, form=FORM, **given):
    rules = RowRules(options(**given))
    parsed = parse_lines.parse_lines(TextBlock.at(data, 0), form, rules)
    return rows(parsed.batch), parsed.rejects


def rows(batch):
    return [tuple(row.values()) for row in batch.to_pylist()]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"u,i,x", "wrong number of fields"),
        (b"u,i,x,1,", "wrong number of fields"),
        (b"   ", "wrong number of fields"),
        (b'u,i,"a,b,1', "quote not closed in its line"),
        (b'u,i,x"y,"1', "quote not closed in its line"),
        (b"u,i,a\rb,1", "carriage return inside the row"),
        (b",i,x,1", "user is missing"),
        (b"  ,i,x,1", "user is missing"),
        (b'"",i,x,1', "user is missing"),
        ("\u3000,i,x,1".encode(), "user is missing"),
        (b"u, ,x,1", "item is missing"),
        (b"u,i,x,", "time is missing"),
        (b"u,i,x,later", "time is not a number"),
        (b"u,i,x,99999999999999", "time is out of range"),
        (b"\xff,i,x,1", "text is not UTF-8"),
        (b"u,i\xc3,x,1", "text is not UTF-8"),
        (b"u\t1,i,x,1", "control character in user"),
        (b"u,i\x00,x,1", "control character in item"),
        ("u,i\x85,x,1".encode(), "control character in item"),
        ("u,i\u2028j,x,1".encode(), "control character in item"),
    ],
)
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_a_bad_row_is_named_and_leaves_its_neighbours_alone(line, reason, ending):
    data = b"a,b,c,1" + ending + line + ending + b'"d, e",f,g,2' + ending
    parsed = parse(data)
    assert rows(parsed.batch) == [("a", "b", 1_000_000), ("d, e", "f", 2_000_000)]
    assert parsed.rejects.reasons == [reason]
    assert parsed.rejects.rows == [line.decode("utf-8", "backslashreplace")]
    assert parsed.rejects.offsets == [7 + len(ending)]
    assert parsed.rows_read == 3


def test_only_the_columns_that_are_needed_must_be_text():
    data = b"u,i,caf\xe9,1\n"
    assert rows(parse(data).batch) == [("u", "i", 1_000_000)]


def test_ids_stay_as_they_are():
    data = (
        '17850.0, 7 ,x,1\nNULL,nan,x,2\n"a""b",\u00e9,x,3\n5" pipe,0x1,x,4\n'.encode()
    )
    expected = [
        ("17850.0", " 7 ", 1_000_000),
        ("NULL", "nan", 2_000_000),
        ('a"b', "\u00e9", 3_000_000),
        ('5" pipe', "0x1", 4_000_000),
    ]
    assert rows(parse(data).batch) == expected
    assert careful(data)[0] == expected


def test_a_quoted_line_break_is_two_rejected_rows():
    data = b'a,b,c,1\nu,i,"two\nlines",5\nd,e,f,2\n'
    parsed = parse(data)
    assert [user for user, _, _ in rows(parsed.batch)] == ["a", "d"]
    assert parsed.rejects.reasons == [
        "quote not closed in its line",
        "wrong number of fields",
    ]


def test_an_open_quote_at_the_end_is_rejected_wherever_the_block_ends():
    line = b'u,i,1,"open\n'
    form = dataclasses.replace(FORM, positions=(("user", 0), ("item", 1), ("time", 2)))
    for data in (line, line + b"\n\n", line[:-1], line + b"a,b,2,c\n"):
        parsed = parse(data, form)
        assert parsed.rejects.reasons == ["quote not closed in its line"]


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"\r\n\r\n", b"\n\na,b,c,1\n\n", b"a,b,c,1", b"a,b,c,1\r\n\r\n"],
)
def test_blank_lines_are_no_rows(data):
    expected = [("a", "b", 1_000_000)] if b"a" in data else []
    parsed = parse(data)
    assert rows(parsed.batch) == expected
    assert parsed.rows_read == len(expected)
    assert careful(data) == (expected, Rejects())


@pytest.mark.parametrize("delimiter", ["\t", "|", ";", "^", "-", "]", " ", "\\", "."])
def test_any_delimiter(delimiter):
    form = dataclasses.replace(FORM, delimiter=delimiter)
    data = f'u,x\nu,i,"a{delimiter}b",1\n'.replace(",", delimiter).encode()
    parsed = parse(data, form)
    assert rows(parsed.batch) == [("u", "i", 1_000_000)]
    assert parsed.rejects.reasons == ["wrong number of fields"]


field = st.one_of(
    st.sampled_from(["u1", "i 2", "5", "17850.0", "", " ", '"', '""', "\r", "\t"]),
    st.text('ab",\r \u00e9\u2028\x85', max_size=6),
)
line = st.one_of(
    st.lists(field, min_size=3, max_size=5).map(",".join),
    st.tuples(field, field, field, st.integers(0, 99).map(str)).map(",".join),
)


@given(st.lists(line, max_size=6), st.sampled_from(["\n", "\r\n"]), st.booleans())
@example(['a,b,c,"1', '2",d,e,f'], "\n", True)
def test_a_block_at_once_is_its_lines_one_by_one(lines, ending, ended):
    """Whatever the lines are: the block's result is that of each line by itself."""
    data = ending.join(lines).encode() + (ending.encode() if ended else b"")
    parsed = parse(data)
    expected_rows, expected_rejects = [], []
    offset = 0
    for text in data.split(b"\n"):
        good, rejects = careful(text)
        expected_rows += good
        expected_rejects += [
            (offset + at, reason, row)
            for at, reason, row in zip(
                rejects.offsets, rejects.reasons, rejects.rows, strict=True
            )
        ]
        offset += len(text) + 1
    assert rows(parsed.batch) == expected_rows
    got = parsed.rejects
    assert list(zip(got.offsets, got.reasons, got.rows, strict=True)) == (
        expected_rejects
    )


@given(st.text('a",', max_size=12))
def test_fields_are_counted_as_the_standard_library_does(text):
    is_open = quoting.ends_inside_quotes(text.encode(), b",", b'"')
    # A strict reader raises where a quote is still open at the end of its input.
    try:
        parsed = list(csv.reader(io.StringIO(text), strict=False))
        list(csv.reader(io.StringIO(text + "\n"), strict=False))
    except csv.Error:
        parsed = None
    in_quotes = open_by_hand(text)
    assert is_open == in_quotes
    if not is_open and parsed and text:
        line = text.encode()
        assert quoting.count_fields(line, b",", b'"') == len(parsed[0])
        fields = quoting.split_fields(line, b",", b'"')
        assert [field.decode() for field in fields] == parsed[0]


def open_by_hand(text):
    """A character at a time: at a field's start, in it, in quotes, or behind one."""
    state = "start"
    for character in text:
        if state == "quoted":
            state = "behind" if character == '"' else "quoted"
        elif state == "behind" and character == '"':
            state = "quoted"
        elif character == ",":
            state = "start"
        elif state == "start" and character == '"':
            state = "quoted"
        else:
            state = "plain"
    return state == "quoted"


def test_the_quick_way_is_taken_for_clean_blocks(monkeypatch):
    def never(*_):
        raise AssertionError("the careful way was taken")

    monkeypatch.setattr(parse_block, "parse_lines", never)
    for data in (
        b"a,b,c,1\r\n\r\n",
        b'"a, b",b c,"x",2.5\n',
        '\u00e9,i,"5"" pipe",3'.encode(),
    ):
        assert parse(data).rows_read == 1


def test_a_missing_time_among_decimals():
    parsed = parse(b"a,b,c,1.5\nd,e,f,\n")
    assert rows(parsed.batch) == [("a", "b", 1_500_000)]
    assert parsed.rejects.reasons == ["time is missing"]
