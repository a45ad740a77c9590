"""The REST API over the loopback, asked with Python's own HTTP client."""

from __future__ import annotations

import gzip
import http.client
import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow_serving.config import model_server_config_pb2

from adaptiverec.common.errors import InvalidValueError, StageError
from adaptiverec.serving.metrics import Metrics
from adaptiverec.serving.observer import Observer
from adaptiverec.serving.rest import RestServer, start_rest_server
from adaptiverec.serving.servable import Servable
from adaptiverec.serving.server import ModelServer
from adaptiverec.serving.server_core import ServerCore

TOY = "/v1/models/toy"


def save_examples_model(path: Path) -> None:
    """Classes "low" and "high" of x in each example by -x and x; and twice x."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        examples = v1.placeholder(tf.string, [None])
        features = {"x": tf.io.FixedLenFeature([1], tf.float32)}
        x = tf.io.parse_example(examples, features)["x"]
        classes = tf.tile(tf.constant([["low", "high"]]), [tf.shape(x)[0], 1])
        info, signature_def = v1.saved_model.build_tensor_info, v1.saved_model
        signatures = {
            "serving_default": signature_def.build_signature_def(
                {"inputs": info(examples)},
                {"classes": info(classes), "scores": info(tf.concat([-x, x], 1))},
                "tensorflow/serving/classify",
            ),
            "twice": signature_def.build_signature_def(
                {"inputs": info(examples)},
                {"outputs": info(2 * x)},
                "tensorflow/serving/regress",
            ),
        }
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()


def configuration(*models: dict[str, Any]) -> model_server_config_pb2.ModelServerConfig:
    config = model_server_config_pb2.ModelServerConfig()
    for model in models:
        config.model_config_list.config.add(model_platform="tensorflow", **model)
    return config


@pytest.fixture(scope="module")
def core(
    toys: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory, helpers: Any
) -> Iterator[ServerCore]:
    """Versions 7 (label "stable") and 9 of "toy", and version 5 of "examples/ü"."""
    base = tmp_path_factory.mktemp("rest")
    shutil.copytree(toys(1), base / "toy" / "7")
    shutil.copytree(toys(2), base / "toy" / "9")
    save_examples_model(base / "examples" / "5")
    core = ServerCore(lambda name, version, path: Servable(name, version, path))
    both = {"specific": {"versions": [7, 9]}}
    toy = {"name": "toy", "base_path": str(base / "toy"), "model_version_policy": both}
    examples = {"name": "examples/ü", "base_path": str(base / "examples")}
    core.reload(configuration(toy, examples))
    helpers.wait_until(lambda: len(core.available()) == 3)
    core.reload(configuration({**toy, "version_labels": {"stable": 7}}, examples))
    yield core
    core.close()


class Client:
    """One connection that is kept."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def raw(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[http.client.HTTPResponse, bytes]:
        self.connection.request(method, path, body, headers or {})
        response = self.connection.getresponse()
        return response, response.read()

    def get(self, path: str) -> tuple[int, Any]:
        response, body = self.raw("GET", path)
        assert response.getheader("content-type") == "application/json"
        return response.status, json.loads(body)

    def post(self, path: str, document: Any) -> tuple[int, Any]:
        body = (
            document if isinstance(document, bytes) else json.dumps(document).encode()
        )
        response, answer = self.raw("POST", path, body)
        assert response.getheader("content-type") == "application/json"
        return response.status, json.loads(answer)


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture(scope="module")
def rest(core: ServerCore, metrics: Metrics) -> Iterator[RestServer]:
    server = start_rest_server(
        core, host="127.0.0.1", port=0, metrics_path="/metrics", observer=metrics
    )
    yield server
    server.stop(grace=0)


@pytest.fixture
def client(rest: RestServer) -> Iterator[Client]:
    client = Client(rest.port)
    yield client
    client.connection.close()


