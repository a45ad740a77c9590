"""Toy models in plain TensorFlow, and servers of them on the loopback."""

from __future__ import annotations

import contextlib
import functools
import gc
import random
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from adaptiverec.serving.server import ModelServer

CATALOGUE = ["a", "b", "c", "d", "x,y"]


class Toy(tf.Module):
    """Recommends the catalogue in a fixed order, without the history."""

    def __init__(self, number: float, megabytes: int = 0) -> None:
        self.number = tf.Variable(number)
        self.ballast = tf.Variable(tf.ones([megabytes, 2**18]))
        self.constant = np.arange(megabytes * 2**18, dtype=np.float32)
        self.ids = tf.constant(CATALOGUE)
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                self.ids, tf.range(len(CATALOGUE), dtype=tf.int64)
            ),
            default_value=-1,
        )

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.string, name="history"),
            tf.TensorSpec([None], tf.int32, name="k"),
        ]
    )
    def recommend(self, history: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = self.table.lookup(history)
        known = rows >= 0
        checks = [
            tf.debugging.Assert(
                tf.reduce_all(k >= 1), ["k must be at least 1. Received:", k]
            ),
            tf.debugging.Assert(
                tf.reduce_all(tf.reduce_any(known, axis=1)),
                ["a history must have a known item. Received:", history],
            ),
        ]
        with tf.control_dependencies(checks):
            unknown = tf.reduce_sum(tf.cast((history != "") & ~known, tf.int32), axis=1)
        size = len(CATALOGUE)
        seen = tf.reduce_any(tf.one_hot(rows, size, on_value=True, off_value=False), 1)
        scores = tf.where(seen, -1.0, tf.range(size, 0.0, -1.0)[tf.newaxis])
        width = tf.reduce_max(k)
        best, order = tf.math.top_k(scores, tf.minimum(width, size))
        k_each = tf.broadcast_to(k, tf.shape(history)[:1])
        places = tf.range(tf.shape(best)[1])[tf.newaxis]
        kept = (best > 0) & (places < k_each[:, tf.newaxis])
        padding = [[0, 0], [0, width - tf.shape(best)[1]]]
        return {
            "items": tf.pad(
                tf.where(kept, tf.gather(self.ids, order), ""),
                padding,
                constant_values="",
            ),
            "scores": tf.pad(tf.where(kept, best, 0.0), padding),
            "unknown_items": unknown,
            "fallback": tf.zeros_like(unknown, tf.bool),
        }

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, name="x"),
            tf.TensorSpec([None], tf.int64, name="n"),
        ]
    )
    def numbers(self, x: tf.Tensor, n: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "number": self.number + tf.reduce_sum(tf.constant(self.constant)[:0]),
            "x_doubled": 2 * x,
            "n_plus_one": n + 1,
            "x_is_positive": x > 0,
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def echo(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"text": tf.strings.join([text, ""])}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float64, name="seconds")])
    def slow(self, seconds: tf.Tensor) -> dict[str, tf.Tensor]:
        end = tf.timestamp() + seconds
        while tf.timestamp() < end:
            tf.linalg.matmul(tf.ones([64, 64]), tf.ones([64, 64]))
        return {"number": tf.identity(self.number)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="path")])
    def read(self, path: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"size": tf.strings.length(tf.io.read_file(path))}


def save_toy(path: Path, number: float, **kwargs: Any) -> None:
    toy = Toy(number, **kwargs)
    tf.saved_model.save(
        toy,
        str(path),
        signatures={
            "serving_default": toy.recommend,
            "numbers": toy.numbers,
            "echo": toy.echo,
            "slow": toy.slow,
            "read": toy.read,
        },
    )


@pytest.fixture(scope="session")
def toys(once: Callable[..., Path]) -> Callable[[int], Path]:
    """Gives the SavedModel whose ``number`` is the one asked for; not to be changed."""

    @functools.cache
    def toy(number: int) -> Path:
        return once(f"toys/{number}", lambda path: save_toy(path, float(number)))

    return toy


@pytest.fixture
def publish(toys: Callable[[int], Path]) -> Callable[..., Path]:
    """Puts a toy under a base path as an exporter does: aside, then by a rename."""

    def publish_toy(
        base: Path,
        version: int,
        *,
        number: int = 1,
        warm_up: list[prediction_log_pb2.PredictionLog] | None = None,
    ) -> Path:
        base.mkdir(exist_ok=True)
        aside = base / f".{version}.incomplete"
        shutil.copytree(toys(number), aside)
        if warm_up is not None:
            write_warm_up(aside, [log.SerializeToString() for log in warm_up])
        return aside.rename(base / str(version))

    return publish_toy


