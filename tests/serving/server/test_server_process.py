"""The server as a process: its line, its signals, its memory."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import urllib.request

import grpc
import pytest
import tensorflow as tf
import trustme
from google.protobuf import text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from adaptiverec.common.errors import StageError
from adaptiverec.serving import config_files_pb2
from adaptiverec.serving import server as server_module
from adaptiverec.serving.servable import Servable
from adaptiverec.serving.server import ModelServer

BATCHING = """
max_batch_size { value: 8 }
batch_timeout_micros { value: 1000000 }
pad_variable_length_inputs: true
"""


@pytest.fixture
def flags(tmp_path):
    """Files of flags, and the credentials of a client that the server asks for."""
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1")
    ssl_config = config_files_pb2.SSLConfig(
        server_key=own.private_key_pem.bytes().decode(),
        server_cert=own.cert_chain_pems[0].bytes().decode(),
        custom_ca=authority.cert_pem.bytes().decode(),
        client_verify=True,
    )
    files = {
        "ssl_config_file": text_format.MessageToString(ssl_config),
        "batching_parameters_file": BATCHING,
        "monitoring_config_file": 'prometheus_config { enable: true path: "/metrics" }',
    }
    arguments = []
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        arguments.append(f"--{name}={tmp_path / name}")
    client = authority.issue_cert("client@example.org")
    credentials = grpc.ssl_channel_credentials(
        root_certificates=authority.cert_pem.bytes(),
        private_key=client.private_key_pem.bytes(),
        certificate_chain=client.cert_chain_pems[0].bytes(),
    )
    return arguments, credentials


def over_rest(port, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(
        f"http://127.0.0.1:{port}{path}", data, timeout=30
    ) as answer:
        return answer.read().decode()


def test_a_server_with_all_of_it_on_answers_drains_and_ends_cleanly(
    publish, helpers, flags, tmp_path
):
    warm_up = prediction_log_pb2.PredictionLog()
    warm_up.predict_log.request.CopyFrom(one_history(helpers, 1))
    publish(tmp_path / "base", 3, warm_up=[warm_up])
    arguments, credentials = flags
    rest_port = helpers.free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "adaptiverec.common", "serve", *arguments),
            *(f"--model_base_path={tmp_path / 'base'}", "--model_name=toy"),
            *("--port=0", f"--rest_api_port={rest_port}", "--enable_batching"),
            *("--enable_grpc_healthcheck_service", "--max_num_load_retries=0"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Whatever happens, the lines end, and so does the test.
    deadline = threading.Timer(120, process.kill)
    deadline.start()
    try:
        ready = next(line for line in process.stderr if line.startswith("Serving toy"))
        match = re.fullmatch(r"Serving toy version 3 on 127\.0\.0\.1:(\d+)\n", ready)
        assert match
        assert next(process.stderr) == f"Serving REST on 127.0.0.1:{rest_port}\n"
        address = f"127.0.0.1:{match[1]}"
        with grpc.insecure_channel(address) as plain:
            with pytest.raises(grpc.RpcError) as caught:
                health_pb2_grpc.HealthStub(plain).Check(
                    health_pb2.HealthCheckRequest(), timeout=30
                )
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        with grpc.secure_channel(address, credentials) as channel:
            answers_over_grpc_and_rest(channel, rest_port, helpers)
            drains(process, channel, helpers)
        out, err = process.communicate(timeout=60)
    finally:
        deadline.cancel()
        process.kill()
        process.communicate()
    assert process.returncode == 0
    assert out == ""
    assert "Stopping" in err
    assert "Traceback" not in err
    assert "PRIVATE KEY" not in err


def answers_over_grpc_and_rest(channel, rest_port, helpers):
    health = health_pb2_grpc.HealthStub(channel)
    state = health.Check(health_pb2.HealthCheckRequest(), timeout=30).status
    assert state == health_pb2.HealthCheckResponse.SERVING
    call = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    # Histories of all lengths, which fill a batch.
    asked = [
        call.Predict.future(one_history(helpers, length), timeout=30)
        for length in range(1, 9)
    ]
    for future in asked:
        assert list(future.result().outputs["items"].string_val) == [b"b"]
    body = {"instances": [{"history": ["a", "b"], "k": 1}]}
    answer = json.loads(over_rest(rest_port, "/v1/models/toy:predict", body))
    assert answer["predictions"][0]["items"] == ["c"]
    status = json.loads(over_rest(rest_port, "/v1/models/toy"))
    assert status["model_version_status"][0]["state"] == "AVAILABLE"
    metrics = over_rest(rest_port, "/metrics").splitlines()
    count = ':tensorflow:serving:request_count{model_name="toy",status="OK"}'
    assert f"{count} 9" in metrics
    runs = ":tensorflow:serving:batching_session:processed_batch_size_count{}"
    batches = int(next(line for line in metrics if line.startswith(runs)).split()[-1])
    # The full one and the one over REST; the warm-up ran before there were batches.
    assert batches == 2


def one_history(helpers, length):
    return helpers.predict_request(
        "serving_default", history=[["a"] * length], k=tf.constant([1])
    )


def drains(process, channel, helpers):
    call = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "toy"
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    # It waits for others to share a batch with, and nobody comes.
    running = call.Predict.future(one_history(helpers, 1), timeout=30)
    # Only what has reached the server is drained: this one came after it.
    models.GetModelStatus(status, timeout=30)
    process.send_signal(signal.SIGTERM)

    def refused():
        try:
            models.GetModelStatus(status, timeout=30)
        except grpc.RpcError as error:
            return error.code() == grpc.StatusCode.UNAVAILABLE
        return False

    helpers.wait_until(refused)
    assert list(running.result().outputs["items"].string_val) == [b"b"]


def test_a_signal_ends_the_wait_for_a_first_version(tmp_path, caplog, helpers):
    def signal_once_it_waits():
        helpers.wait_until(lambda: "no version of default under" in caplog.text)
        os.kill(os.getpid(), signal.SIGTERM)

    sender = helpers.in_background(signal_once_it_waits)
    server_module.serve(model_base_path=str(tmp_path), port=0)
    sender.join(30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_stops_and_a_second_does_what_it_did(number):
    before = signal.getsignal(number)
    with server_module._stop_signal() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.wait(30)
        assert signal.getsignal(number) is before
    with server_module._stop_signal():
        assert signal.getsignal(number) is not before
    assert signal.getsignal(number) is before


def test_stopping_cancels_what_runs_on(start, publish, helpers, tmp_path):
    publish(tmp_path / "base", 1)
    server, caller = start(tmp_path / "base")
    endless = helpers.predict_request("slow", seconds=tf.constant(1e6, tf.float64))
    call = caller.prediction.Predict.future(endless)
    caller.number()
    server.stop(grace=0.1)
    assert call.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
    # Else the interpreter could not end either: it waits for the threads of pools.
    helpers.wait_until(
        lambda: (
            not any(
                thread.is_alive() for thread in server._grpc._loop._workers._threads
            )
        )
    )


def test_what_grpc_loses_as_the_server_stops_is_cancelled_after_what_runs(
    start, publish, helpers, tmp_path, monkeypatch
):
    publish(tmp_path / "base", 1)
    server, caller = start(tmp_path / "base")
    port = server._grpc._server
    stop = port.stop
    cancelled = asyncio.Event()

    # A call that no method sees, which gRPC waits for until all calls are cancelled. It
    # really loses one of some hundred that come just then.
    async def stop_with_a_lost_call(grace):
        await stop(grace)
        if grace is None:
            cancelled.set()
        # Where it is not cancelled, the test ends all the same.
        asyncio.get_running_loop().call_later(60, cancelled.set)
        await cancelled.wait()

    monkeypatch.setattr(port, "stop", stop_with_a_lost_call)
    seconds = tf.constant(2.0, tf.float64)
    running = caller.prediction.Predict.future(
        helpers.predict_request("slow", seconds=seconds)
    )
    caller.number()
    stopping = helpers.in_background(lambda: server.stop(grace=1e6))
    assert running.result().outputs
    stopping.join(30)
    assert not stopping.is_alive()


def test_wait_ends_with_stop(start, publish, helpers, tmp_path):
    publish(tmp_path / "base", 1)
    server, _ = start(tmp_path / "base")
    waiting = helpers.in_background(server.wait)
    assert waiting.is_alive()
    server.stop(grace=0)
    waiting.join(30)
    assert not waiting.is_alive()


def test_a_taken_port_is_an_error(publish, tmp_path):
    publish(tmp_path / "base", 1)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        server = ModelServer(model_base_path=tmp_path / "base", port=port)
        with pytest.raises(StageError, match=rf"port free\. Received: 127.*:{port}$"):
            server.start()


def test_two_servers_do_not_share_a_port(start, publish, tmp_path):
    publish(tmp_path / "base", 1)
    server, _ = start(tmp_path / "base")
    with pytest.raises(StageError, match="port free"):
        start(tmp_path / "base", port=server.port)


def test_importing_the_command_does_not_import_tensorflow():
    code = (
        "import sys, adaptiverec.serving.server, adaptiverec.serving.recommend; "
        "sys.exit(bool({'tensorflow', 'keras', 'grpc'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_an_unloaded_version_gives_its_memory_back(helpers, tmp_path):
    # Of variables, and as many of constants.
    megabytes = 16
    helpers.save_toy(tmp_path / "1", 1.0, megabytes=megabytes)

    closed = []

    def load_and_close():
        servable = Servable("toy", 1, tmp_path / "1")
        servable.predict(helpers.predict_request())
        servable.close()
        closed.append(servable)

    load_and_close()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(5):
        load_and_close()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Five copies would take 80 MiB of each kind, or more; one load may vary by some.
    assert after - before < 4 * megabytes * 1024
