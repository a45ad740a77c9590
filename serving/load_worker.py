"""A process of the load test: sends requests, and notes when each was due and answered."""

from __future__ import annotations

import array
import random
import signal
import threading
import time
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


def _closed_loop(predict: Any, plan: Plan, begin: float) -> Samples:
    """Each client sends when it has been answered, from gRPC's own thread.

    A thread for each client would have to be woken for each answer, on cores that the
    server may have a use for.
    """
    zero = begin + plan.warm_up
    clients = [_Client(predict, plan, zero, number) for number in range(plan.clients)]
    time.sleep(max(0.0, begin - time.monotonic()))
    for client in clients:
        client.send()
    samples = Samples()
    for client in clients:
        client.ended.acquire()
        samples.extend(client.samples)
    return samples


class _Client:
    """A client of the closed loop: one request after the other.

    Args:
        predict: Sends a request.
        plan: What to do.
        zero: When the warm-up is over, by the monotonic clock.
        number: Which client it is.
    """

    def __init__(self, predict: Any, plan: Plan, zero: float, number: int) -> None:
        self.samples = Samples()
        # Held until its time is over.
        self.ended = threading.Lock()
        self.ended.acquire()
        self._predict = predict
        self._plan = plan
        self._zero = zero
        self._place = plan.first + number * len(plan.requests) // plan.clients
        self._sent = 0.0

    def send(self) -> None:
        """Sends the next request, if it is still time to."""
        self._sent = time.monotonic() - self._zero
        if self._sent >= self._plan.seconds:
            self.ended.release()
            return
        requests = self._plan.requests
        request = requests[self._place % len(requests)]
        self._place += 1
        self._predict.future(request, self._plan.timeout).add_done_callback(
            self._answered
        )

    def _answered(self, call: Any) -> None:
        latency = time.monotonic() - self._zero - self._sent
        code, version = _outcome(call, self.samples)
        self.samples.add(self._sent, latency, 0.0, code, version)
        if code == OK:
            self.send()
        else:
            timer = threading.Timer(_REST_SECONDS, self.send)
            timer.daemon = True
            timer.start()


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
        code, version = _outcome(future, samples)
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


def _outcome(call: Any, samples: Samples) -> tuple[int, int]:
    """The status of a call that has ended, and the version that has answered, or 0."""
    code = call.code().value[0]
    if code == OK:
        return code, call.result().model_spec.version.value
    samples.messages.setdefault(code, call.details() or "")
    return code, 0
