"""Both clients, against servers that fail on purpose: attempts, deadlines, TLS, order."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import tensorflow as tf
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import predict_pb2

from adaptiverec.common.errors import InvalidValueError, NotFoundError
from adaptiverec.serving.async_client import AsyncRecommenderClient
from adaptiverec.serving.client import RecommenderClient, ServerError

Answer = Callable[[Any, grpc.ServicerContext], Any]


@contextmanager
def server_of(
    answer: Answer, credentials: grpc.ServerCredentials | None = None
) -> Iterator[str]:
    """A server that answers every Predict by a function."""
    method = grpc.unary_unary_rpc_method_handler(
        answer,
        predict_pb2.PredictRequest.FromString,
        predict_pb2.PredictResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(
        "tensorflow.serving.PredictionService", {"Predict": method}
    )
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(
            pool, [handler], options=[("grpc.max_receive_message_length", -1)]
        )
        if credentials is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(0).wait()


def last_items(request: Any, context: Any = None) -> predict_pb2.PredictResponse:
    """Recommends the last item of each history alone, and scores it 1."""
    response = predict_pb2.PredictResponse()
    rows = tf.make_ndarray(request.inputs["history"])
    for name, value in {
        "items": rows[:, -1:],
        "scores": tf.ones([len(rows), 1]),
        "unknown_items": tf.zeros([len(rows)], tf.int32),
        "fallback": rows[:, -1] == b"",
    }.items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
    return response


def failing(*codes: grpc.StatusCode) -> tuple[Answer, list]:
    """Answers with these codes, one after the other, and then as it should."""
    received: list = []

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        received.append(request)
        if len(received) <= len(codes):
            context.abort(codes[len(received) - 1], "on purpose")
        return last_items(request)

    return answer, received


def in_thread(address: str, method: str, *args: Any, **kwargs: Any) -> Any:
    options = {"timeout": 30, **kwargs.pop("client", {})}
    with RecommenderClient(address, "shop", **options) as client:
        return getattr(client, method)(*args, **kwargs)


def in_loop(address: str, method: str, *args: Any, **kwargs: Any) -> Any:
    options = {"timeout": 30, **kwargs.pop("client", {})}

    async def ask() -> Any:
        async with AsyncRecommenderClient(address, "shop", **options) as client:
            return await getattr(client, method)(*args, **kwargs)

    return asyncio.run(ask())


@pytest.fixture(params=[in_thread, in_loop], ids=["threads", "asyncio"])
def ask(request) -> Callable[..., Any]:
    """Makes a client, calls one of its methods, and closes it."""
    return request.param


RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)


@pytest.mark.parametrize("code", RETRIED, ids=lambda code: code.name)
def test_what_may_pass_is_asked_again(ask, code) -> None:
    answer, received = failing(code, code)
    with server_of(answer) as address:
        assert ask(address, "recommend", ["a", "b"]).items == ["b"]
    assert len(received) == 3
    assert received[0] == received[1] == received[2]


@pytest.mark.parametrize("attempts", [1, 2])
@pytest.mark.parametrize("code", RETRIED, ids=lambda code: code.name)
def test_what_does_not_pass_is_told(ask, code, attempts) -> None:
    answer, received = failing(*[code] * 100)
    with server_of(answer) as address, pytest.raises(ServerError) as caught:
        ask(address, "recommend", ["a"], client={"max_attempts": attempts})
    assert len(received) == attempts
    assert (caught.value.code, caught.value.details) == (code.name, "on purpose")
    assert caught.value.hint
    assert caught.value.hint in str(caught.value)
    assert str(caught.value).endswith(
        f"Received: {code.name} from {address}: on purpose"
    )


@pytest.mark.parametrize(
    "code",
    [code for code in grpc.StatusCode if code not in (*RETRIED, grpc.StatusCode.OK)],
    ids=lambda code: code.name,
)
@pytest.mark.parametrize("method", ["recommend", "recommend_many"])
def test_other_failures_are_told_at_once(ask, code, method) -> None:
    answer, received = failing(code)
    histories: Any = ["a"] if method == "recommend" else [["a"], ["b"]]
    client = {"batch_size": 1, "in_flight": 1}
    with server_of(answer) as address, pytest.raises(ServerError) as caught:
        ask(address, method, histories, client=client)
    assert (caught.value.code, caught.value.details) == (code.name, "on purpose")
    # The second history may have been on its way.
    assert 1 <= len(received) <= (1 if method == "recommend" else 2)


def test_a_large_request_is_asked_again(ask) -> None:
    answer, received = failing(grpc.StatusCode.UNAVAILABLE)
    with server_of(answer) as address:
        items = ask(address, "recommend", [*(["x" * 100] * 50_000), "a"]).items
    assert items == ["a"]
    assert len(received) == 2


def test_the_deadline_holds_for_all_attempts(ask) -> None:
    answer, received = failing(*[grpc.StatusCode.UNAVAILABLE] * 100)
    with server_of(answer) as address, pytest.raises(ServerError) as caught:
        # Four waits are longer than that, so the fifth attempt is not made.
        ask(address, "recommend", ["a"], timeout=0.2)
    assert caught.value.code in ("DEADLINE_EXCEEDED", "UNAVAILABLE")
    assert len(received) < 5


def test_a_call_may_have_a_deadline_of_its_own(ask) -> None:
    over = threading.Event()

    def answer(request: Any, context: Any) -> Any:
        over.wait(30)
        return last_items(request)

    with server_of(answer) as address:
        try:
            with pytest.raises(ServerError, match="DEADLINE_EXCEEDED"):
                ask(address, "recommend", ["a"], timeout=0.1)
        finally:
            over.set()


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_a_deadline_is_checked(ask, timeout) -> None:
    with pytest.raises(InvalidValueError, match="Received: timeout="):
        ask("127.0.0.1:1", "recommend", ["a"], timeout=timeout)


class Counting:
    """Answers after a moment; knows how many requests it had at once, and their sizes."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.random = random.Random(0)
        self.reset()

    def reset(self) -> None:
        self.now, self.most, self.sizes = 0, 0, []

    def __call__(self, request: Any, context: Any) -> Any:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.sizes.append(request.inputs["history"].tensor_shape.dim[0].size)
            pause = self.random.random() * 0.004
        time.sleep(pause)
        with self.lock:
            self.now -= 1
        return last_items(request)


