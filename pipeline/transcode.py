"""Text in any encoding to UTF-8, a block of whole lines at a time.

Bytes that are not valid become what is not valid in UTF-8 either, so the rows they are
in are found like any other bad ones, and no others suffer.
"""

from __future__ import annotations

import codecs
import dataclasses
import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from adaptiverec.common.errors import InvalidValueError

__all__ = ["TextBlock", "TextEncoding", "encoding_of", "readable", "transcode"]

_NEWLINE = 10
# Encodings in which characters of several bytes stand by themselves, and no byte but
# a line feed's own is 0x0A.
_MULTIBYTE = (
    "big5",
    "big5hkscs",
    "cp932",
    "cp949",
    "cp950",
    "euc_jis_2004",
    "euc_jisx0213",
    "euc_jp",
    "euc_kr",
    "gb18030",
    "gb2312",
    "gbk",
    "johab",
    "shift_jis",
    "shift_jis_2004",
    "shift_jisx0213",
)
# Not encodings of characters by bytes, though they look like it byte by byte.
_ESCAPES = ("hz", "idna", "punycode", "raw_unicode_escape", "unicode_escape", "utf_7")
_WIDE = {"utf-16": 2, "utf-32": 4}
_DTYPES = {(2, "le"): "<u2", (2, "be"): ">u2", (4, "le"): "<u4", (4, "be"): ">u4"}
# Lone surrogates stand for bytes: U+DC00 for byte 0, and so on.
_BYTE = 0xDC00
_STANDS_FOR_BYTE = re.compile("[\udc00-\udcff]")


class TextBlock(NamedTuple):
    """Whole lines of a file, in UTF-8.

    Attributes:
        data: The lines; the last of a file may lack its line break.
        positions: Some positions in ``data``, ascending from 0, int64 of shape [n].
        offsets: The offsets in the file, decompressed, that these are at, int64 of
            shape [n]. From one of them to the next, bytes are as many in both.
    """

    data: bytes
    positions: np.ndarray
    offsets: np.ndarray

    @classmethod
    def at(cls, data: bytes, offset: int) -> TextBlock:
        """A block that stands in its file byte by byte."""
        return cls(data, np.zeros(1, np.int64), np.array([offset], np.int64))

    @property
    def offset(self) -> int:
        """The block's offset in the file."""
        return int(self.offsets[0])

    def offsets_of(self, positions: np.ndarray) -> np.ndarray:
        """The offsets in the file of beginnings of lines.

        Args:
            positions: Positions in ``data``, int64 of shape [n].
        """
        places = np.searchsorted(self.positions, positions, side="right") - 1
        return self.offsets[places] + (positions - self.positions[places])

    def cut(self, position: int) -> tuple[TextBlock, TextBlock]:
        """The parts before and from a beginning of a line."""
        offset = self.offsets_of(np.array([position], np.int64))
        before = self.positions < position
        after = self.positions > position
        head = TextBlock(
            self.data[:position], self.positions[before], self.offsets[before]
        )
        tail = TextBlock(
            self.data[position:],
            np.concatenate(([0], self.positions[after] - position)),
            np.concatenate((offset, self.offsets[after])),
        )
        return head, tail

    def joined(self, other: TextBlock) -> TextBlock:
        """This block and the one that follows it."""
        if not self.data:
            return other
        return TextBlock(
            self.data + other.data,
            np.concatenate((self.positions, other.positions + len(self.data))),
            np.concatenate((self.offsets, other.offsets)),
        )


@dataclasses.dataclass(frozen=True)
class TextEncoding:
    """How the characters of a file are written.

    Attributes:
        codec: Python's name of it.
        unit: How many bytes a line feed has.
        byte_order: ``le`` or ``be``, which matters where that is more than one.
    """

    codec: str
    unit: int = 1
    byte_order: str = "le"

    @property
    def is_utf8(self) -> bool:
        """Whether nothing has to be done."""
        return self.codec == "utf-8"

    @property
    def byte_order_mark(self) -> bytes:
        """What a file may begin with that is no text."""
        try:
            return "\ufeff".encode(self.codec)
        except UnicodeEncodeError:
            return b""

    def line_ends(self, data: bytes) -> np.ndarray:
        """The positions behind all line feeds, int64 of shape [line feeds].

        Args:
            data: Bytes of a file from the beginning of a character.
        """
        if self.unit == 1:
            return np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE) + 1
        whole = len(data) // self.unit * self.unit
        units = np.frombuffer(data[:whole], _DTYPES[self.unit, self.byte_order])
        return (np.flatnonzero(units == _NEWLINE) + 1) * self.unit

    def last_line_end(self, data: bytes) -> int:
        """The position behind the last line feed, or 0."""
        if self.unit == 1:
            return data.rfind(b"\n") + 1
        ends = self.line_ends(data)
        return int(ends[-1]) if len(ends) else 0


