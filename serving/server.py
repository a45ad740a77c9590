"""A model server in this process, with TensorFlow Serving's gRPC services and layout.

For trying out and for tests, and for small deployments. tensorflow_model_server takes
the same directories and answers the same requests, with batching, metrics and REST.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from adaptiverec.common.errors import InvalidValueError, StageError
from adaptiverec.common.progress import say

if TYPE_CHECKING:
    import grpc

    from adaptiverec.serving.model_manager import ModelManager
    from adaptiverec.serving.servable import Servable

__all__ = ["ModelServer", "serve"]

_THREADS_PER_CORE = 4
# Requests that may wait for a thread; more are refused with RESOURCE_EXHAUSTED, so that
# an overloaded server answers late for a while and then says no, but does not swell.
_MAX_WAITING = 100
_DRAIN_SECONDS = 30.0


class ModelServer:
    """Serves the newest version under a base path over gRPC.

    It answers TensorFlow Serving's PredictionService (Predict, GetModelMetadata) and
    ModelService (GetModelStatus), and follows the base path: a new version is loaded
    beside the old one, warmed up, and takes its place without a failed request; see
    :class:`~adaptiverec.serving.model_manager.ModelManager`.

    Example::

        with ModelServer(model_base_path="exported", port=0) as server:
            client = RecommenderClient(f"127.0.0.1:{server.port}")

    Args:
        model_base_path: The directory with the versions, ``BASE/<integer>/``, each a
            SavedModel.
        model_name: What requests must name.
        port: The TCP port; 0 takes a free one.
        host: The address to listen on. By default only this machine can reach it, since
            there is neither encryption nor authentication; ``"0.0.0.0"`` is everyone.
        file_system_poll_wait_seconds: Time between two looks for a new version; 0 never
            looks again.
        grpc_max_threads: How many requests run at once; 4 a core by default.
        enable_model_warmup: Whether to run the requests in
            ``assets.extra/tf_serving_warmup_requests`` before a version serves.

    Raises:
        InvalidValueError: An argument is outside its rule.
    """

    def __init__(
        self,
        *,
        model_base_path: str | os.PathLike[str],
        model_name: str = "default",
        port: int = 8500,
        host: str = "127.0.0.1",
        file_system_poll_wait_seconds: float = 1.0,
        grpc_max_threads: int | None = None,
        enable_model_warmup: bool = True,
    ) -> None:
        if not model_name:
            raise InvalidValueError(
                "model_name must not be empty. Received: model_name=''"
            )
        if not 0 <= port <= 65535:
            raise InvalidValueError(
                f"port must be from 0 to 65535. Received: port={port}"
            )
        if not file_system_poll_wait_seconds >= 0:
            raise InvalidValueError(
                "file_system_poll_wait_seconds must not be negative. Received: "
                f"file_system_poll_wait_seconds={file_system_poll_wait_seconds}"
            )
        if grpc_max_threads is not None and grpc_max_threads < 1:
            raise InvalidValueError(
                "grpc_max_threads must be at least 1. Received: "
                f"grpc_max_threads={grpc_max_threads}"
            )
        self.model_name = model_name
        self._base_path = Path(model_base_path)
        self._host = host
        self._port = port
        self._poll_wait_seconds = file_system_poll_wait_seconds
        self._threads = grpc_max_threads or _THREADS_PER_CORE * (os.cpu_count() or 1)
        self._warm_up = enable_model_warmup
        self._models: ModelManager[Servable] | None = None
        self._server: grpc.Server | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._stop_lock = threading.Lock()

    @property
    def port(self) -> int:
        """The port it listens on, once started."""
        return self._port

    @property
    def address(self) -> str:
        """``HOST:PORT``, for clients."""
        # An IPv6 address has colons of its own.
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._port}"

    def start(self) -> int:
        """Loads the newest version, then opens the port.

        Returns:
            The version that serves.

        Raises:
            NotFoundError: The base path does not exist or holds no version.
            StageError: The newest version cannot be loaded, the port cannot be had, or
                the server has been started before.
        """
        # These import TensorFlow, which the rest of the command line does not wait for.
        from adaptiverec.serving.model_manager import ModelManager
        from adaptiverec.serving.servable import Servable

        if self._models is not None:
            raise StageError(
                "A ModelServer can be started once. Received: a second start()"
            )

        def load(version: int, path: Path) -> Servable:
            return Servable(self.model_name, version, path, warm_up=self._warm_up)

        self._models = ModelManager(
            self.model_name,
            self._base_path,
            load,
            poll_wait_seconds=self._poll_wait_seconds,
            on_swap=self._announce_swap,
        )
        try:
            version = self._models.start()
            self._listen(self._models)
        except BaseException:
            self.stop(grace=0)
            raise
        return version

    def _listen(self, models: ModelManager[Servable]) -> None:
        import grpc

        from adaptiverec.serving.model_service import ModelService
        from adaptiverec.serving.prediction_service import PredictionService

        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="grpc")
        server = grpc.server(
            self._pool,
            handlers=[
                PredictionService(models).handler(),
                ModelService(models).handler(),
            ],
            options=[
                # Batches of long histories pass gRPC's default of 4 MiB.
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
                # Else a second server on the port would quietly get half the requests.
                ("grpc.so_reuseport", 0),
            ],
            maximum_concurrent_rpcs=self._threads + _MAX_WAITING,
        )
        try:
            self._port = server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise StageError(
                "The address must be one of this machine, and its port free. Received: "
                f"{self.address}"
            ) from error
        server.start()
        self._server = server

    def stop(self, grace: float = _DRAIN_SECONDS) -> None:
        """Refuses new requests, lets the running ones end, and frees the model.

        Args:
            grace: How many seconds the running requests have; then they are cancelled.
        """
        with self._stop_lock:
            if self._server is not None:
                self._server.stop(grace).wait()
            if self._models is not None:
                self._models.close()
            if self._pool is not None:
                self._pool.shutdown(wait=False)

    def wait(self) -> None:
        """Blocks until the server is stopped, from another thread."""
        if self._server is not None:
            self._server.wait_for_termination()

    def __enter__(self) -> ModelServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _announce_swap(self, version: int) -> None:
        if self._server is not None:
            say(f"Serving {self.model_name} version {version} on {self.address}")


def serve(
    *,
    model_base_path: str,
    model_name: str = "default",
    port: int = 8500,
    host: str = "127.0.0.1",
    file_system_poll_wait_seconds: float = 1.0,
    grpc_max_threads: int | None = None,
    enable_model_warmup: bool = True,
) -> None:
    """Serves a model until SIGTERM or SIGINT; the running requests are still answered.

    A second signal ends the process at once. To be called in the main thread, which
    gets the signals.

    Args:
        model_base_path: The directory with the versions, ``BASE/<integer>/``.
        model_name: What requests must name.
        port: The TCP port; 0 takes a free one.
        host: The address to listen on; ``0.0.0.0`` lets other machines in.
        file_system_poll_wait_seconds: Time between two looks for a new version; 0 never
            looks again.
        grpc_max_threads: How many requests run at once; 4 a core by default.
        enable_model_warmup: Whether to run warm-up requests before a version serves.

    Raises:
        InvalidValueError: An argument is outside its rule.
        NotFoundError: The base path does not exist or holds no version.
        StageError: The newest version cannot be loaded, or the port cannot be had.
    """
    server = ModelServer(
        model_base_path=model_base_path,
        model_name=model_name,
        port=port,
        host=host,
        file_system_poll_wait_seconds=file_system_poll_wait_seconds,
        grpc_max_threads=grpc_max_threads,
        enable_model_warmup=enable_model_warmup,
    )
    with _stop_signal() as stop:
        version = server.start()
        say(f"Serving {model_name} version {version} on {server.address}")
        stop.wait()
        say("Stopping: no new requests, running ones end")
        server.stop()


@contextmanager
def _stop_signal() -> Iterator[threading.Event]:
    """Gives an event that is set by the first SIGTERM or SIGINT."""
    stop = threading.Event()
    previous: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        restore()
        stop.set()

    def restore() -> None:
        while previous:
            signal.signal(*previous.popitem())

    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            previous[number] = signal.signal(number, handle)
        yield stop
    finally:
        restore()
