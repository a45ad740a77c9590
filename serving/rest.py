"""The REST port: HTTP/1.1 with keep-alive, gzip and limits, over uvicorn.

The standard library's server is not meant for production; uvicorn is, brings little along
(h11 and click), reads slow requests without a thread for each, and stops cleanly. The
requests themselves run in threads.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import threading
import zlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvicorn

from adaptiverec.common.errors import InvalidValueError, StageError
from adaptiverec.serving.metrics import Metrics
from adaptiverec.serving.observer import Observer
from adaptiverec.serving.rest_encode import encode_error
from adaptiverec.serving.rest_handler import Answer, RestHandler
from adaptiverec.serving.rest_paths import is_api_path
from adaptiverec.serving.server_core import ServerCore

__all__ = ["RestServer", "start_rest_server"]

_THREADS_PER_CORE = 4
_MAX_CONNECTIONS = 1000
_BACKLOG = 1024
_KEEP_ALIVE_SECONDS = 60
# For the whole body; a client that sends on and on keeps a connection, not a thread.
_READ_SECONDS = 60.0
_MAX_BODY = 2**28
# tensorflow_model_server's limit for what it uncompresses.
_MAX_UNCOMPRESSED = 100 * 2**20
# Shorter answers are not worth compressing.
_MIN_COMPRESSED = 1024

_NOT_FOUND = Answer(
    404,
    b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n"
    b"</BODY></HTML>\n",
    "text/html",
)
_CORS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"Content-Type"),
]

_Scope = dict[str, Any]
_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]


class RestServer:
    """A REST port that is open.

    Args:
        handler: Answers requests.
        listener: The socket to listen on.
        num_threads: How many requests run at once.
        timeout: Seconds that a request may take once it has been read, or None.
        enable_cors: Whether pages of other origins may read the answers.
        metrics_path: Where the metrics are to be had, or None.
        metrics: The metrics, if so.

    Attributes:
        port: The port.
    """

    def __init__(
        self,
        handler: RestHandler,
        listener: socket.socket,
        *,
        num_threads: int,
        timeout: float | None,
        enable_cors: bool,
        metrics_path: str | None,
        metrics: Metrics | None,
    ) -> None:
        self.port: int = listener.getsockname()[1]
        self._handler = handler
        self._timeout = timeout
        self._enable_cors = enable_cors
        self._metrics_path = metrics_path
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="rest")
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._serve,
                loop="asyncio",
                http="h11",
                ws="none",
                interface="asgi3",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                limit_concurrency=_MAX_CONNECTIONS,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run,
            kwargs={"sockets": [listener]},
            name="rest",
            daemon=True,
        )
        self._thread.start()

    def stop(self, grace: float = 30.0) -> None:
        """Closes the port; the running requests end first, if they do in time.

        Args:
            grace: How many seconds they have.
        """
        self._server.config.timeout_graceful_shutdown = max(1, round(grace))
        self._server.should_exit = True
        self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _serve(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """The ASGI application."""
        headers = dict(scope["headers"])
        method = scope["method"]
        # As it was sent: a name may have an encoded slash.
        path = scope["raw_path"].decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        body: bytes | Answer = await _read_body(headers, receive)
        if isinstance(body, Answer):
            answer = body
        else:
            answer = await self._answer_in_time(method, path, query, headers, body)
        extra = list(_CORS) if self._enable_cors else []
        content = answer.body
        if len(content) >= _MIN_COMPRESSED:
            extra.append((b"vary", b"Accept-Encoding"))
            if b"gzip" in headers.get(b"accept-encoding", b""):
                content = await asyncio.get_running_loop().run_in_executor(
                    self._pool, gzip.compress, content, 1
                )
                extra.append((b"content-encoding", b"gzip"))
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [
                    (b"content-type", answer.content_type.encode()),
                    (b"content-length", str(len(content)).encode()),
                    *extra,
                ],
            }
        )
        await send({"type": "http.response.body", "body": content})

    async def _answer_in_time(self, *request: Any) -> Answer:
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.get_running_loop().run_in_executor(
                    self._pool, self._answer, *request
                )
        except TimeoutError:
            # What a session says there. If the graph runs, its thread has to end it.
            return Answer(504, encode_error("Timed out waiting for notification"))

    def _answer(
        self,
        method: str,
        path: str,
        query: str,
        headers: dict[bytes, bytes],
        body: bytes,
    ) -> Answer:
        target = f"{path}?{query}" if query else path
        if self._metrics is not None and path == self._metrics_path:
            return _metrics_page(self._metrics, target, path)
        if not is_api_path(target):
            return _NOT_FOUND
        if method == "OPTIONS" and self._enable_cors:
            return Answer(200, b"")
        if b"gzip" in headers.get(b"content-encoding", b""):
            # As there: what cannot be uncompressed is no body.
            body = _uncompressed(body) or b""
        return self._handler.handle(method, target, body)


def start_rest_server(
    core: ServerCore,
    *,
    host: str,
    port: int,
    num_threads: int | None = None,
    timeout_in_ms: int = 30_000,
    enable_cors: bool = False,
    metrics_path: str | None = None,
    observer: Observer | None = None,
) -> RestServer:
    """Opens the REST port.

    Args:
        core: The models.
        host: The address to listen on.
        port: The TCP port; 0 takes a free one.
        num_threads: How many requests run at once; 4 a core by default.
        timeout_in_ms: How long a request may take; 0 or less for ever.
        enable_cors: Whether pages of other origins may read the answers.
        metrics_path: Where Prometheus reads ``observer``, a :class:`Metrics`, or None.
        observer: Told of each request.

    Returns:
        The open port.

    Raises:
        InvalidValueError: An argument is outside its rule.
        StageError: The port cannot be had.
    """
    if num_threads is not None and num_threads < 1:
        raise InvalidValueError(
            f"rest_api_num_threads must be at least 1. Received: {num_threads}"
        )
    metrics = observer if isinstance(observer, Metrics) else None
    if metrics_path is not None:
        if metrics is None:
            raise InvalidValueError(
                "metrics_path must come with an observer that counts, a Metrics. "
                f"Received: metrics_path={metrics_path!r}, observer={observer!r}"
            )
        if not metrics_path.startswith("/"):
            raise InvalidValueError(
                "The path of prometheus_config must begin with a slash. Received: "
                f"{metrics_path!r}"
            )
    timeout = timeout_in_ms / 1000 if timeout_in_ms > 0 else None
    return RestServer(
        RestHandler(core, timeout=timeout, observer=observer or Observer()),
        _listen(host, port),
        num_threads=num_threads or _THREADS_PER_CORE * (os.cpu_count() or 1),
        timeout=timeout,
        enable_cors=enable_cors,
        metrics_path=metrics_path,
        metrics=metrics if metrics_path is not None else None,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise StageError(
            "The address must be one of this machine, and its port free. Received: "
            f"{address}"
        ) from error


async def _read_body(headers: dict[bytes, bytes], receive: _Receive) -> bytes | Answer:
    """The whole body, or why it is not read."""
    too_large = Answer(
        413, encode_error(f"The body must not be longer than {_MAX_BODY} bytes")
    )
    if int(headers.get(b"content-length", b"0")) > _MAX_BODY:
        return too_large
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_READ_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return Answer(499, b"")
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > _MAX_BODY:
                    return too_large
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError:
        return Answer(408, encode_error("The body must come within a minute"))


def _uncompressed(body: bytes) -> bytes | None:
    decompressor = zlib.decompressobj(wbits=31)
    try:
        plain = decompressor.decompress(body, _MAX_UNCOMPRESSED)
    except zlib.error:
        return None
    return plain if decompressor.eof else None


def _metrics_page(metrics: Metrics, target: str, path: str) -> Answer:
    if target != path:
        message = f"Unexpected path: {target}. Should be {path}"
        return Answer(400, message.encode(), "text/plain")
    return Answer(200, metrics.page().encode(), "text/plain")
