"""How a request fails: a gRPC status code and a message, as in TensorFlow Serving."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import grpc

__all__ = ["RequestError", "answering", "status_code"]

_log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

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


def answering(
    handler: Callable[[Any, Any, grpc.ServicerContext], _Answer],
) -> Callable[[Any, Any, grpc.ServicerContext], _Answer]:
    """Decorates a gRPC handler: what it raises becomes a status, and never a crash.

    :class:`RequestError` is answered with its own code and message. Anything else is a
    bug: the caller gets INTERNAL, and the traceback is logged. Requests are not logged,
    since histories are people's data.
    """

    @functools.wraps(handler)
    def answer(self: Any, request: Any, context: grpc.ServicerContext) -> _Answer:
        try:
            return handler(self, request, context)
        except RequestError as error:
            code, message = error.code, error.message
        except Exception as error:
            _log.exception("%s failed", handler.__name__)
            code = grpc.StatusCode.INTERNAL
            message = f"{handler.__name__} failed: {type(error).__name__}"
        context.abort(code, _truncated(message))
        raise RuntimeError("abort() returned")  # For the type checker; it raises.

    return answer


def _truncated(message: str) -> str:
    data = message.encode(errors="replace")
    if len(data) <= _MAX_MESSAGE_BYTES:
        return data.decode()
    return data[:_MAX_MESSAGE_BYTES].decode(errors="ignore") + _TRUNCATED
