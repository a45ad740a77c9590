"""The gRPC port: who answers there, how many requests at once, how it is closed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc

from adaptiverec.common.errors import StageError
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
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="grpc")
        self._server = grpc.server(
            self._pool,
            handlers=[
                PredictionService(core, observer).handler(),
                ModelService(core, metrics).handler(),
            ],
            options=[
                # Of two of the same name, gRPC takes the first.
                *channel_arguments,
                # Up to 2 GiB, the most that a message of protocol buffers can be.
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
                # Else a second server on the port would quietly get half the requests.
                ("grpc.so_reuseport", 0),
            ],
            maximum_concurrent_rpcs=max_threads or threads * (1 + _WAITING_PER_THREAD),
        )
        self._health: Health | None = (
            add_health(self._server) if health_service else None
        )
        add_reflection(self._server)
        try:
            self.port: int = self._listen(address, credentials)
            if socket_path:
                self._listen(f"unix:{socket_path}", credentials)
        except BaseException:
            self._pool.shutdown(wait=False)
            raise
        self._server.start()
        if self._health is not None:
            self._health.serving()

    def stop(self, grace: float) -> None:
        """Refuses new requests and lets the running ones end.

        Args:
            grace: How many seconds they have; then they are cancelled.
        """
        if self._health is not None:
            self._health.draining()
        self._server.stop(grace).wait()
        self._pool.shutdown(wait=False)

    def wait(self) -> None:
        """Blocks until the server is stopped, from another thread."""
        self._server.wait_for_termination()

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
