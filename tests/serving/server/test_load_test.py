"""The load test: its figures, and what it does to a server that counts along."""

from __future__ import annotations

import array
import json
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
import tensorflow as tf
import trustme
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.apis import predict_pb2

from adaptiverec.common.errors import (
    ContractError,
    InvalidValueError,
    NotFoundError,
    OutputExistsError,
)
from adaptiverec.model.prepared_data import PreparedData
from adaptiverec.serving.client import RecommenderClient, ServerError
from adaptiverec.serving.load_histories import (
    drawn_histories,
    prepared_histories,
    walked_histories,
)
from adaptiverec.serving.load_report import percentile, print_load_report, summarize
from adaptiverec.serving.load_test import loadtest
from adaptiverec.serving.load_worker import Samples

CATALOGUE = [f"item {number}" for number in range(300)]


@given(
    numbers=st.lists(st.floats(0, 9), min_size=1, max_size=1200),
    percent=st.sampled_from([50.0, 90.0, 95.0, 99.0, 99.9]),
)
def test_a_percentile_is_the_least_that_so_many_do_not_exceed(numbers, percent) -> None:
    found = percentile(sorted(numbers), percent)
    # In thousandths, without fractions.
    enough = len(numbers) * round(percent * 10)
    assert sum(number <= found for number in numbers) * 1000 >= enough
    assert sum(number < found for number in numbers) * 1000 < enough


def test_percentiles_by_hand() -> None:
    thousand = [float(number) for number in range(1, 1001)]
    assert percentile(thousand, 99.9) == 999
    assert percentile(thousand, 50) == 500
    assert percentile([3.0], 99.9) == 3


def test_windows_show_a_swap_and_a_stall() -> None:
    samples = Samples(
        due=array.array("d", [0.1, 0.5, 0.9, 1.2, 1.9, 2.4]),
        latency=array.array("d", [0.1, 0.1, 0.7, 0.2, 0.05, 0.2]),
        late=array.array("d", [0.0] * 6),
        code=array.array("b", [0, 0, 0, 14, 0, 0]),
        version=array.array("q", [1, 1, 2, 0, 2, 2]),
    )
    report = summarize(samples, 2.5, 1.0)
    first, second, third = report["windows"]
    assert first["latency_ms"] == {
        "mean": 300.0,
        **dict.fromkeys(["p90", "p95", "p99", "p99.9", "max"], 700.0),
        "p50": 100.0,
    }
    # The third of the requests was answered in the second window.
    assert [part["requests"] for part in report["windows"]] == [3, 2, 1]
    assert [part["requests_per_second"] for part in report["windows"]] == [2, 2, 0]
    assert [part["versions"] for part in report["windows"]] == [
        {"1": 2, "2": 1},
        {"2": 1},
        {"2": 1},
    ]
    assert second["errors"] == {"UNAVAILABLE": 1}
    assert second["latency_ms"]["max"] == 50.0
    assert (third["start"], third["seconds"]) == (2.0, 0.5)
    # The last answer came too late to count as throughput.
    assert report["total"]["requests_per_second"] == 1.6
    assert report["total"]["requests"] == 6
    assert report["total"]["versions"] == {"1": 2, "2": 3}


def test_nothing_answered_has_no_latency() -> None:
    report = summarize(Samples(), 1.0, 0.5)
    assert report["total"]["latency_ms"] is None
    assert report["total"]["requests"] == 0


