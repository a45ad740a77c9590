"""The health service and reflection, asked over the loopback by gRPC's own clients."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from adaptiverec.serving.event_loop import EventLoopThread
from adaptiverec.serving.health import Health, add_health, add_reflection

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"


class Served:
    def __init__(self) -> None:
        self.loop = EventLoopThread("health", 1)
        port = self.loop.run(self.start())
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.stub = health_pb2_grpc.HealthStub(self.channel)

    async def start(self) -> int:
        self.server = grpc.aio.server()
        self.health: Health = add_health(self.server)
        add_reflection(self.server)
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        return port

    def say(self, state: str) -> None:
        async def in_loop() -> None:
            getattr(self.health, state)()

        self.loop.run(in_loop())

    def state(self, service: str = "") -> int:
        request = health_pb2.HealthCheckRequest(service=service)
        return self.stub.Check(request, timeout=30).status


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.channel.close()
    served.loop.run(served.server.stop(None))
    served.loop.close()


def test_the_state_is_what_the_server_says(served):
    assert served.state() == NOT_SERVING
    served.say("serving")
    assert served.state() == SERVING
    served.say("not_serving")
    assert served.state() == NOT_SERVING
    served.say("serving")
    served.say("draining")
    assert served.state() == NOT_SERVING
    # A version that becomes available in the last moment changes nothing.
    served.say("serving")
    assert served.state() == NOT_SERVING


# tensorflow_model_server says nothing of its services, either.
@pytest.mark.parametrize("name", ["no.such.Service", PREDICTION_SERVICE])
def test_the_state_of_a_service_is_not_found(served, name):
    with pytest.raises(grpc.RpcError) as caught:
        served.state(name)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "service name unknown"


def test_who_watches_is_told_and_let_go(served):
    watches = [
        served.stub.Watch(health_pb2.HealthCheckRequest(), timeout=60) for _ in range(3)
    ]
    assert [next(watch).status for watch in watches] == [NOT_SERVING] * 3
    served.say("serving")
    assert [next(watch).status for watch in watches] == [SERVING] * 3
    assert served.state() == SERVING
    watches[0].cancel()
    served.say("draining")
    for watch in watches[1:]:
        # The last word, and the end of the stream.
        assert [response.status for response in watch] == [NOT_SERVING]
    late = served.stub.Watch(health_pb2.HealthCheckRequest(), timeout=60)
    assert [response.status for response in late] == [NOT_SERVING]
    # So a server that stops does not wait for them.
    served.loop.run(asyncio.wait_for(served.server.stop(60), 30))


def test_reflection_tells_services_and_messages(served):
    database = ProtoReflectionDescriptorDatabase(served.channel)
    assert set(database.get_services()) == {
        PREDICTION_SERVICE,
        MODEL_SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    file = database.FindFileContainingSymbol(PREDICTION_SERVICE)
    methods = {method.name for method in file.service[0].method}
    assert methods >= {"Predict", "GetModelMetadata"}


def test_clients_that_come_and_go_while_the_state_changes_hang_nobody(served):
    def watch(_: int) -> None:
        for _ in range(20):
            stream = served.stub.Watch(health_pb2.HealthCheckRequest(), timeout=60)
            next(stream)
            stream.cancel()

    with ThreadPoolExecutor(4) as pool:
        watching = [pool.submit(watch, number) for number in range(4)]
        while not all(future.done() for future in watching):
            served.say("serving")
            served.say("not_serving")
            time.sleep(0.001)
        for future in watching:
            future.result(30)
    assert served.state() == NOT_SERVING


def test_who_watches_an_unknown_service_is_told_so(served):
    request = health_pb2.HealthCheckRequest(service="no.such.Service")
    watch = served.stub.Watch(request, timeout=60)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()
