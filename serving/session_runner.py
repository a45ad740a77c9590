"""Runs the graph of a version in a TensorFlow session."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from adaptiverec.serving.free_memory import give_memory_back
from adaptiverec.serving.low_priority import low_priority_thread
from adaptiverec.serving.status import RequestError, status_code

__all__ = ["SessionRunner"]

# Each set of inputs and outputs has a callable of its own, with a pruned graph. A client
# that tries all filters of outputs gets no more than these.
_MAX_CALLABLES = 256


class SessionRunner:
    """A :class:`~adaptiverec.serving.runner.Runner` over a session. Thread-safe.

    A timeout is not looked at: gRPC tells the caller that it has passed, and the ops of a
    recommender are too short to be worth stopping.

    Args:
        session: The session with the graph, which is closed with this.
        use_caller_thread: Whether ops run in the thread of the request, as far as they
            can; otherwise in the session's threads.
    """

    def __init__(
        self, session: tf.compat.v1.Session, *, use_caller_thread: bool = True
    ) -> None:
        self._session: tf.compat.v1.Session | None = session
        self._use_caller_thread = use_caller_thread
        self._lock = threading.Lock()
        self._callables: dict[tuple[str, ...], Any] = {}
        self._preparing: Executor | None = None

    @contextmanager
    def preparing_behind_requests(self) -> Iterator[None]:
        """While it lasts, what takes TensorFlow long is done at a low priority.

        For the requests of a warm-up, nobody waits; for all others somebody does. The first
        run of each set of outputs prunes and optimises a graph: seconds for a whole model,
        while the version before it answers.
        """
        with low_priority_thread("prepare") as thread:
            self._preparing = thread
            try:
                yield
            finally:
                self._preparing = None

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        timeout: float | None = None,
    ) -> list[np.ndarray]:
        """Runs the graph once; see :meth:`Runner.run`."""
        key = (*feeds, "", *fetches)
        call = self._callables.get(key)
        try:
            if call is None:
                call = self._callable(key, list(feeds), list(fetches))
            values = call(*feeds.values())
        except tf.errors.OpError as error:
            raise RequestError(status_code(error.error_code), error.message) from error
        except (TypeError, ValueError, RuntimeError) as error:
            # TensorFlow's Python refuses an array that its C++ would not take either.
            raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
        # A scalar comes as a NumPy scalar, or as bytes.
        return [
            value
            if isinstance(value, np.ndarray)
            else np.asarray(value, dtype=object if isinstance(value, bytes) else None)
            for value in values
        ]

    def close(self) -> None:
        """Frees the session; a call that still runs is cancelled."""
        with self._lock:
            session, self._session = self._session, None
            self._callables.clear()
        if session is None:
            return
        session.close()
        # That has freed the variables. The graph, with its constants, is in reference
        # cycles, which might not be collected for as long as the server runs.
        del session
        gc.collect()
        give_memory_back()

    def _callable(
        self, key: tuple[str, ...], feeds: list[str], fetches: list[str]
    ) -> Any:
        with self._lock:
            session = self._session
            if session is None:
                raise RequestError(
                    grpc.StatusCode.CANCELLED, "Session has been closed."
                )
            if key in self._callables:
                return self._callables[key]
            if len(self._callables) >= _MAX_CALLABLES:
                return lambda *values: session.run(
                    fetches, dict(zip(feeds, values, strict=True))
                )
            options = config_pb2.CallableOptions(feed=feeds, fetch=fetches)
            if self._use_caller_thread:
                # In TensorFlow's shared pool, with a thread a core, a few slow requests
                # hold up all others.
                options.run_options.inter_op_thread_pool = -1
            # The public make_callable() goes through Session.run(), which takes 0.3 ms
            # more a request and checks shapes that the ops check too.
            make = session._make_callable_from_options
            if self._preparing is None:
                call = make(options)
            else:
                call = self._preparing.submit(make, options).result()
            self._callables[key] = call
            return call
