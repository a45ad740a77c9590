"""Methods of a gRPC service in an event loop: their threads, deadlines and errors."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from adaptiverec.serving.status import RequestError, truncated

__all__ = ["Caller", "unary_method"]

_log = logging.getLogger(__name__)

# Bytes of a request up to which it is read in the event loop, in some microseconds.
# Larger ones, which would hold up all others, have a thread from the start.
_SMALL = 1 << 16


class Caller:
    """Who waits for an answer. Thread-safe.

    Args:
        context: What gRPC knows of the call.
    """

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        seconds = context.time_remaining()
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._gone = False

    def seconds_left(self) -> float | None:
        """How long the caller will still wait; None where that is for ever."""
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - time.monotonic())

    def is_waiting(self) -> bool:
        """Whether it does, or has cancelled the call or is past its deadline."""
        return not self._gone

    def leave(self) -> None:
        """Notes that it does not."""
        self._gone = True


def unary_method(
    request_type: type[Message],
    answer: Callable[[Any, Caller], Message],
    answer_in_loop: Callable[[Any, Caller], Awaitable[Message | None]] | None = None,
) -> grpc.RpcMethodHandler[Any, Any]:
    """A method with one request and one response.

    What it raises becomes a status, and never a crash: :class:`RequestError` is answered
    with its own code and message. Anything else is a bug: the caller gets INTERNAL, and
    the traceback is logged. Requests are not logged, since histories are people's data.

    Args:
        request_type: The message that it takes.
        answer: Gives the response, in a thread.
        answer_in_loop: Asked before, of small requests, in the event loop, which it must
            not hold up; None is that `answer` has to.

    Returns:
        What to register with a ``grpc.aio.Server``.
    """

    def in_thread(data: bytes, caller: Caller) -> bytes:
        return answer(_parsed(request_type, data), caller).SerializeToString()

    async def respond(data: bytes, caller: Caller) -> bytes:
        if answer_in_loop is not None and len(data) <= _SMALL:
            response = await answer_in_loop(_parsed(request_type, data), caller)
            if response is not None:
                return response.SerializeToString()
        return await asyncio.to_thread(in_thread, data, caller)

    async def method(
        data: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> bytes | None:
        caller = Caller(context)
        try:
            return await respond(data, caller)
        except RequestError as error:
            code, message = error.code, error.message
        except asyncio.CancelledError:
            caller.leave()
            raise
        except Exception as error:
            name = answer.__name__
            _log.exception("%s failed", name)
            code = grpc.StatusCode.INTERNAL
            message = f"{name} failed: {type(error).__name__}"
        return await context.abort(code, truncated(message))

    # Bytes in and out: gRPC would read and write messages in the event loop.
    return grpc.unary_unary_rpc_method_handler(method)


def _parsed(request_type: type[Message], data: bytes) -> Message:
    try:
        return request_type.FromString(data)
    except DecodeError as error:
        # gRPC's own word for what it cannot read.
        raise RequestError(
            grpc.StatusCode.INTERNAL, "Exception deserializing request!"
        ) from error
