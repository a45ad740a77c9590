import dataclasses
import inspect
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adaptiverec.pipeline import parse_json, prepare
from adaptiverec.pipeline.file_parts import TextForm
from adaptiverec.pipeline.options import PrepareOptions
from adaptiverec.pipeline.parse_json import JsonParser
from adaptiverec.pipeline.row_rules import RowRules
from adaptiverec.pipeline.transcode import TextBlock, TextEncoding

FORM = TextForm("jsonl", None, TextEncoding("utf-8"))
DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(prepare).parameters.items()
}


@dataclasses.dataclass
class Parsed:
    good: list
    rejected: list


def parse(data, *, careful=False, **given):
    options = PrepareOptions.checked(
        **{
            **DEFAULTS,
            "input": ["x"],
            "output": "y",
            "user_column": "u",
            "item_column": "i",
            "time_column": "t",
            **given,
        }
    )
    parser = JsonParser(options, RowRules(options))
    if careful:
        # Not even in pieces.
        parser._parse_at_once = lambda *_: None
    parsed = parser.parse(TextBlock.at(data, 100), FORM)
    rejects = parsed.rejects
    good = [tuple(row.values()) for row in parsed.batch.to_pylist()]
    rows = zip(rejects.offsets, rejects.reasons, rejects.rows, strict=True)
    return Parsed(good, list(rows))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"oops", "not a JSON object"),
        (b"[1]", "not a JSON object"),
        (b"7", "not a JSON object"),
        (b'{"u":"a","i":"x","t":1', "not a JSON object"),
        (b'{"u":"a","i":"x","t":1}{"u":"a"}', "not a JSON object"),
        (b'{"u":"a","i":"x","t":1},', "not a JSON object"),
        (b'{"u":"a","i":"x","t":01}', "not a JSON object"),
        (b"{'u':'a','i':'x','t':1}", "not a JSON object"),
        (b'{"i":"x","t":1}', "user is missing"),
        (b'{"u":null,"i":"x","t":1}', "user is missing"),
        (b'{"u":"  ","i":"x","t":1}', "user is missing"),
        (b'{"u":"a","i":"","t":1}', "item is missing"),
        (b'{"u":"a","i":"x"}', "time is missing"),
        (b'{"u":"a","i":"x","t":""}', "time is missing"),
        (b'{"u":{},"i":"x","t":1}', "user is not text or a number"),
        (b'{"u":true,"i":"x","t":1}', "user is not text or a number"),
        (b'{"u":NaN,"i":"x","t":1}', "user is not text or a number"),
        (b'{"u":"a","i":[1],"t":1}', "item is not text or a number"),
        (b'{"u":"a","i":"x","t":[1]}', "time is not text or a number"),
        (b'{"u":"a","i":"x","t":false}', "time is not text or a number"),
        (b'{"u":"a","i":"x","t":NaN}', "time is not a number"),
        (b'{"u":"a","i":"x","t":"soon"}', "time is not a number"),
        (b'{"u":"a","i":"x","t":1e300}', "time is out of range"),
        (b'{"u":"a\\nb","i":"x","t":1}', "control character in user"),
        (b'{"u":"a","i":"x\\u0000","t":1}', "control character in item"),
        (b'{"u":"\xff","i":"x","t":1}', "text is not UTF-8"),
        (b'{"u":"a","i":"\\ud800","t":1}', "text is not UTF-8"),
    ],
)
def test_a_bad_line_is_named_and_leaves_its_neighbours_alone(line, reason):
    first, last = b'{"u":"a","i":"b","t":1}\r\n', b'{"u":"d","i":"f","t":2}'
    parsed = parse(first + line + b"\n\n" + last)
    assert parsed.good == [("a", "b", 1_000_000), ("d", "f", 2_000_000)]
    row = line.decode("utf-8", "backslashreplace")
    assert parsed.rejected == [(100 + len(first), reason, row)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"u":123,"i":-5,"t":7}', ("123", "-5", 7_000_000)),
        (b'{"u":17850.0,"i":1e3,"t":7.5}', ("17850.0", "1e3", 7_500_000)),
        (b'{"u":-0,"i":0,"t":-1}', ("-0", "0", -1_000_000)),
        (
            b'{"u":123456789012345678901234567890,"i":"x","t":"7"}',
            ("123456789012345678901234567890", "x", 7_000_000),
        ),
        (b'{"u":"\\u00e9","\\u0069":"a\\"b","t":1}', ("\u00e9", 'a"b', 1_000_000)),
        (b'{"u":"a","u":"b","i":"x","t":1}', ("b", "x", 1_000_000)),
        (b'{"more":{"u":"no"},"u":"a","i":"x","t":1,"z":NaN}', ("a", "x", 1_000_000)),
        (b' {"u":"a", "i":"x","t":1}\t', ("a", "x", 1_000_000)),
        (b'{"u":"a","i":"x","t":1,"z":"\xff\\ud800"}', ("a", "x", 1_000_000)),
    ],
)
def test_values_are_as_they_are_written(line, expected):
    assert parse(line) == parse(line, careful=True) == Parsed([expected], [])


def test_other_columns():
    data = (
        b'{"u":"a","i":"x","t":1,"e":"buy","r":4.5,"n":"a\\u0000\\nb"}\n'
        b'{"u":"b","i":"y","t":2,"e":null,"r":"3","n":1.50}\n'
        b'{"u":"c","i":"z","t":3,"r":2,"n":{"k":[true,null]}}\n'
        b'{"u":"d","i":"z","t":3,"e":{},"r":2}\n'
        b'{"u":"d","i":"z","t":3,"r":"good"}\n'
        b'{"u":"d","i":"z","t":3}\n'
    )
    columns = {"rating_column": "r", "event_column": "e", "passthrough_columns": ["n"]}
    parsed = parse(data, **columns)
    assert parsed.good == [
        ("a", "x", 1_000_000, 4.5, "buy", "a\0\nb"),
        ("b", "y", 2_000_000, 3.0, "", "1.50"),
        ("c", "z", 3_000_000, 2.0, "", '{"k":[true,null]}'),
    ]
    assert [reason for _, reason, _ in parsed.rejected] == [
        "event is not text or a number",
        "rating is not a number",
        "rating is missing",
    ]