class TestPredict:
    def test_rows_in_rows_out(self, client):
        document = {
            "instances": [
                {"history": ["a", "nobody"], "k": 2},
                {"history": ["b", "c"], "k": 1},
            ]
        }
        status, answer = client.post(f"{TOY}:predict", document)
        assert status == 200
        assert answer == {
            "predictions": [
                {
                    "items": ["b", "c"],
                    "scores": [4.0, 3.0],
                    "unknown_items": 1,
                    "fallback": False,
                },
                {
                    "items": ["a", ""],
                    "scores": [5.0, 0.0],
                    "unknown_items": 0,
                    "fallback": False,
                },
            ]
        }

    def test_columns_in_columns_out(self, client):
        document = {
            "signature_name": "numbers",
            "inputs": {"x": [1.5, -2], "n": [3]},
        }
        status, answer = client.post(f"{TOY}:predict", document)
        assert status == 200
        assert answer == {
            "outputs": {
                "number": 2.0,
                "x_doubled": [3.0, -4.0],
                "n_plus_one": [4],
                "x_is_positive": [True, False],
            }
        }

    def test_an_only_output_has_no_name_and_bytes_go_in(self, client):
        document = {"signature_name": "echo", "instances": ["ü", {"b64": "/w=="}]}
        response, body = client.raw(
            "POST", f"{TOY}:predict", json.dumps(document).encode()
        )
        assert response.status == 200
        assert body == b'{\n    "predictions": ["\xc3\xbc", "\xff"\n    ]\n}'

    def test_floats_beyond_numbers(self, client):
        body = (
            b'{"signature_name": "numbers", "inputs": {"x": [NaN, -Infinity], "n": 1}}'
        )
        body = body.replace(b'"n": 1', b'"n": [1]')
        _, text = client.raw("POST", f"{TOY}:predict", body)
        assert b"NaN,\n            -Infinity\n" in text

    @pytest.mark.parametrize(
        ("path", "number"),
        [
            (TOY, 2.0),
            (f"{TOY}/versions/7", 1.0),
            (f"{TOY}/versions/09", 2.0),
            (f"{TOY}/labels/stable", 1.0),
            ("/V1/Models/toy", 2.0),
            ("/v1/models/%74oy", 2.0),
        ],
    )
    def test_the_path_names_model_and_version(self, client, path, number):
        document = {"signature_name": "numbers", "inputs": {"x": [], "n": []}}
        status, answer = client.post(f"{path}:predict", document)
        assert (status, answer["outputs"]["number"]) == (200, number)

    @pytest.mark.parametrize(
        ("path", "document", "status", "message"),
        [
            (TOY, b"", 400, "JSON Parse error: The document is empty"),
            (TOY, b"{", 400, "JSON Parse error: Missing a name for object member."),
            (TOY, {"instances": [1]}, 400, "instances is a plain list"),
            (
                TOY,
                {"signature_name": "none", "instances": [1]},
                400,
                'Serving signature name: "none" not found in signature def',
            ),
            (
                TOY,
                {"instances": [{"history": ["a"], "k": 0}]},
                400,
                "k must be at least 1",
            ),
            (
                "/v1/models/nobody",
                {"instances": [1]},
                404,
                "Servable not found for request: Latest(nobody)",
            ),
            (
                f"{TOY}/versions/8",
                {"instances": [1]},
                404,
                "Servable not found for request: Specific(toy, 8)",
            ),
            (
                f"{TOY}/labels/canary",
                {"instances": [1]},
                400,
                "Unrecognized servable version label: canary",
            ),
            (
                f"{TOY}/versions/9223372036854775808",
                {"instances": [1]},
                400,
                "Failed to convert version: 9223372036854775808 to numeric.",
            ),
            (
                TOY,
                {"signature_name": "slow", "instances": [0.0]},
                400,
                "",
            ),
            (
                TOY,
                {"signature_name": "numbers", "instances": [{"x": 1, "n": 1}]},
                400,
                "Tensor name: number has no shape information ",
            ),
        ],
    )
    def test_errors_are_json_with_the_right_status(
        self, client, path, document, status, message
    ):
        got, answer = client.post(f"{path}:predict", document)
        assert got == status
        assert set(answer) == {"error"}
        assert message in answer["error"]


class TestExamples:
    PATH = "/v1/models/examples%2F%C3%BC"

    def test_classify(self, client):
        document = {"examples": [{"x": 1.5}, {"x": [-2.0]}]}
        status, answer = client.post(f"{self.PATH}:classify", document)
        assert status == 200
        assert answer == {
            "results": [
                [["low", -1.5], ["high", 1.5]],
                [["low", 2.0], ["high", -2.0]],
            ]
        }

    def test_regress_with_a_context(self, client):
        document = {
            "signature_name": "twice",
            "context": {"x": 4.0},
            "examples": [{}, {"x": 0.5}],
        }
        status, answer = client.post(f"{self.PATH}:regress", document)
        assert (status, answer) == (200, {"results": [8.0, 1.0]})

    def test_refusals(self, client):
        status, answer = client.post(f"{self.PATH}:classify", {"examples": []})
        assert status == 400
        assert "'examples' value is an empty array" in answer["error"]
        document = {"signature_name": "none", "examples": [{"x": 1.0}]}
        status, answer = client.post(f"{self.PATH}:regress", document)
        assert status == 400
        assert answer == {"error": "No signature was found with the name: none"}
        document = {"examples": [{"x": "text"}]}
        assert client.post(f"{self.PATH}:classify", document)[0] == 400


