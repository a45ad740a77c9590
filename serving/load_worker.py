"""A process of the load test: sends requests, and notes when each was due and answered."""

from __future__ import annotations

import array
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import grpc

from adaptiverec.serving import predict_pb2 as wire
from adaptiverec.serving.client_base import PREDICT, channel_options
from adaptiverec.serving.client_credentials import channel_credentials

__all__ = ["OK", "Plan", "Samples", "work"]

OK: int = grpc.StatusCode.OK.value[0]

# After a failure a client waits: one that is refused at once would do nothing else.
_REST_SECONDS = 0.1


@dataclass(frozen=True)
class Plan:
    """What one process is to do.

    Attributes:
        server: The address, ``HOST:PORT``.
        requests: Serialized PredictRequests, sent in turn.
        first: Which of them is sent first.
        clients: How many clients wait for their answers, in the closed loop.
        rate: Requests a second in the open loop, or None for the closed one.
        warm_up: Seconds of the same before anything is noted.
        seconds: How long, after the warm-up.
        timeout: Seconds that a request may take.
        seed: Of the times at which requests are due, in the open loop.
        tls: Arguments of :func:`channel_credentials`.
    """

    server: str
    requests: list[bytes]
    first: int
    clients: int
    rate: float | None
    warm_up: float
    seconds: float
    timeout: float
    seed: int
    tls: dict[str, Any]


@dataclass
class Samples:
    """What became of each request; arrays of one length.

    Attributes:
        due: Seconds since the end of the warm-up at which the request was to be sent.
        latency: Seconds from then to its answer.
        late: Seconds from then until it was sent; 0 in the closed loop.
        code: Its gRPC status.
        version: The version of the model that answered, or 0.
        messages: What the server said with each status, the first time.
        processor_seconds: What the process used, warm-up included.
    """

    due: array.array[float] = field(default_factory=lambda: array.array("d"))
    latency: array.array[float] = field(default_factory=lambda: array.array("d"))
    late: array.array[float] = field(default_factory=lambda: array.array("d"))
    code: array.array[int] = field(default_factory=lambda: array.array("b"))
    version: array.array[int] = field(default_factory=lambda: array.array("q"))
    messages: dict[int, str] = field(default_factory=dict)
    processor_seconds: float = 0.0

    def add(
        self, due: float, latency: float, late: float, code: int, version: int
    ) -> None:
        """Notes one request, unless it was of the warm-up."""
        if due >= 0:
            self.due.append(due)
            self.latency.append(latency)
            self.late.append(late)
            self.code.append(code)
            self.version.append(version)

    def extend(self, other: Samples) -> None:
        """Takes over those of another."""
        self.due += other.due
        self.latency += other.latency
        self.late += other.late
        self.code += other.code
        self.version += other.version
        self.messages = {**other.messages, **self.messages}
        self.processor_seconds += other.processor_seconds


def work(connection: Connection, plan: Plan) -> None:
    """Connects, says so, waits for the time to begin, and sends back :class:`Samples`.

    Args:
        connection: To the process that has started this one. What it gets first is the
            time of the monotonic clock at which the warm-up begins.
        plan: What to do.
    """
    # Ctrl-C reaches all processes of a terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    options = channel_options(1, plan.tls["server_name"])
    credentials = channel_credentials(**plan.tls)
    with (
        grpc.insecure_channel(plan.server, options)
        if credentials is None
        else grpc.secure_channel(plan.server, credentials, options)
    ) as channel:
        # The first request to a channel would pay for its connection.
        try:
            grpc.channel_ready_future(channel).result(plan.timeout)
        except grpc.FutureTimeoutError:
            connection.send(False)
            return
        predict = channel.unary_unary(
            PREDICT, response_deserializer=wire.PredictResponse.FromString
        )
        connection.send(True)
        begin = connection.recv()
        before = time.process_time()
        loop = _closed_loop if plan.rate is None else _open_loop
        samples = loop(predict, plan, begin)
    samples.processor_seconds = time.process_time() - before
    connection.send(samples)


def _closed_loop(predict: Callable[..., Any], plan: Plan, begin: float) -> Samples:
    """Each client, a thread of its own, sends when it has been answered."""
    zero = begin + plan.warm_up
    parts = [Samples() for _ in range(plan.clients)]

    def be_client(number: int) -> None:
        samples, requests = parts[number], plan.requests
        place = plan.first + number * len(requests) // plan.clients
        time.sleep(max(0.0, begin - time.monotonic()))
        while (sent := time.monotonic() - zero) < plan.seconds:
            code, version = OK, 0
            try:
                response = predict(requests[place % len(requests)], plan.timeout)
                version = response.model_spec.version.value
            except grpc.RpcError as error:
                code = error.code().value[0]
                samples.messages.setdefault(code, error.details() or "")
            latency = time.monotonic() - zero - sent
            samples.add(sent, latency, 0.0, code, version)
            place += 1
            if code != OK:
                time.sleep(_REST_SECONDS)

    threads = [
        threading.Thread(target=be_client, args=[number])
        for number in range(plan.clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for part in parts[1:]:
        parts[0].extend(part)
    return parts[0]


def _open_loop(predict: Any, plan: Plan, begin: float) -> Samples:
    """Requests are sent when they are due, whether others have been answered or not."""
    rate = plan.rate or 1.0
    zero = begin + plan.warm_up
    generator = random.Random(plan.seed)
    samples = Samples()
    lock = threading.Lock()
    under_way = threading.Semaphore(0)
    count = 0

    def answered(future: Any, due: float, sent: float) -> None:
        now = time.monotonic() - zero
        code = future.code().value[0]
        if code == OK:
            version = future.result().model_spec.version.value
        else:
            version = 0
            samples.messages.setdefault(code, future.details() or "")
        # Called by gRPC's thread or, of what has been answered already, by this one.
        with lock:
            samples.add(due, now - due, sent - due, code, version)
        under_way.release()

    due = begin - zero
    while (due := due + generator.expovariate(rate)) < plan.seconds:
        wait = due - (time.monotonic() - zero)
        if wait > 0:
            time.sleep(wait)
        sent = time.monotonic() - zero
        request = plan.requests[(plan.first + count) % len(plan.requests)]
        future = predict.future(request, plan.timeout)
        future.add_done_callback(
            lambda future, due=due, sent=sent: answered(future, due, sent)
        )
        count += 1
    for _ in range(count):
        under_way.acquire()
    return samples