def write_warm_up(path: Path, records: list[bytes]) -> None:
    extra = path / "assets.extra"
    extra.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        for record in records:
            writer.write(record)


def predict_request(
    signature: str = "numbers",
    *,
    model: str = "toy",
    version: int | None = None,
    **inputs: Any,
) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if signature == "numbers" and not inputs:
        inputs = {"x": tf.constant([1.5, -2.0]), "n": tf.constant([3], tf.int64)}
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def warm_up_log(**kwargs: Any) -> prediction_log_pb2.PredictionLog:
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(predict_request(**kwargs))
    return log


class Caller:
    """tensorflow-serving-api's own stubs on one server: an independent client."""

    def __init__(self, port: int) -> None:
        self.channel = grpc.insecure_channel(
            f"127.0.0.1:{port}",
            options=[
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
            ],
        )
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(
            self.channel
        )
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def number(self) -> tuple[int, float]:
        """The version that answers, and the number in its variable."""
        response = self.prediction.Predict(predict_request(), timeout=30)
        return (
            response.model_spec.version.value,
            response.outputs["number"].float_val[0],
        )

    def statuses(self) -> dict[int, tuple[int, int, str]]:
        """State, error code and message of each version."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "toy"
        response = self.models.GetModelStatus(request, timeout=30)
        return {
            entry.version: (
                entry.state,
                entry.status.error_code,
                entry.status.error_message,
            )
            for entry in response.model_version_status
        }

    def refusal(
        self, request: Any, method: str = "Predict"
    ) -> tuple[grpc.StatusCode, str]:
        """The status code and message of a call that must fail."""
        with pytest.raises(grpc.RpcError) as caught:
            getattr(self.prediction, method)(request, timeout=30)
        return caught.value.code(), caught.value.details()


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s")
        time.sleep(0.02)


@pytest.fixture(scope="session")
def new_caller() -> type[Caller]:
    """Makes clients of servers that a test has started by itself."""
    return Caller


@pytest.fixture
def start() -> Iterator[Callable[..., tuple[ModelServer, Caller]]]:
    """Starts servers of the model "toy" that look for new versions all the time."""
    started: list[tuple[ModelServer, Caller]] = []

    def start_server(base: Path, **kwargs: Any) -> tuple[ModelServer, Caller]:
        options = {
            "port": 0,
            "file_system_poll_wait_seconds": 0.05,
            "max_num_load_retries": 0,
            **kwargs,
        }
        server = ModelServer(model_base_path=base, model_name="toy", **options)
        server.start()
        started.append((server, Caller(server.port)))
        return started[-1]

    # A version that is closed has its garbage collected: not among all that is imported
    # here, which takes longer than most of these tests.
    gc.freeze()
    yield start_server
    for server, caller in started:
        caller.channel.close()
        server.stop(grace=0)
    gc.unfreeze()


@pytest.fixture(scope="module")
def toy_server(
    toys: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ModelServer]:
    """One server of version 7 of the model "toy" for a whole module."""
    base = tmp_path_factory.mktemp("base")
    shutil.copytree(toys(1), base / "7")
    with ModelServer(model_base_path=base, model_name="toy", port=0) as server:
        yield server


@pytest.fixture(scope="module")
def caller(toy_server: ModelServer) -> Iterator[Caller]:
    caller = Caller(toy_server.port)
    yield caller
    caller.channel.close()


def free_port() -> int:
    """One that stays free: below those that Linux gives to connections (32768 on)."""
    draw = random.SystemRandom()  # workers may have the same seed
    while True:
        port = draw.randrange(16_384, 32_768)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Helpers:
    """What tests call; a conftest cannot be imported."""

    free_port = staticmethod(free_port)
    predict_request = staticmethod(predict_request)
    save_toy = staticmethod(save_toy)
    wait_until = staticmethod(wait_until)
    warm_up_log = staticmethod(warm_up_log)
    write_warm_up = staticmethod(write_warm_up)

    @staticmethod
    def in_background(function: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=function)
        thread.start()
        return thread


@pytest.fixture(scope="session")
def helpers() -> type[Helpers]:
    return Helpers