def encoding_of(name: str, beginning: bytes) -> TextEncoding:
    """How a file is written.

    Args:
        name: Python's name of the encoding.
        beginning: The first four bytes of the file.

    Raises:
        InvalidValueError: Lines cannot be told apart in it without reading from the
            beginning of the file.
    """
    name = codecs.lookup(name).name
    if name in ("utf-8", "utf-8-sig"):
        return TextEncoding("utf-8")
    wide = name[: len("utf-16")]
    if wide in _WIDE:
        byte_order = name[len(wide) + 1 :]
        if not byte_order:
            big = beginning.startswith("\ufeff".encode(f"{wide}-be"))
            byte_order = "be" if big else "le"
        return TextEncoding(f"{wide}-{byte_order}", _WIDE[wide], byte_order)
    if name not in _MULTIBYTE and not _is_bytewise(name):
        raise InvalidValueError(
            "`encoding` must be UTF-8, UTF-16, UTF-32, or one in which every character "
            "stands by itself and a line feed is the byte 0x0A. Received: "
            f"{name!r}"
        )
    return TextEncoding(name)


@lru_cache
def _is_bytewise(name: str) -> bool:
    """Whether each byte is a character, and 0x0A alone is the line feed."""
    if name.replace("-", "_") in _ESCAPES:
        return False
    try:
        one_by_one = [bytes([byte]).decode(name, "replace") for byte in range(256)]
        together = bytes(range(256)).decode(name, "replace")
    except (UnicodeError, LookupError):
        return False
    return (
        all(len(character) == 1 for character in one_by_one)
        and together == "".join(one_by_one)
        and [byte for byte in range(256) if one_by_one[byte] == "\n"] == [_NEWLINE]
    )


@lru_cache
def _extends_ascii(codec: str) -> bool:
    ascii_bytes = bytes(range(128))
    return ascii_bytes.decode(codec, "replace") == ascii_bytes.decode("ascii")


def _mark_byte(error: UnicodeError) -> tuple[str, int]:
    """Marks the first bad byte and goes on at the next: a line feed is never lost."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return chr(_BYTE + error.object[error.start]), error.start + 1


def _mark_unit(error: UnicodeError) -> tuple[str, int]:
    """Marks the bytes of a bad unit of several bytes and goes on at the next unit."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(chr(_BYTE + byte) for byte in bad), error.end


codecs.register_error("adaptiverec-mark-byte", _mark_byte)
codecs.register_error("adaptiverec-mark-unit", _mark_unit)


def transcode(data: bytes, offset: int, encoding: TextEncoding) -> TextBlock:
    """Makes UTF-8 of whole lines.

    Args:
        data: The lines.
        offset: Where in the file, decompressed, they begin.
        encoding: How they are written.

    Returns:
        The lines; what is not valid is not valid UTF-8 there either.
    """
    if encoding.is_utf8 or (_extends_ascii(encoding.codec) and data.isascii()):
        return TextBlock.at(data, offset)
    handler = "adaptiverec-mark-byte" if encoding.unit == 1 else "adaptiverec-mark-unit"
    text = data.decode(encoding.codec, handler)
    converted = text.encode("utf-8", "surrogatepass")
    ends = TextEncoding("utf-8").line_ends(converted)
    raw_ends = encoding.line_ends(data)
    if len(ends) != len(raw_ends):
        raise RuntimeError(
            f"{encoding.codec} gave {len(ends)} of {len(raw_ends)} lines"
        )
    # The last one is the end of the block, or the beginning of a line without an end.
    return TextBlock(
        converted,
        np.concatenate(([0], ends)),
        np.concatenate(([0], raw_ends)) + offset,
    )


def readable(line: bytes) -> str:
    """A line of a :class:`TextBlock` as text; bad bytes are written as escapes."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        pass
    try:
        text = line.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return line.decode("utf-8", "backslashreplace")
    return _STANDS_FOR_BYTE.sub(lambda match: f"\\x{ord(match[0]) - _BYTE:02x}", text)