class TestModels:
    def test_the_status_of_all_versions_or_of_one(self, client):
        response, body = client.raw("GET", TOY)
        assert response.status == 200
        assert body.startswith(
            b'{\n "model_version_status": [\n  {\n   "version": "9",\n'
        )
        state = {
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
        assert json.loads(body) == {
            "model_version_status": [
                {"version": "9", **state},
                {"version": "7", **state},
            ]
        }
        status, answer = client.get(f"{TOY}/versions/7")
        assert status == 200
        assert answer == {"model_version_status": [{"version": "7", **state}]}

    def test_the_status_of_what_there_is_not(self, client):
        assert client.get("/v1/models/nobody") == (
            404,
            {"error": "Could not find any versions of model nobody"},
        )
        assert client.get(f"{TOY}/versions/8") == (
            404,
            {"error": "Could not find version 8 of model toy"},
        )
        assert client.get("/v1/models") == (
            400,
            {"error": "Missing model name in request."},
        )

    def test_case_matters_in_what_is_asked_for(self, client):
        # As in tensorflow_model_server, which takes the path and then knows no METADATA.
        _, body = client.raw("GET", f"{TOY}/METADATA")
        assert json.loads(body) == json.loads(client.raw("GET", TOY)[1])

    def test_the_metadata(self, client):
        status, answer = client.get(f"{TOY}/versions/7/metadata")
        assert status == 200
        assert answer["model_spec"] == {
            "name": "toy",
            "signature_name": "",
            "version": "7",
        }
        signatures = answer["metadata"]["signature_def"]["signature_def"]
        assert set(signatures) >= {"serving_default", "numbers", "echo"}
        [history, k] = [
            signatures["serving_default"]["inputs"][name] for name in ("history", "k")
        ]
        assert history["dtype"] == "DT_STRING"
        assert history["tensor_shape"] == {
            "dim": [{"size": "-1", "name": ""}, {"size": "-1", "name": ""}],
            "unknown_rank": False,
        }
        assert k["dtype"] == "DT_INT32"
        assert (
            signatures["serving_default"]["method_name"] == "tensorflow/serving/predict"
        )


class TestHttp:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("PUT", f"{TOY}:predict"),
            ("DELETE", TOY),
            ("POST", f"{TOY}:explain"),
            ("POST", f"{TOY}:PREDICT"),
            ("POST", TOY),
            ("GET", f"{TOY}:predict"),
            ("GET", f"{TOY}/versions/x"),
            ("GET", "/v1/"),
            ("OPTIONS", f"{TOY}:predict"),
        ],
    )
    def test_other_methods_and_paths_are_malformed(self, client, method, path):
        response, body = client.raw(method, path)
        assert response.status == 400
        assert json.loads(body) == {"error": f"Malformed request: {method} {path}"}

    @pytest.mark.parametrize(
        "path", ["/", "/v2/models", "/monitoring/prometheus/metrics"]
    )
    def test_paths_outside_the_api_are_not_found(self, client, path):
        response, body = client.raw("GET", path)
        assert response.status == 404
        assert response.getheader("content-type") == "text/html"
        assert b"<TITLE>404 Not Found</TITLE>" in body

    def test_the_connection_is_kept(self, client):
        client.get(TOY)
        kept = client.connection.sock
        client.post(f"{TOY}:predict", b"{")
        client.get("/v1/models/nobody")
        assert client.connection.sock is kept

    def test_bodies_may_be_compressed_both_ways(self, client):
        text = "x" * 5000
        document = {"signature_name": "echo", "inputs": [text]}
        body = gzip.compress(json.dumps(document).encode())
        assert len(body) < 1000
        response, answer = client.raw(
            "POST",
            f"{TOY}:predict",
            body,
            {"Content-Encoding": "gzip", "Accept-Encoding": "deflate, gzip"},
        )
        assert response.status == 200
        assert response.getheader("content-encoding") == "gzip"
        assert len(answer) < 1000
        assert json.loads(gzip.decompress(answer)) == {"outputs": [text]}
        # A client that did not say so gets it as it is.
        response, answer = client.raw(
            "POST", f"{TOY}:predict", json.dumps(document).encode()
        )
        assert response.getheader("content-encoding") is None
        assert json.loads(answer) == {"outputs": [text]}

    @pytest.mark.parametrize(
        "body",
        [
            b"no gzip",
            gzip.compress(b"{}")[:-4],
            # A hundred megabytes and more from some kilobytes.
            gzip.compress(b" " * (101 * 2**20), 1),
        ],
        ids=["other", "cut", "bomb"],
    )
    def test_what_cannot_be_uncompressed_is_refused(self, client, body):
        response, answer = client.raw(
            "POST", f"{TOY}:predict", body, {"Content-Encoding": "gzip"}
        )
        assert response.status == 400
        message = "JSON Parse error: The document is empty"
        assert json.loads(answer) == {"error": message}
        # Where no body is looked at, it does no harm.
        response, _ = client.raw("GET", TOY, body, {"Content-Encoding": "gzip"})
        assert response.status == 200

    def test_chunks_are_put_together(self, client):
        parts = iter([b'{"signature_name": "echo", ', b'"instances": ["a"]', b"}"])
        client.connection.request("POST", f"{TOY}:predict", parts, encode_chunked=True)
        response = client.connection.getresponse()
        assert json.loads(response.read()) == {"predictions": ["a"]}

    def test_a_body_without_end_is_refused_at_once(self, client):
        client.connection.putrequest("POST", f"{TOY}:predict")
        client.connection.putheader("Content-Length", str(2**40))
        client.connection.endheaders()
        response = client.connection.getresponse()
        assert response.status == 413
        assert "must not be longer than" in json.loads(response.read())["error"]

    @pytest.mark.parametrize(
        "data",
        [
            b"\0\xff\xfe\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET / HTTP/1.1\r\nA" * 9000 + b"\r\n",
        ],
    )
    def test_what_is_no_http_closes_one_connection(self, client, rest, data):
        with socket.create_connection(("127.0.0.1", rest.port), timeout=30) as other:
            other.sendall(data)
            assert other.recv(100).startswith(b"HTTP/1.1 400")
        assert client.get(TOY)[0] == 200

    def test_requests_run_side_by_side(self, rest):
        def call(number: int) -> float:
            client = Client(rest.port)
            document = {
                "signature_name": "numbers",
                "inputs": {"x": [number], "n": [0]},
            }
            status, answer = client.post(f"{TOY}:predict", document)
            client.connection.close()
            assert status == 200
            return answer["outputs"]["x_doubled"]

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(call, range(40))) == [[2.0 * n] for n in range(40)]