@pytest.fixture(scope="module")
def counting() -> Iterator[SimpleNamespace]:
    answer = Counting()
    with server_of(answer) as address:
        yield SimpleNamespace(address=address, answer=answer)


@pytest.mark.parametrize("ask", [in_thread, in_loop])
@settings(max_examples=25, deadline=None)
@given(
    histories=st.lists(
        st.lists(st.text("abc\N{SNOWMAN}", min_size=1, max_size=3), max_size=4),
        min_size=1,
        max_size=30,
    ),
    batch_size=st.integers(1, 12),
    in_flight=st.integers(1, 5),
)
def test_many_histories(ask, counting, histories, batch_size, in_flight) -> None:
    counting.answer.reset()
    client = {"batch_size": batch_size, "in_flight": in_flight}
    answers = ask(counting.address, "recommend_many", histories, client=client)
    assert [answer.items for answer in answers] == [row[-1:] for row in histories]
    assert [answer.fallback for answer in answers] == [not row for row in histories]
    sizes = counting.answer.sizes
    assert max(sizes) <= batch_size
    assert sum(sizes) == len(histories)
    assert len(sizes) == math.ceil(len(histories) / batch_size)
    assert counting.answer.most <= in_flight


def test_several_requests_are_under_way_at_once(ask) -> None:
    # None of the three is answered before all have come.
    together = threading.Barrier(3)

    def answer(request: Any, context: Any) -> Any:
        together.wait(30)
        return last_items(request)

    with server_of(answer) as address:
        histories = [[str(number)] for number in range(6)]
        client = {"batch_size": 2, "in_flight": 3}
        answers = ask(address, "recommend_many", histories, client=client)
    assert [answer.items for answer in answers] == histories


def test_one_request_that_fails_fails_all(ask) -> None:
    count = itertools.count()

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        if next(count) == 1:
            context.abort(grpc.StatusCode.INTERNAL, "the second")
        return last_items(request)

    with (
        server_of(answer) as address,
        pytest.raises(ServerError, match="INTERNAL.*the second"),
    ):
        ask(
            address,
            "recommend_many",
            [["a"]] * 10,
            client={"batch_size": 1, "in_flight": 2},
        )


def test_filters_go_with_the_request(ask) -> None:
    answer, received = failing()
    with server_of(answer) as address:
        ask(
            address,
            "recommend_many",
            [["a"], ["b"], ["c"]],
            exclude=["x", "yy"],
            allow=[["1"], ["2", "3"], ["4"]],
            exclude_history=False,
            client={"batch_size": 2, "in_flight": 1},
        )
        ask(address, "recommend", ["a"], exclude=["x"])
    inputs = [
        {name: tf.make_ndarray(proto).tolist() for name, proto in each.inputs.items()}
        for each in received
    ]
    assert inputs == [
        {
            "history": [[b"", b"a"], [b"", b"b"]],
            "k": [10, 10],
            "exclude": [[b"", b"x", b"yy"]],
            "allow": [[b"", b"", b"1"], [b"", b"2", b"3"]],
            "exclude_history": [False, False],
        },
        {
            "history": [[b"", b"c"]],
            "k": [10],
            "exclude": [[b"", b"x", b"yy"]],
            "allow": [[b"", b"4"]],
            "exclude_history": [False],
        },
        {"history": [[b"", b"a"]], "k": [10], "exclude": [[b"", b"x"]]},
    ]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"allow": []}, "allow must be None.* Received: allow=\\[\\]"),
        ({"allow": [["a"], []]}, "allow must be None.* Received: allow="),
        ({"exclude": [["a"]]}, "each of the 2. Received: 1 in exclude"),
        ({"exclude": "abc"}, "exclude must be a sequence.* Received: exclude='abc'"),
        ({"exclude": [""]}, "not empty. Received: ''"),
        ({"allow": [["a"], [3]]}, "not empty. Received: 3"),
    ],
)
def test_filters_are_checked_before_any_call(ask, filters, message) -> None:
    with pytest.raises(InvalidValueError, match=message):
        ask("127.0.0.1:1", "recommend_many", [["a"], ["b"]], **filters)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("score", (["a"], [])),
        ("score", ("a", ["b"])),
        ("similar_items", ([],)),
        ("similar_items", (["a"], 0)),
        ("embed_items", ("abc",)),
        ("embed_sequences", ([],)),
    ],
)
def test_other_arguments_are_checked_before_any_call(ask, method, arguments) -> None:
    with pytest.raises(InvalidValueError, match="Received: "):
        ask("127.0.0.1:1", method, *arguments)


