"""Rows of several lines, and delimiters of several characters."""

import csv
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptiverec.pipeline import delimiters, parse_block, quoting, records

HEADER = "user,item,time,note\n"


def notes(rows):
    return [(row["user"], row["extra/note"]) for row in rows.good]


@given(st.lists(st.text('a",\r', max_size=9), max_size=4), st.booleans())
def test_lines_that_need_no_second_look(lines, ended):
    """Only lines that certainly close their quotes are passed over."""
    data = "\n".join(lines).encode() + (b"\n" if ended else b"")
    nexts = records._line_ends(data)
    suspects = records._suspects(data, nexts, b",", b'"').tolist()
    for number, line in enumerate(data.split(b"\n")[: len(nexts)]):
        if quoting.ends_inside_quotes(line, b",", b'"'):
            assert number in suspects


@pytest.fixture(scope="session")
def read(read_rows):
    def run(path, **given):
        options = {"passthrough_columns": ["note"], "multiline": True, **given}
        return read_rows(path, **options)

    return run


field = st.one_of(
    st.text('a",\n\r \u00e9', max_size=8),
    st.sampled_from(
        ["plain", "two\nlines", "\n\n", "b,c", 'say "hi"', "x\r\ny", "x\ry"]
    ),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from("abc"), field), max_size=8),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.integers(1, 60),
    st.sampled_from([",", "::", "\u00a7"]),
    st.sampled_from(["utf-8", "utf-16", "cp1252"]),
)
def test_what_the_standard_library_writes(
    log, read, rows, ending, quoting, size, delimiter, encoding
):
    if any("\r" in note for _, note in rows):
        # Not every release of it quotes a carriage return.
        quoting = csv.QUOTE_ALL
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator=ending, quoting=quoting, delimiter="\x1e")
    writer.writerow(["user", "item", "time", "note"])
    for user, note in rows:
        # csv knows delimiters of one character; a field with one has to be quoted.
        writer.writerow([user, "x", "1", note.replace(",", "\x1e")])
    text = sink.getvalue().replace("\x1e", delimiter)
    read_back = read(
        log(text.encode(encoding)),
        delimiter=delimiter,
        encoding=encoding,
        block_bytes=size,
    )
    assert read_back.rejected == []
    expected = [(user, note.replace(",", delimiter)) for user, note in rows]
    assert notes(read_back) == expected
    assert read_back.num_parts <= 1


def test_a_stray_quote_takes_nothing_along(log, read):
    lines = [
        "a,x,1,ok",
        'b,x,1,"stray',
        "c,x,1,ok",
        'd,x,1,"two\nlines"',
        'e,x,1,"closed" late',
        'f,x,1,"stray again',
        'g,x,1,5" pipe',
        'h,x,"1","ok"',
    ]
    rows = read(log(HEADER + "\n".join(lines)))
    assert notes(rows) == [
        ("a", "ok"),
        ("c", "ok"),
        ("d", "two\nlines"),
        ("e", "closed late"),
        ("g", '5" pipe'),
        ("h", "ok"),
    ]
    assert [row[1:] for row in rows.rejected] == [
        ("quote not closed", 'b,x,1,"stray'),
        ("quote not closed", 'f,x,1,"stray again'),
    ]
    text = HEADER + "\n".join(lines)
    assert [row[0] for row in rows.rejected] == [text.index("b,x"), text.index("f,x")]