class TestMetricsPage:
    def test_it_tells_of_requests(self, client, metrics):
        client.post(f"{TOY}:predict", {"signature_name": "echo", "instances": ["a"]})
        client.post("/v1/models/nobody:predict", {"instances": ["a"]})
        response, body = client.raw("GET", "/metrics")
        assert response.status == 200
        assert response.getheader("content-type").startswith("text/plain")
        page = body.decode()
        assert page == metrics.page()
        assert 'request_count{model_name="nobody",status="NOT_FOUND"} ' in page
        assert 'count{model_name="toy",API="predict",entrypoint="REST"} ' in page

    def test_a_query_is_no_part_of_its_path(self, client):
        response, body = client.raw("GET", "/metrics?x=1")
        assert response.status == 400
        assert body == b"Unexpected path: /metrics?x=1. Should be /metrics"


class TestOptions:
    def test_cors_headers_where_they_are_asked_for(self, core, client):
        response, _ = client.raw("GET", TOY)
        assert response.getheader("access-control-allow-origin") is None
        server = start_rest_server(core, host="127.0.0.1", port=0, enable_cors=True)
        other = Client(server.port)
        response, body = other.raw("OPTIONS", f"{TOY}:predict")
        assert (response.status, body) == (200, b"")
        assert response.getheader("access-control-allow-methods") == "POST, GET"
        response, _ = other.raw("GET", TOY)
        assert response.getheader("access-control-allow-origin") == "*"
        other.connection.close()
        server.stop(grace=0)

    def test_a_request_that_takes_too_long_is_answered_and_blocks_nobody(self, core):
        server = start_rest_server(
            core, host="127.0.0.1", port=0, num_threads=2, timeout_in_ms=300
        )
        client = Client(server.port)
        slow = {"signature_name": "slow", "inputs": 2.0}
        assert client.post(f"{TOY}:predict", slow) == (
            504,
            {"error": "Timed out waiting for notification"},
        )
        client.connection.close()
        server.stop(grace=0)

    def test_a_server_that_stops_answers_what_it_has_begun(self, core):
        begun = threading.Event()

        class Begun:
            @contextmanager
            def use(self, spec: Any) -> Iterator[Servable]:
                begun.set()
                with core.use(spec) as servable:
                    yield servable

        server = start_rest_server(Begun(), host="127.0.0.1", port=0)
        client = Client(server.port)
        with ThreadPoolExecutor(2) as pool:
            slow = {"signature_name": "slow", "inputs": 1.0}
            answer = pool.submit(client.post, f"{TOY}:predict", slow)
            assert begun.wait(30)
            stopped = pool.submit(server.stop, 30.0)
            status, document = answer.result(60)
            assert (status, document) == (200, {"outputs": 2.0})
            stopped.result(60)
        with pytest.raises(ConnectionError):
            Client(server.port).get(TOY)
        client.connection.close()

    def test_what_cannot_be_is_refused(self, core, rest):
        def start(**options: Any) -> RestServer:
            options = {"host": "127.0.0.1", "port": 0, **options}
            return start_rest_server(core, **options)

        with pytest.raises(StageError, match=f"Received: 127.0.0.1:{rest.port}"):
            start(port=rest.port)
        with pytest.raises(InvalidValueError, match="rest_api_num_threads"):
            start(num_threads=0)
        with pytest.raises(InvalidValueError, match="must begin with a slash"):
            start(metrics_path="metrics", observer=Metrics())
        with pytest.raises(InvalidValueError, match="a Metrics"):
            start(metrics_path="/metrics", observer=Observer())