def test_a_closed_client_is_not_used() -> None:
    client = RecommenderClient("127.0.0.1:1")
    client.close()
    with pytest.raises(InvalidValueError, match="after close.* Received: "):
        client.recommend(["a"])


def test_an_asyncio_call_can_be_cancelled() -> None:
    over = threading.Event()

    def answer(request: Any, context: Any) -> Any:
        over.wait(30)
        return last_items(request)

    async def cancel(address: str) -> None:
        async with AsyncRecommenderClient(address, timeout=30) as client:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.recommend_many([["a"]] * 200), 0.1)

    with server_of(answer) as address:
        try:
            asyncio.run(cancel(address))
        finally:
            over.set()


def test_answers_may_come_as_bytes(toys, start, tmp_path) -> None:
    shutil.copytree(toys(1), tmp_path / "toy" / "1")
    server, _ = start(tmp_path / "toy", enable_serialization_as_tensor_content=True)
    with RecommenderClient(server.address, "toy", timeout=30) as client:
        several = client.recommend_many([["a", "zz"], ["c", "d"]], k=3)
    assert [answer.items for answer in several] == [["b", "c", "d"], ["a", "b", "x,y"]]
    assert [answer.scores for answer in several] == [[4.0, 3.0, 2.0], [5.0, 4.0, 1.0]]
    assert [answer.unknown_items for answer in several] == [1, 0]
    assert [answer.fallback for answer in several] == [False, False]


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> SimpleNamespace:
    directory = tmp_path_factory.mktemp("pki")
    authority, stranger = trustme.CA(), trustme.CA()
    server = authority.issue_cert("shop.example")
    client = authority.issue_cert("client@example.org")
    paths = {
        name: str(directory / name)
        for name in ("ca", "other_ca", "certificate", "key", "other_key", "none")
    }
    authority.cert_pem.write_to_path(paths["ca"])
    stranger.cert_pem.write_to_path(paths["other_ca"])
    client.cert_chain_pems[0].write_to_path(paths["certificate"])
    client.private_key_pem.write_to_path(paths["key"])
    server.private_key_pem.write_to_path(paths["other_key"])
    pair = (server.private_key_pem.bytes(), server.cert_chain_pems[0].bytes())
    return SimpleNamespace(
        **paths,
        one_way=grpc.ssl_server_credentials([pair]),
        mutual=grpc.ssl_server_credentials(
            [pair], authority.cert_pem.bytes(), require_client_auth=True
        ),
    )


def test_tls(ask, pki) -> None:
    known = {"tls": True, "tls_ca": pki.ca, "tls_server_name": "shop.example"}
    own = {"tls_certificate": pki.certificate, "tls_key": pki.key}
    with server_of(last_items, pki.one_way) as address:
        assert ask(address, "recommend", ["a"], client=known).items == ["a"]
        for wrong in (
            {"tls": False, "tls_ca": None, "tls_server_name": None},
            {"tls_ca": pki.other_ca},
            {"tls_server_name": "other.example"},
        ):
            client = {**known, **wrong, "max_attempts": 1}
            with pytest.raises(ServerError, match="UNAVAILABLE"):
                ask(address, "recommend", ["a"], client=client)
    with server_of(last_items, pki.mutual) as address:
        client = {**known, **own}
        assert ask(address, "recommend", ["a"], client=client).items == ["a"]
        with pytest.raises(ServerError, match="UNAVAILABLE"):
            ask(address, "recommend", ["a"], client={**known, "max_attempts": 1})


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({"tls_ca": "none"}, NotFoundError, "tls_ca must be a file"),
        ({"tls_ca": "key"}, InvalidValueError, "tls_ca must be .* in PEM"),
        (
            {"tls_certificate": "certificate", "tls_key": "none"},
            NotFoundError,
            "tls_key must be a file",
        ),
        (
            {"tls_certificate": "certificate", "tls_key": "other_key"},
            InvalidValueError,
            "a certificate and its key",
        ),
        (
            {"tls_certificate": "ca", "tls_key": "ca"},
            InvalidValueError,
            "a certificate and its key",
        ),
    ],
)
def test_certificates_are_checked_at_once(pki, files, error, message) -> None:
    paths = {name: getattr(pki, value) for name, value in files.items()}
    with pytest.raises(error, match=f"{message}.*Received: ") as caught:
        RecommenderClient("127.0.0.1:1", tls=True, **paths)
    assert "BEGIN" not in str(caught.value)
