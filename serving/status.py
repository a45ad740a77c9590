"""How a request fails: a gRPC status code and a message, as in TensorFlow Serving."""

from __future__ import annotations

import grpc

__all__ = ["RequestError", "status_code", "truncated"]

# gRPC refuses to carry more than 8 KiB of headers, and percent-encodes the message in
# them. tensorflow_model_server cuts at the same length.
_MAX_MESSAGE_BYTES = 1024
_TRUNCATED = "...TRUNCATED"

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class RequestError(Exception):
    """A request, or the loading of a version, that failed for a reason to be told.

    Attributes:
        code: The gRPC status code.
        message: What the caller is told.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def status_code(number: int) -> grpc.StatusCode:
    """The status code of a number; TensorFlow's error codes are gRPC's."""
    return _CODES.get(number, grpc.StatusCode.UNKNOWN)


def truncated(message: str) -> str:
    """A message in valid Unicode, and as long as gRPC carries it."""
    data = message.encode(errors="replace")
    if len(data) <= _MAX_MESSAGE_BYTES:
        return data.decode()
    return data[:_MAX_MESSAGE_BYTES].decode(errors="ignore") + _TRUNCATED
