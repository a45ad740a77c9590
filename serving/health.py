"""gRPC's health service, and reflection of the server's services."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

# Reflection tells what these describe.
from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2

__all__ = ["Health", "add_health", "add_reflection"]

_SERVICES = (
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
    prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name,
)
# "" stands for the server as a whole.
_NAMES = {"", *_SERVICES}

_Send = Callable[[health_pb2.HealthCheckResponse | None], None]

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health(health_pb2_grpc.HealthServicer):
    """What a server says of its health; NOT_SERVING at first. Thread-safe.

    The server and TensorFlow Serving's services have the same state. Clients that watch
    take no thread of the server's and do not hold it up when it stops.

    grpcio-health-checking's own servicer sends with its lock held, and hangs where a client
    that watches leaves at that moment.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: int = _NOT_SERVING
        self._ended = False
        self._watchers: dict[_Send, str] = {}
        # Sending waits for gRPC's own thread, so it is done without the lock; and in one
        # thread, so that the last word is the last to arrive.
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="health")

    def serving(self) -> None:
        """Says that the models are available."""
        self._set(_SERVING)

    def not_serving(self) -> None:
        """Says that no model is available, for now."""
        self._set(_NOT_SERVING)

    def draining(self) -> None:
        """Says that the server is about to end; to be called before it stops.

        Nothing that is said later changes that.
        """
        self._set(_NOT_SERVING)
        with self._lock:
            if self._ended:
                return
            self._ended = True
            for send in self._watchers:
                # The end of the stream.
                self._sender.submit(send, None)
            self._sender.shutdown(wait=False)

    def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Tells the state now."""
        if request.service not in _NAMES:
            context.abort(grpc.StatusCode.NOT_FOUND, "service name unknown")
        return health_pb2.HealthCheckResponse(status=self._state)

    def Watch(  # noqa: N802
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.ServicerContext,
        send_response_callback: _Send,
    ) -> None:
        """Tells the state now, and whenever it changes."""
        send = send_response_callback
        with self._lock:
            if not self._ended:
                self._watchers[send] = request.service
                self._sender.submit(send, self._answer(request.service))
        if self._ended:
            send(self._answer(request.service))
            send(None)
        elif not context.add_callback(lambda: self._forget(send)):
            # It has gone already.
            self._forget(send)

    # How gRPC is told that the method returns at once and calls back later.
    Watch.experimental_non_blocking = True  # type: ignore[attr-defined]

    def _set(self, state: int) -> None:
        with self._lock:
            if self._ended or state == self._state:
                return
            self._state = state
            for send, service in self._watchers.items():
                self._sender.submit(send, self._answer(service))

    def _answer(self, service: str) -> health_pb2.HealthCheckResponse:
        status = self._state if service in _NAMES else _SERVICE_UNKNOWN
        return health_pb2.HealthCheckResponse(status=status)

    def _forget(self, send: _Send) -> None:
        with self._lock:
            self._watchers.pop(send, None)


def add_health(server: grpc.Server) -> Health:
    """Registers gRPC's standard health service.

    Args:
        server: A server that has not started.

    Returns:
        What sets the state.
    """
    state = Health()
    health_pb2_grpc.add_HealthServicer_to_server(state, server)
    return state


def add_reflection(server: grpc.Server) -> None:
    """Lets clients such as grpcurl ask what services there are, and of what messages.

    Args:
        server: A server that has not started.
    """
    names = [*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME]
    reflection.enable_server_reflection(names, server)