class Standing:
    """Recommends the catalogue from a place on; fails and stalls when it is told to."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.stall = threading.Lock()
        self.refuse = False
        self.histories: list[list[bytes]] = []
        self.shapes: Counter = Counter()

    def __call__(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self.stall:
            pass
        history = tf.make_ndarray(request.inputs["history"])
        k = request.inputs["k"].int_val[0]
        with self.lock:
            self.histories += [list(filter(None, row)) for row in history.tolist()]
            self.shapes[history.shape] += 1
            refuse = self.refuse
            count = sum(self.shapes.values())
        if refuse and count % 2 == 0:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "on purpose")
        begin = random.Random(count).randrange(len(CATALOGUE) - k)
        response = predict_pb2.PredictResponse()
        response.model_spec.version.value = 5
        rows = len(history)
        for name, value in {
            "items": [CATALOGUE[begin : begin + k]] * rows,
            "scores": tf.ones([rows, k]),
            "unknown_items": tf.zeros([rows], tf.int32),
            "fallback": tf.zeros([rows], tf.bool),
        }.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response


@contextmanager
def standing(
    credentials: grpc.ServerCredentials | None = None,
) -> Iterator[tuple[str, Standing]]:
    answer = Standing()
    method = grpc.unary_unary_rpc_method_handler(
        answer,
        predict_pb2.PredictRequest.FromString,
        predict_pb2.PredictResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(
        "tensorflow.serving.PredictionService", {"Predict": method}
    )
    with ThreadPoolExecutor(100) as pool:
        server = grpc.server(pool, [handler])
        if credentials is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        yield f"127.0.0.1:{port}", answer
        server.stop(0).wait()


def test_closed_loop(tmp_path, capsys) -> None:
    output = tmp_path / "report.json"
    with standing() as (address, answer):
        report = loadtest(
            server=address,
            clients=6,
            processes=2,
            seconds=0.8,
            warm_up=0.2,
            num_histories=30,
            history_length=9,
            k=4,
            window=0.5,
            timeout=30,
            output=str(output),
        )
    assert json.loads(output.read_text("utf-8")) == report
    total = report["total"]
    assert total["errors"] == {}
    assert total["versions"] == {"5": total["requests"]}
    # The warm-up is not counted, so the server has seen more.
    assert 6 <= total["requests"] < answer.shapes[1, 10]
    assert sum(part["requests"] for part in report["windows"]) == total["requests"]
    assert [part["seconds"] for part in report["windows"]] == [0.5, 0.3]
    assert report["generator"]["processes"] == 2
    # Each client, of either process, has histories of its own, all of nine items.
    sent = [row for row in answer.histories if len(row) == 9]
    assert len({tuple(row) for row in sent}) > 6
    print_load_report(report)
    out = capsys.readouterr().out
    assert "closed loop, 6 clients" in out
    assert f"{total['requests']:,}" in out
    assert max(map(len, out.splitlines())) <= 80


def test_over_mutual_tls(tmp_path) -> None:
    authority = trustme.CA()
    server_certificate = authority.issue_cert("127.0.0.1")
    client_certificate = authority.issue_cert("load@example.org")
    files = {name: tmp_path / f"{name}.pem" for name in ("ca", "certificate", "key")}
    authority.cert_pem.write_to_path(files["ca"])
    client_certificate.cert_chain_pems[0].write_to_path(files["certificate"])
    client_certificate.private_key_pem.write_to_path(files["key"])
    credentials = grpc.ssl_server_credentials(
        [
            (
                server_certificate.private_key_pem.bytes(),
                server_certificate.cert_chain_pems[0].bytes(),
            )
        ],
        root_certificates=authority.cert_pem.bytes(),
        require_client_auth=True,
    )
    with standing(credentials) as (address, _):
        report = loadtest(
            server=address,
            clients=2,
            seconds=0.3,
            warm_up=0,
            num_histories=4,
            history_length=3,
            timeout=30,
            tls=True,
            **{f"tls_{name}": str(file) for name, file in files.items()},
        )
        with pytest.raises(ServerError, match="UNAVAILABLE"):
            loadtest(server=address, seconds=0.3, num_histories=4, timeout=2)
    assert report["total"]["errors"] == {}
    assert report["total"]["requests"] >= 2


def test_failures_are_counted_by_status(capsys) -> None:
    with standing() as (address, answer):
        answer.refuse = True
        report = loadtest(
            server=address,
            clients=4,
            seconds=0.6,
            warm_up=0,
            num_histories=8,
            history_length=3,
            batch_size=4,
            timeout=30,
        )
    total = report["total"]
    assert list(total["errors"]) == ["RESOURCE_EXHAUSTED"]
    failed = total["errors"]["RESOURCE_EXHAUSTED"]
    assert failed + total["versions"]["5"] == total["requests"]
    # None is sent again: every second one fails.
    assert abs(failed - total["requests"] / 2) <= 2
    print_load_report(report)
    assert report["messages"] == {"RESOURCE_EXHAUSTED": "on purpose"}
    out = capsys.readouterr().out
    assert f"{failed:,} RESOURCE_EXHAUSTED, such as: on purpose" in out


@pytest.mark.parametrize(
    "loop", [{"rate": 100.0}, {"clients": 1}], ids=["open", "closed"]
)
def test_a_stall_counts_for_all_who_were_due(loop, tmp_path) -> None:
    vocabulary = tmp_path / "vocabulary.txt"
    vocabulary.write_text("a\nb\nc\n", "utf-8")
    with standing() as (address, answer):

        def stall() -> None:
            while sum(answer.shapes.values()) < 10:
                time.sleep(0.005)
            with answer.stall:
                time.sleep(0.8)

        thread = threading.Thread(target=stall)
        thread.start()
        report = loadtest(
            server=address,
            vocabulary=str(vocabulary),
            seconds=1.5,
            warm_up=0,
            timeout=30,
            history_length=4,
            window=1.5,
            **loop,
        )
        thread.join()
    latency = report["total"]["latency_ms"]
    assert latency["max"] > 700
    if report["loop"] == "open":
        # More than half of the time, half of whose requests waited 400 ms and more.
        assert latency["p90"] > 400
        assert report["generator"]["late_ms"]["max"] >= 0
        # Of a Poisson process with mean 150, in all but one of a billion cases.
        assert 75 < report["total"]["requests"] < 235
    else:
        assert latency["p90"] < 400


@pytest.fixture
def data(prepared_path) -> PreparedData:
    return PreparedData.open(str(prepared_path))


@pytest.mark.parametrize("count", [5, 10_000])
def test_histories_of_prepared_data(prepared_path, data, count) -> None:
    sequences = data.sequences()
    starts, ends = sequences.starts[:-1], sequences.starts[1:]
    expected = [
        [data.vocabulary[item - 1] for item in sequences.items[start:end][-7:]]
        for start, end in zip(starts, ends, strict=True)
    ]
    assert prepared_histories(prepared_path, count, 7) == expected[:count]


def test_histories_of_compressed_data(raw_log, tmp_path) -> None:
    from adaptiverec.pipeline import prepare

    columns = {"user_column": "user_id", "item_column": "item_id"}
    found = []
    for compression in ("none", "gzip"):
        path = tmp_path / compression
        prepare(
            input=[str(raw_log)],
            output=str(path),
            time_column="timestamp",
            output_compression=compression,
            **columns,
        )
        found.append(prepared_histories(path, 1000, 50))
    assert found[0] == found[1]


def test_data_that_is_none(tmp_path) -> None:
    with pytest.raises(NotFoundError, match="Received: "):
        prepared_histories(tmp_path / "none", 1, 1)
    with pytest.raises(ContractError, match="Received: "):
        prepared_histories(tmp_path, 1, 1)


def test_drawn_histories_follow_the_ranks(tmp_path) -> None:
    path = tmp_path / "vocabulary.txt"
    path.write_text("one\ntwo\n\N{SNOWMAN}\u2028x\n", "utf-8")
    histories = drawn_histories(path, 3000, 4, seed=1)
    assert drawn_histories(path, 3000, 4, seed=1) == histories
    counts = Counter(item for history in histories for item in history)
    # With three items: log(1 + 1/rank) / log 4.
    for rank, item in enumerate(("one", "two", "\N{SNOWMAN}\u2028x"), start=1):
        share = math.log(1 + 1 / rank) / math.log(4)
        assert counts[item] / 12_000 == pytest.approx(share, abs=0.02)
    path.write_text("")
    with pytest.raises(InvalidValueError, match="at least one line. Received: "):
        drawn_histories(path, 1, 1, 0)
    path.write_bytes(b"\xff\n")
    with pytest.raises(InvalidValueError, match="UTF-8. Received: "):
        drawn_histories(path, 1, 1, 0)


@pytest.mark.parametrize("length", [1, 2, 11])
def test_walked_histories_are_of_recommended_items(length) -> None:
    with standing() as (address, _), RecommenderClient(address, timeout=30) as client:
        histories = walked_histories(client, 20, length, seed=2)
    assert [len(history) for history in histories] == [length] * 20
    assert {item for history in histories for item in history} <= set(CATALOGUE)


@pytest.mark.parametrize(
    "options",
    [
        {"clients": 3, "rate": 1.0},
        {"data": "a", "vocabulary": "b"},
        {"clients": 0},
        {"rate": 0.0},
        {"seconds": 0.0},
        {"warm_up": -1.0},
        {"window": 0.0},
        {"batch_size": 0},
        {"history_length": 0},
        {"num_histories": 0},
        {"processes": 0},
        {"processes": 3, "clients": 2},
        {"tls_ca": "ca.pem"},
        {"k": 0, "vocabulary": __file__},
    ],
)
def test_options_outside_their_rules(options) -> None:
    with pytest.raises(InvalidValueError, match="Received: "):
        loadtest(server="127.0.0.1:1", **options)


def test_outputs_and_inputs_that_cannot_be(tmp_path) -> None:
    there = tmp_path / "there.json"
    there.touch()
    with pytest.raises(OutputExistsError):
        loadtest(server="127.0.0.1:1", output=str(there))
    for output in (tmp_path, tmp_path / "none" / "report.json"):
        with pytest.raises(NotFoundError, match="output must be a file.*Received: "):
            loadtest(server="127.0.0.1:1", output=str(output))
    with pytest.raises(NotFoundError, match="vocabulary must be .*Received: "):
        loadtest(server="127.0.0.1:1", vocabulary=str(tmp_path / "none"))


def test_a_server_that_is_not_there_is_told_before_any_load(tmp_path) -> None:
    vocabulary = tmp_path / "vocabulary.txt"
    vocabulary.write_text("a\n", "utf-8")
    with pytest.raises(ServerError, match="UNAVAILABLE"):
        loadtest(server="127.0.0.1:1", vocabulary=str(vocabulary))