def test_a_bug_is_an_error_to_the_caller_and_told_to_nobody_else(caplog):
    class Broken:
        def status(self, spec: Any) -> Any:
            raise KeyError("a secret")

    server = start_rest_server(Broken(), host="127.0.0.1", port=0)
    client = Client(server.port)
    assert client.get(TOY) == (500, {"error": "KeyError"})
    client.connection.close()
    server.stop(grace=0)
    assert "status failed" in caplog.text


def test_the_whole_server_with_batching_metrics_and_health(
    publish, tmp_path, start, helpers
):
    publish(tmp_path / "base", 3)
    monitoring = tmp_path / "monitoring.pbtxt"
    monitoring.write_text('prometheus_config { enable: true, path: "/metrics" }')
    batching = tmp_path / "batching.pbtxt"
    batching.write_text("""
        max_batch_size { value: 8 }
        batch_timeout_micros { value: 1000000000 }  # only full batches go
        num_batch_threads { value: 2 }
    """)
    server, caller = start(
        tmp_path / "base",
        rest_api_port=helpers.free_port(),
        monitoring_config_file=str(monitoring),
        enable_batching=True,
        batching_parameters_file=str(batching),
        enable_grpc_healthcheck_service=True,
    )
    assert isinstance(server, ModelServer)
    instances = [{"history": ["a"], "k": 1}] * 2

    def over_rest(_: int) -> Any:
        client = Client(server.rest_port)
        answer = client.post(f"{TOY}:predict", {"instances": instances})
        client.connection.close()
        return answer

    def over_grpc(_: int) -> list[bytes]:
        request = helpers.predict_request(
            "serving_default",
            history=[["a"], ["b"]],
            k=tf.constant([1, 1]),
        )
        response = caller.prediction.Predict(request, timeout=60)
        return list(response.outputs["items"].string_val)

    with ThreadPoolExecutor(4) as pool:
        rest = [pool.submit(over_rest, number) for number in range(2)]
        grpc_answers = [pool.submit(over_grpc, number) for number in range(2)]
        for future in rest:
            status, answer = future.result(60)
            assert status == 200
            assert [row["items"] for row in answer["predictions"]] == [["b"], ["b"]]
        for future in grpc_answers:
            assert future.result(60) == [b"b", b"a"]
    client = Client(server.rest_port)
    _, page = client.raw("GET", "/metrics")
    client.connection.close()
    text = page.decode()
    serving = ":tensorflow:serving:"
    for line in (
        f'{serving}request_count{{model_name="toy",status="OK"}} 4',
        f"{serving}batching_session:processed_batch_size_sum{{}} 8",
        f"{serving}batching_session:wrapped_run_count{{}} 1",
        f'{serving}request_latency_count{{model_name="toy",API="Predict",'
        'entrypoint="GRPC"} 2',
        f'{serving}runtime_latency_count{{model_name="toy",API="Predict",'
        'runtime="TF1"} 4',
    ):
        assert line in text.splitlines()
    # The version brings no requests to warm up with.
    assert "model_warmup_latency_count" not in text
    path = tmp_path / "base" / "3"
    assert (
        f':tensorflow:cc:saved_model:load_attempt_count{{model_path="{path}",'
        'status="success"} 1'
    ) in text.splitlines()
