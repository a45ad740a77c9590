"""The gRPC port: who answers there, how many requests at once, how it is closed."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence

import grpc

from adaptiverec.common.errors import StageError
from adaptiverec.serving.event_loop import EventLoopThread
from adaptiverec.serving.health import Health, add_health, add_reflection
from adaptiverec.serving.metrics import Metrics
from adaptiverec.serving.model_service import ModelService
from adaptiverec.serving.observer import Observer
from adaptiverec.serving.prediction_service import PredictionService
from adaptiverec.serving.server_core import ServerCore

__all__ = ["GrpcServer"]

_THREADS_PER_CORE = 4
# Requests wait for batches, or for each other, in threads that cost next to nothing.
_LEAST_THREADS = 64
# What comes while all threads are busy waits, rather than fails, through the moments in
# which a version is loaded.
_WAITING_PER_THREAD = 15
# Until what no method ever saw is taken for lost; gRPC ends at once without such calls.
_LOST_AFTER_SECONDS = 1.0


class GrpcServer:
    """PredictionService and ModelService on a port that is open once this is made.

    Args:
        core: The models.
        address: ``HOST:PORT``; port 0 takes a free one.
        socket_path: A Unix socket to listen on as well, or "".
        credentials: With what to encrypt, or None.
        max_threads: How many requests run at once; one more is refused with
            RESOURCE_EXHAUSTED. By default 4 a core and at least 64, and then 15 times as
            many may wait.
        channel_arguments: More arguments of gRPC's.
        health_service: Whether to answer gRPC's health service.
        observer: Told of every request.
        metrics: What a reload may be asked about.

    Raises:
        StageError: The address cannot be had.

    Attributes:
        port: The port.
    """

    def __init__(
        self,
        core: ServerCore,
        address: str,
        *,
        socket_path: str = "",
        credentials: grpc.ServerCredentials | None = None,
        max_threads: int | None = None,
        channel_arguments: Sequence[tuple[str, int | str]] = (),
        health_service: bool = False,
        observer: Observer | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        threads = max_threads or max(
            _THREADS_PER_CORE * (os.cpu_count() or 1), _LEAST_THREADS
        )
        self._handlers = [
            PredictionService(core, observer).handler(),
            ModelService(core, metrics).handler(),
        ]
        self._options = [
            # Of two of the same name, gRPC takes the first.
            *channel_arguments,
            # Up to 2 GiB, the most that a message of protocol buffers can be.
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            # Else a second server on the port would quietly get half the requests.
            ("grpc.so_reuseport", 0),
        ]
        self._most_at_once = max_threads or threads * (1 + _WAITING_PER_THREAD)
        self._health: Health | None = None
        self._stopped = threading.Event()
        self._stop_lock = threading.Lock()
        self._loop = EventLoopThread("grpc", threads)
        try:
            self.port: int = self._loop.run(
                self._start(address, socket_path, credentials, health_service)
            )
        except BaseException:
            self._loop.close()
            raise

    def stop(self, grace: float) -> None:
        """Refuses new requests and lets the running ones end.

        Args:
            grace: How many seconds they have; then they are cancelled. Once they have
                ended, so is what came as the server stopped and gRPC did not answer.
        """
        with self._stop_lock:
            if not self._stopped.is_set():
                self._loop.run(self._stop(grace))
                self._loop.close()
                self._stopped.set()

    def wait(self) -> None:
        """Blocks until the server is stopped, from another thread."""
        self._stopped.wait()

    async def _start(
        self,
        address: str,
        socket_path: str,
        credentials: grpc.ServerCredentials | None,
        health_service: bool,
    ) -> int:
        self._server = grpc.aio.server(
            handlers=self._handlers,
            options=self._options,
            maximum_concurrent_rpcs=self._most_at_once,
        )
        if health_service:
            self._health = add_health(self._server)
        add_reflection(self._server)
        port = self._listen(address, credentials)
        if socket_path:
            self._listen(f"unix:{socket_path}", credentials)
        await self._server.start()
        if self._health is not None:
            self._health.serving()
        return port

    async def _stop(self, grace: float) -> None:
        if self._health is not None:
            self._health.draining()
        stopping = asyncio.create_task(self._server.stop(grace))
        # Calls are the only other tasks of this loop, which is the server's alone.
        own = {stopping, asyncio.current_task()}
        while not stopping.done() and (running := asyncio.all_tasks() - own):
            await asyncio.wait(
                {stopping, *running}, return_when=asyncio.FIRST_COMPLETED
            )
        # At times gRPC loses a call that comes as the server stops: no method is asked,
        # and the caller and the server would wait until the grace is over.
        await asyncio.wait({stopping}, timeout=_LOST_AFTER_SECONDS)
        if not stopping.done():
            await self._server.stop(None)
        await stopping

    def _listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise StageError(
                "The address must be one of this machine, and its port free. Received: "
                f"{address}"
            ) from error