def test_a_row_of_several_lines_is_at_most_a_mebibyte(log, read):
    for length, fits in (((1 << 20) - 100, True), (1 << 20, False)):
        # Its lines would be no rows by themselves.
        long = "a\n" * (length // 2)
        text = f'{HEADER}a,x,1,"{long}"\nb,x,1,ok\n'
        for size in (1 << 16, 1 << 23):
            rows = read(log(text), block_bytes=size)
            assert ("b", "ok") in notes(rows)
            assert (("a", long) in notes(rows)) == fits
            if not fits:
                assert rows.rejected[0][1] == "quote not closed"
                assert len(rows.rejected) == length // 2 + 1


def test_a_stray_quote_does_not_cost_the_rest_of_a_long_file(log, read):
    rows = [f"u{n},i,1,n{n}" for n in range(100_000)]
    rows[5] = 'bad,i,1,"open'
    read_back = read(log(HEADER + "\n".join(rows)), block_bytes=1 << 18)
    assert len(read_back.good) == 99_999
    assert [row[2] for row in read_back.rejected] == ['bad,i,1,"open']


def test_rows_of_several_lines_with_other_dirt(log, read):
    text = HEADER + 'a\rb,x,1,n\n"u\nv",x,1,n\na,x,soon,"two\nlines"\n,x,1,"\r"\n'
    rows = read(log(text))
    assert rows.good == []
    assert [row[1:] for row in rows.rejected] == [
        ("carriage return inside the row", "a\rb,x,1,n"),
        ("control character in user", '"u\nv",x,1,n'),
        ("time is not a number", 'a,x,soon,"two\nlines"'),
        ("user is missing", ',x,1,"\r"'),
    ]


def test_the_quick_way_is_taken_for_clean_blocks(log, read, monkeypatch):
    def never(*_):
        raise AssertionError("the careful way was taken")

    monkeypatch.setattr(parse_block, "parse_lines", never)
    text = HEADER + 'a,x,1,"two\nlines"\r\n\r\nb,x,2,"x\r\ny"\n'
    assert notes(read(log(text))) == [("a", "two\nlines"), ("b", "x\r\ny")]
    text = text.replace(",", "::").replace('"two', '"two::')
    assert notes(read(log(text), delimiter="::"))[0] == ("a", "two::\nlines")


def test_without_multiline_such_rows_are_rejected(log, read):
    rows = read(log(HEADER + 'a,x,1,"two\nlines"\nb,x,1,ok\n'), multiline=False)
    assert notes(rows) == [("b", "ok")]
    assert [row[1] for row in rows.rejected] == [
        "quote not closed in its line",
        "wrong number of fields",
    ]


@pytest.mark.parametrize(
    "delimiter", ["::", "||", "\u00a7", "\t|", "ab", "\U0001f600", "  "]
)
@pytest.mark.parametrize("multiline", [False, True])
def test_delimiters_of_several_bytes(log, read, delimiter, multiline):
    # Control characters are data, and must not be taken for delimiters.
    lines = [
        "user,item,time,note",
        "a,x,1,\x1f\x1e",
        'b,x,1,"q,q"',
        "c,x,1,:|",
        ",x,1,",
        "d,x,1,n,more",
    ]
    text = "\n".join(lines).replace(",", delimiter)
    rows = read(log(text), delimiter=delimiter, multiline=multiline)
    assert notes(rows) == [("a", "\x1f\x1e"), ("b", f"q{delimiter}q"), ("c", ":|")]
    assert rows.rejected == [
        (
            len(text[: text.rindex(f"\n{delimiter}") + 1].encode()),
            "user is missing",
            lines[4].replace(",", delimiter),
        ),
        (
            len(text[: text.rindex("\n") + 1].encode()),
            "wrong number of fields",
            lines[5].replace(",", delimiter),
        ),
    ]


def test_a_block_with_every_control_character(log, read_rows):
    dirt = "".join(map(chr, [*range(1, 9), 11, 12, *range(14, 32), 127]))
    lines = ["user::item::time", "a::x::1", f"b::{dirt}::2", "c::x::3", "::x::4"]
    text = "\n".join(lines) + "\n"
    rows = read_rows(log(text), delimiter="::")
    assert [row["user"] for row in rows.good] == ["a", "c"]
    assert [(offset, reason) for offset, reason, _ in rows.rejected] == [
        (text.index("b::"), "control characters throughout the row"),
        (text.index("::x::4"), "user is missing"),
    ]
    # A block with all but one is read as ever.
    fine = "".join(chr(code) for code in range(1, 32) if code not in (9, 10, 13, 20))
    path = log(f"user::item::time::note\na::x::1::{fine}\x7f\n")
    (row,) = read_rows(path, delimiter="::", passthrough_columns=["note"]).good
    assert row["extra/note"] == f"{fine}\x7f"


@given(st.binary(max_size=30), st.sampled_from([b"::", b"ab", b"\xc2\xa7"]))
def test_a_stand_in_is_one_that_was_not_there(data, delimiter):
    found, stand_in = delimiters.with_stand_in(data, delimiter)
    assert stand_in not in data
    assert found.split(stand_in) == data.split(delimiter)


@pytest.mark.parametrize(
    ("quote", "text", "expected"),
    [
        ("'", "'a,b',\"x\",1,'it''s'\n", ("a,b", '"x"', "it's")),
        ("", '"a,\'x\',1,""\n', ('"a', "'x'", '""')),
        ('"', "'a,x',1,n\n", ("'a", "x'", "n")),
    ],
)
@pytest.mark.parametrize("multiline", [False, True])
def test_quotes(log, read, quote, text, expected, multiline):
    rows = read(log(HEADER + text + ",x,1,n\n"), quote=quote, multiline=multiline)
    (row,) = rows.good
    assert (row["user"], row["item"], row["extra/note"]) == expected
    assert [reason for _, reason, _ in rows.rejected] == ["user is missing"]
