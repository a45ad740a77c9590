"""Text in other encodings, against Python's own decoders."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptiverec.common.errors import InvalidValueError
from adaptiverec.pipeline import transcode
from adaptiverec.pipeline.transcode import TextBlock, TextEncoding, encoding_of

WIDE = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
NARROW = ["iso-8859-1", "cp1251", "koi8-r", "mac_roman", "ascii", "cp437"]
SEVERAL = list(transcode._MULTIBYTE)


@pytest.mark.parametrize("encoding", [*WIDE, *NARROW, *SEVERAL, "utf-8", "utf-8-sig"])
def test_rows_are_what_python_decodes(log, read_rows, encoding):
    words = {
        "cp1251": "\u0436\u0443\u043a",
        "koi8-r": "\u0436\u0443\u043a",
        "ascii": "beetle",
        "johab": "\ub531",
        "euc_kr": "\ub531",
        "cp949": "\ub531",
    }
    fallback = "\u00e9" if encoding in NARROW else "\u4e2d"
    word = words.get(encoding, fallback)
    text = f"user,item,time\r\n{word},x,1\r\n\r\n{word},,2\r\n{word}2,y,3"
    data = text.encode(encoding)
    rows = read_rows(log(data), encoding=encoding, block_bytes=9)
    assert [row["user"] for row in rows.good] == [word, f"{word}2"]
    # Where a row was, in the bytes of the file as it is.
    at = text.index(f"{word},,2")
    assert rows.rejected == [
        (len(text[:at].encode(encoding)), "item is missing", f"{word},,2")
    ]
    if encoding in WIDE:
        assert rows.num_parts == 1


@pytest.mark.parametrize("encoding", [*WIDE, *NARROW[:2], *SEVERAL, "utf-8"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(
    lines=st.lists(st.binary(max_size=12), max_size=4),
    size=st.integers(1, 40),
)
def test_bad_bytes_harm_their_own_row_alone(log, read_rows, encoding, lines, size):
    """Whatever bytes are in a line, those before and behind it are read."""
    codec = encoding_of(encoding, b"").codec
    newline = "\n".encode(codec)
    width = len(newline)
    clean = []
    for line in lines:
        units = [
            line[n : n + width] for n in range(0, len(line) // width * width, width)
        ]
        clean.append(b"".join(unit for unit in units if unit != newline))
    good = "a,b,1".encode(codec)
    head = "user,item,time".encode(codec)
    data = newline.join([head, good, *clean, good]) + newline
    if encoding in ("utf-16", "utf-32"):
        data = "\ufeff".encode(codec) + data
    rows = read_rows(log(data), encoding=encoding, block_bytes=size)
    row = {"user": "a", "item": "b", "time": 1_000_000}
    assert rows.good[0] == rows.good[-1] == row
    filled = [line for line in clean if line not in (b"", "\r".encode(codec))]
    assert len(rows.good) + len(rows.rejected) == len(filled) + 2
    at = [offset for offset, _, _ in rows.rejected]
    starts = {0}
    for line in data.split(newline):
        starts.add(max(starts) + len(line) + width)
    if width == 1:
        assert set(at) <= starts


@pytest.mark.parametrize(
    ("encoding", "bad", "shown"),
    [
        ("shift_jis", b"\x81\xff", "\\x81\\xff"),
        ("ascii", b"\xe9", "\\xe9"),
        ("cp1252", b"\x81", "\\x81"),
        ("utf-16-le", b"\x00\xdc", "\\x00\\xdc"),
        ("utf-32-be", b"\x00\x11\x00\x00", "\\x00\\x11\\x00\\x00"),
    ],
)
def test_bad_text_is_named(log, read_rows, encoding, bad, shown):
    first, last = "user,item,time\na,x,1\nu".encode(encoding), ",x,2\n".encode(encoding)
    rows = read_rows(log(first + bad + last), encoding=encoding)
    assert [row["user"] for row in rows.good] == ["a"]
    assert rows.rejected == [
        (
            len("user,item,time\na,x,1\n".encode(encoding)),
            "text is not valid in its encoding",
            f"u{shown},x,2",
        )
    ]
    # As with UTF-8, only the columns that are read must be valid.
    header = "user,item,time,note\na,x,1,".encode(encoding)
    rows = read_rows(log(header + bad + "\n".encode(encoding)), encoding=encoding)
    assert len(rows.good) == 1


def test_a_file_that_ends_within_a_character(log, read_rows):
    data = "user,item,time\na,x,1\nb,y,2".encode("utf-16-le") + b"\x00"
    rows = read_rows(log(data), encoding="utf-16-le")
    assert len(rows.good) == 1
    assert rows.rejected[0][1] == "text is not valid in its encoding"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
@pytest.mark.parametrize("order", ["le", "be"])
def test_the_byte_order_mark_tells_the_byte_order(log, read_rows, encoding, order):
    data = "\ufeffuser,item,time\na,x,1\n".encode(f"{encoding}-{order}")
    assert len(read_rows(log(data), encoding=encoding).good) == 1


def test_json_lines_in_other_encodings(log, read_rows):
    text = '{"user":"\u00e9","item":"x","time":1}\noops\u00e9\n'
    for encoding in ("cp1252", "utf-16", "gb18030"):
        rows = read_rows(log(text.encode(encoding), "a.jsonl"), encoding=encoding)
        assert [row["user"] for row in rows.good] == ["\u00e9"]
        (rejected,) = rows.rejected
        assert rejected[1:] == ("not a JSON object", "oops\u00e9")


@pytest.mark.parametrize(
    "encoding",
    ["iso2022_jp", "iso2022_kr", "hz", "utf-7", "cp037", "cp500", "raw_unicode_escape"],
)
def test_encodings_that_cannot_be_cut_at_lines(log, read_rows, encoding):
    message = (
        "`encoding` must be UTF-8, UTF-16, UTF-32, or one in which every character "
        "stands by itself and a line feed is the byte 0x0A. Received: "
    )
    with pytest.raises(InvalidValueError, match=re.escape(message)):
        read_rows(log("user,item,time\n"), encoding=encoding)


def test_ascii_is_not_transcoded():
    data = b"a,b\nc,d\n"
    block = transcode.transcode(data, 7, TextEncoding("cp1252"))
    assert block.data is data
    assert block.offsets.tolist() == [7]


@given(
    st.lists(st.text("ab\u00e9\U0001f600", max_size=3), max_size=5),
    st.sampled_from(["utf-8", "utf-16-le", "gb18030"]),
    st.data(),
)
def test_blocks_are_cut_and_joined_where_they_are_in_their_file(lines, codec, data):
    text = "".join(line + "\n" for line in lines)
    unit = 2 if "16" in codec else 1
    block = transcode.transcode(text.encode(codec), 50, TextEncoding(codec, unit))
    line = data.draw(st.integers(0, len(lines)))
    before = "".join(part + "\n" for part in lines[:line])
    head, tail = block.cut(len(before.encode()))
    assert (head.data, tail.data) == (before.encode(), text[len(before) :].encode())
    assert tail.offset == 50 + len(before.encode(codec))
    joined = head.joined(tail) if head.data else tail
    assert joined.data == block.data
    position, offset = 0, 50
    for part in lines:
        for found in (block, joined):
            where = found.offsets_of(TextBlock.at(b"", position).offsets)
            assert where.tolist() == [offset]
        position += len(f"{part}\n".encode())
        offset += len(f"{part}\n".encode(codec))
