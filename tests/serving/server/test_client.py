"""The client, against a real server and against servers of another kind."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from adaptiverec.common.errors import InvalidValueError, StageError
from adaptiverec.serving.client import (
    Recommendations,
    RecommenderClient,
    ServerError,
)


@pytest.fixture(scope="module")
def client(toy_server):
    with RecommenderClient(toy_server.address, "toy", timeout=30) as client:
        yield client


def test_recommends(client):
    assert client.recommend(["a", "zz", "c"], k=2) == Recommendations(
        items=["b", "d"],
        scores=[4.0, 2.0],
        unknown_items=1,
        fallback=False,
        model_version=7,
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        client.recommend(("a",)).items = []


def test_k_beyond_the_catalogue_gives_what_there_is(client):
    answer = client.recommend(["x,y"], k=50)
    assert answer.items == ["a", "b", "c", "d"]
    assert answer.scores == [5.0, 4.0, 3.0, 2.0]


def test_a_batch_is_answered_row_by_row(client):
    histories = [["a"], ["b", "zz", "a", "zy"], ["c", "d"]]
    answers = client.recommend_many(histories, k=3)
    assert answers == [client.recommend(history, k=3) for history in histories]
    assert [answer.unknown_items for answer in answers] == [0, 2, 0]


def test_a_large_batch_passes_four_mebibytes(client):
    history = ["a", *(f"unknown-{n:0100}" for n in range(600))]
    answers = client.recommend_many(100 * [history], k=1)
    assert answers == 100 * [Recommendations(["b"], [4.0], 600, False, 7)]


@pytest.mark.parametrize("k", [0, -1, 2**31, 1.5, True, "3", None])
def test_k_is_checked_before_any_call(k):
    client = RecommenderClient("127.0.0.1:1")
    with pytest.raises(InvalidValueError, match=r"k must be .* Received: k="):
        client.recommend(["a"], k=k)


@pytest.mark.parametrize("history", ["abc", b"abc", [""], ["a", 3], ["\udc80"]])
def test_a_history_is_checked_before_any_call(history):
    client = RecommenderClient("127.0.0.1:1")
    with pytest.raises(InvalidValueError, match="Received: "):
        client.recommend(history)
    with pytest.raises(InvalidValueError, match="Received: "):
        client.recommend_many([["a"], history])


def test_a_batch_has_a_history():
    client = RecommenderClient("127.0.0.1:1")
    with pytest.raises(InvalidValueError, match=r"at least one history.*\[\]$"):
        client.recommend_many([])


@pytest.mark.parametrize(
    "arguments",
    [
        {"server": ""},
        {"model": ""},
        {"timeout": 0},
        {"timeout": float("inf")},
        {"version": -1},
        {"label": ""},
        {"label": "stable", "version": 1},
        {"max_attempts": 0},
        {"max_attempts": 6},
        {"batch_size": 0},
        {"in_flight": 0},
        {"tls_ca": "ca.pem"},
        {"tls": True, "tls_key": "key.pem"},
        {"tls": True, "tls_certificate": "certificate.pem"},
    ],
)
def test_arguments_outside_their_rules(arguments):
    with pytest.raises(InvalidValueError, match="Received: "):
        RecommenderClient(**{"server": "127.0.0.1:1", **arguments})


def test_a_server_that_is_not_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with (
            RecommenderClient(address, timeout=30) as client,
            pytest.raises(ServerError) as caught,
        ):
            client.recommend(["a"])
    assert isinstance(caught.value, StageError)
    assert caught.value.code == "UNAVAILABLE"
    assert caught.value.server == address
    message = "Is it running, at that address"
    assert message in str(caught.value)


def test_the_servers_refusal_is_told(toy_server, client):
    with (
        RecommenderClient(toy_server.address, "shop") as other,
        pytest.raises(ServerError) as caught,
    ):
        other.recommend(["a"])
    assert str(caught.value) == (
        "The server must answer with recommendations. Name and version must "
        "be those of a model that it serves. Received: NOT_FOUND from "
        f"{toy_server.address}: Servable not found for request: Latest(shop)"
    )
    with (
        RecommenderClient(toy_server.address, "toy", version=6) as other,
        pytest.raises(ServerError, match=r"Specific\(toy, 6\)"),
    ):
        other.recommend(["a"])
    with pytest.raises(ServerError, match=r"INVALID_ARGUMENT.*must have a known item"):
        client.recommend(["zz"])


@contextmanager
def server_of(answer):
    """A server that answers every Predict by a function, as another product would."""
    handler = grpc.method_handlers_generic_handler(
        "tensorflow.serving.PredictionService",
        {
            "Predict": grpc.unary_unary_rpc_method_handler(
                lambda request, context: answer(request),
                predict_pb2.PredictRequest.FromString,
                predict_pb2.PredictResponse.SerializeToString,
            )
        },
    )
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool, handlers=[handler])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(0).wait()


def answer_of(**outputs):
    response = predict_pb2.PredictResponse()
    response.model_spec.version.value = 3
    for name, value in outputs.items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
    return response


def test_the_request_is_what_the_signature_asks_for():
    received = []

    def answer(request):
        received.append(request)
        # make_tensor_proto packs numbers into tensor_content, as a server may.
        scores, unknown = tf.constant([[0.5], [0.25]]), tf.constant([0, 1])
        return answer_of(
            items=[["b"], ["c"]],
            scores=scores,
            unknown_items=unknown,
            fallback=tf.constant([True, False]),
        )

    with (
        server_of(answer) as address,
        RecommenderClient(address, "shop", version=3, timeout=30) as client,
    ):
        answers = client.recommend_many([["a"], ["b", "\N{SNOWMAN}"]], k=4)
    assert answers == [
        Recommendations(["b"], [0.5], 0, True, 3),
        Recommendations(["c"], [0.25], 1, False, 3),
    ]
    (request,) = received
    assert request.model_spec.name == "shop"
    assert request.model_spec.version.value == 3
    assert request.model_spec.signature_name == ""
    assert tf.make_ndarray(request.inputs["history"]).tolist() == [
        # What a server that batches pads with, a row begins with.
        [b"", b"", b"a"],
        [b"", b"b", "\N{SNOWMAN}".encode()],
    ]
    k = tf.make_ndarray(request.inputs["k"])
    assert (k.dtype, k.tolist()) == ("int32", [4, 4])
    assert list(request.output_filter) == [
        "items",
        "scores",
        "unknown_items",
        "fallback",
    ]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (answer_of(items=[["b"]]), "it has no fallback, scores, unknown_items"),
        (
            answer_of(items=["b"], scores=[0.5], unknown_items=[0], fallback=[False]),
            r"items has shape \[1\]",
        ),
        (
            answer_of(
                items=[["b", "c"]], scores=[[0.5]], unknown_items=[0], fallback=[False]
            ),
            "its outputs differ in length",
        ),
        (
            answer_of(
                items=[[b"\xff"]], scores=[[0.5]], unknown_items=[0], fallback=[False]
            ),
            "can't decode byte 0xff",
        ),
    ],
)
def test_an_answer_that_is_not_a_recommenders(answer, message):
    with (
        server_of(lambda request: answer) as address,
        RecommenderClient(address, timeout=30) as client,
        pytest.raises(ServerError, match=f"not a recommender's: .*{message}"),
    ):
        client.recommend(["a"])


def test_the_timeout_holds():
    over = threading.Event()
    handler = grpc.method_handlers_generic_handler(
        "tensorflow.serving.PredictionService",
        {"Predict": grpc.unary_unary_rpc_method_handler(lambda *_: over.wait(60))},
    )
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool, handlers=[handler])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with (
            RecommenderClient(f"127.0.0.1:{port}", "toy", timeout=0.05) as client,
            pytest.raises(ServerError) as caught,
        ):
            client.recommend(["a"])
        over.set()
        server.stop(0).wait()
    assert caught.value.code == "DEADLINE_EXCEEDED"


def test_a_call_imports_neither_tensorflow_nor_keras(toy_server):
    code = (
        "import asyncio, sys\n"
        "from adaptiverec.serving import AsyncRecommenderClient, RecommenderClient\n"
        "import adaptiverec.serving.load_histories\n"
        "import adaptiverec.serving.load_worker\n"
        "with RecommenderClient(sys.argv[1], 'toy', timeout=30) as client:\n"
        "    print(*client.recommend(['a'], k=2).items)\n"
        "async def ask():\n"
        "    async with AsyncRecommenderClient(sys.argv[1], 'toy', timeout=30) as client:\n"
        "        print(*(await client.recommend(['a'], k=2)).items)\n"
        "asyncio.run(ask())\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'rich', 'apache_beam', 'pyarrow'}\n"
        "print(heavy & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, toy_server.address],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "b c\nb c\nset()\n"