def test_a_key_may_be_wanted_for_two_things():
    data = b'{"u":"a","i":"x","t":1.50}\n{"u":"b","i":"y","t":2}\n'
    parsed = parse(data, passthrough_columns=["t", "u"])
    assert parsed.good == [
        ("a", "x", 1_500_000, "1.50", "a"),
        ("b", "y", 2_000_000, "2", "b"),
    ]


def test_lines_and_objects_that_only_add_up():
    # Two objects on one line and one on two.
    data = (
        b'{"u":"a","i":"x","t":1}{"u":"b","i":"y","t":2}\n{"u":"c",\n"i":"z","t":3}\n'
    )
    parsed = parse(data)
    assert parsed.good == []
    assert [reason for _, reason, _ in parsed.rejected] == ["not a JSON object"] * 3


scalar = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 99),
    st.floats(),
    st.sampled_from(["a", "", " ", "5", "-0", "2020-01-01", "\0", "\u2028", "\ud800"]),
    st.text("ab\u00e9\n", max_size=3),
)
value = st.one_of(scalar, st.lists(scalar, max_size=2), st.just({"u": "x"}))
record = st.one_of(
    st.fixed_dictionaries(
        {"u": st.sampled_from(["a", "b"]), "i": st.just("x"), "t": st.integers(0, 9)},
        optional={"z": value, "r": scalar},
    ),
    st.fixed_dictionaries(
        {"u": st.integers(0, 9), "i": st.integers(-1, 9), "t": st.floats(0, 9)},
        optional={"z": value, "r": st.floats()},
    ),
    st.dictionaries(st.sampled_from("uitrz"), value),
)
line = st.one_of(
    record.map(json.dumps),
    record.map(lambda found: json.dumps(found, ensure_ascii=False)),
    st.text('{}",:[]u \t01-Inf', max_size=12),
    st.sampled_from(
        [
            '{"u":"a","i":"x","t":-0}',
            '{"u":"a","i":"x","t":1,"z":Inf}',
            '{"u":-0,"i":0,"t":0}',
            '{"u":"a"}{"i":"x"}',
            '{"u":{}',
        ]
    ),
)


@given(
    st.lists(line, max_size=5),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.sampled_from(["s", "us", "iso8601"]),
    st.booleans(),
)
@example(['{"u":"a","i":"x","t":1}'] * 2, "\n", True, "s", False)
def test_a_block_at_once_is_its_lines_one_by_one(lines, ending, ended, form, more):
    text = ending.join(lines) + (ending if ended else "")
    data = text.encode("utf-8", "surrogatepass")
    given = {"time_format": form}
    if more:
        given |= {"rating_column": "r", "passthrough_columns": ["z"]}
    assert parse(data, **given) == parse(data, careful=True, **given)


@given(st.lists(record, max_size=5))
def test_values_against_the_standard_library(records):
    """What a row is, told from the objects themselves."""
    data = "".join(json.dumps(found) + "\n" for found in records).encode()
    expected = []
    for found in records:
        user, item, time = (found.get(key) for key in "uit")
        plain = all(
            isinstance(part, str | int | float) and not isinstance(part, bool)
            for part in (user, item, time)
        )
        texts = [
            json.dumps(part) if not isinstance(part, str) else part
            for part in (user, item)
        ]
        if not plain or any(
            text in ("NaN", "Infinity", "-Infinity")
            or not text.strip()
            or not text.isprintable()
            for text in texts
        ):
            continue
        try:
            seconds = float(time)
        except ValueError:
            continue
        if abs(seconds) < 9e12:
            expected.append((*texts, round(seconds * 1e6)))
    assert parse(data).good == expected


def test_the_quick_way_is_taken_for_clean_blocks(monkeypatch):
    def never(*_):
        raise AssertionError("the careful way was taken")

    monkeypatch.setattr(parse_json.JsonParser, "_parse_lines", never)
    for data in (
        b'{"u":"a","i":"x","t":1}\n{"u":"b","i":"y","t":2.5}',
        b'{"u":1,"i":2,"t":"3","z":null}\r\n\r\n{"z":[],"u":3,"i":4,"t":"5"}\n',
        '{"u":"\u00e9","i":"Information","t":1}\n'.encode(),
    ):
        assert not parse(data).rejected


def test_only_the_piece_of_a_bad_line_is_read_with_care(monkeypatch):
    slow = []
    careful = JsonParser._parse_lines

    def counted(self, block, data, records, form):
        slow.append(len(records.starts))
        return careful(self, block, data, records, form)

    monkeypatch.setattr(JsonParser, "_parse_lines", counted)
    lines = [f'{{"u":"u{n}","i":{n},"t":{n}}}' for n in range(20_000)]
    lines[7_000], lines[7_001] = "oops", ""
    data = "\n".join(lines).encode()
    parsed = parse(data)
    assert [row[1] for row in parsed.good] == [
        str(n) for n in range(20_000) if n not in (7_000, 7_001)
    ]
    assert parsed.rejected == [(100 + data.index(b"oops"), "not a JSON object", "oops")]
    assert len(slow) == 1
    assert slow[0] <= 256
