"""Reads the server's configuration files, which are protos in text form."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message

from adaptiverec.common.errors import InvalidValueError, NotFoundError

__all__ = ["read_config_file"]

_Message = TypeVar("_Message", bound=Message)


def read_config_file(
    path: str | os.PathLike[str], message: _Message, *, flag: str, secret: bool = False
) -> _Message:
    """Reads a text proto.

    Args:
        path: The file, UTF-8.
        message: What it holds; filled in and returned.
        flag: The flag that names the file, for messages.
        secret: Whether messages must not quote what the file holds.

    Returns:
        ``message``.

    Raises:
        NotFoundError: There is no such file.
        InvalidValueError: It cannot be read, or is not such a proto.
    """
    file = Path(path)
    name = message.DESCRIPTOR.name
    rule = f"{flag} must be a file with a {name} in protobuf's text form"
    try:
        text = file.read_bytes().decode()
    except FileNotFoundError:
        raise NotFoundError(f"{rule}. Received: {file}, which does not exist") from None
    except OSError as error:
        raise InvalidValueError(
            f"{rule}. Received: {file} ({error.strerror})"
        ) from None
    except UnicodeDecodeError:
        raise InvalidValueError(f"{rule}. Received: {file}, not UTF-8") from None
    try:
        return text_format.Parse(text, message)
    except text_format.ParseError as error:
        # Its message quotes the line, which of a key file may be the key; so the cause
        # is not shown either.
        reason = f"line {error.GetLine()}"
        if not secret:
            reason = f"line {error}"
        raise InvalidValueError(f"{rule}. Received: {file}, {reason}") from None
