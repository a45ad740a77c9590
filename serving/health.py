"""gRPC's health service, and reflection of the server's services."""

from __future__ import annotations

import asyncio
from typing import Any

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
# The server as a whole, which is all that tensorflow_model_server has a state of.
_SERVER = ""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health(health_pb2_grpc.HealthServicer):
    """What a server says of its health; NOT_SERVING at first.

    Of the server as a whole; to be used in its event loop alone.

    grpcio-health-checking's own servicer tells those who watch one after the other, and
    so none before the slowest has heard.
    """

    def __init__(self) -> None:
        self._state: int = _NOT_SERVING
        self._ended = False
        # Set at the next change, and then another one takes its place.
        self._changed = asyncio.Event()

    def serving(self) -> None:
        """Says that the models are available."""
        self._set(_SERVING)

    def not_serving(self) -> None:
        """Says that no model is available, for now."""
        self._set(_NOT_SERVING)

    def draining(self) -> None:
        """Says that the server is about to end; to be called before it stops.

        Those who watch are told so and let go, for the server waits for them. Nothing
        that is said later changes that.
        """
        self._set(_NOT_SERVING)
        self._ended = True

    async def Check(  # noqa: N802
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> health_pb2.HealthCheckResponse:
        """Tells the state now."""
        if request.service != _SERVER:
            await context.abort(grpc.StatusCode.NOT_FOUND, "service name unknown")
        return health_pb2.HealthCheckResponse(status=self._state)

    async def Watch(  # noqa: N802
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> None:
        """Tells the state now, and whenever it changes."""
        told = None
        while True:
            # What changes while it is told, is told next.
            changed = self._changed
            state = self._state if request.service == _SERVER else _SERVICE_UNKNOWN
            if state != told:
                await context.write(health_pb2.HealthCheckResponse(status=state))
                told = state
            elif self._ended:
                return
            else:
                await changed.wait()

    def _set(self, state: int) -> None:
        if self._ended:
            return
        self._state = state
        self._changed.set()
        self._changed = asyncio.Event()


def add_health(server: grpc.aio.Server) -> Health:
    """Registers gRPC's standard health service.

    Args:
        server: A server that has not started.

    Returns:
        What sets the state.
    """
    state = Health()
    health_pb2_grpc.add_HealthServicer_to_server(state, server)
    return state


def add_reflection(server: grpc.aio.Server) -> None:
    """Lets clients such as grpcurl ask what services there are, and of what messages.

    Args:
        server: A server that has not started.
    """
    names = [*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME]
    reflection.enable_server_reflection(names, server)
