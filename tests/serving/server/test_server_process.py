"""The server as a process: its line, its signals, its memory."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from adaptiverec.common.errors import StageError
from adaptiverec.serving import server as server_module
from adaptiverec.serving.servable import Servable
from adaptiverec.serving.server import ModelServer

SERVE = (
    "import sys; from adaptiverec.serving.server import serve; "
    "serve(model_base_path=sys.argv[1], model_name='toy', port=0)"
)


def predict(port):
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    call = channel.unary_unary(
        "/tensorflow.serving.PredictionService/Predict",
        predict_pb2.PredictRequest.SerializeToString,
        predict_pb2.PredictResponse.FromString,
    )
    return channel, call


def test_sigterm_drains_and_ends_cleanly(publish, helpers, tmp_path):
    publish(tmp_path / "base", 3)
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(tmp_path / "base")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        ready = next(line for line in process.stderr if line.startswith("Serving"))
        match = re.fullmatch(r"Serving toy version 3 on 127\.0\.0\.1:(\d+)\n", ready)
        channel, call = predict(int(match[1]))
        fast = helpers.predict_request()
        assert call(fast, timeout=30).model_spec.version.value == 3
        slow = helpers.predict_request("slow", seconds=tf.constant(3.0, tf.float64))
        running = call.future(slow, timeout=30)
        # Only what has reached the server is drained: this one came after it.
        call(fast, timeout=30)
        process.send_signal(signal.SIGTERM)

        def refused():
            try:
                call(fast, timeout=30)
            except grpc.RpcError as error:
                return error.code() == grpc.StatusCode.UNAVAILABLE
            return False

        helpers.wait_until(refused)
        assert not running.done()
        assert running.result().outputs["number"].float_val[0] == 1.0
        channel.close()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out == ""
    assert "Stopping" in err
    assert "Traceback" not in err


def test_a_signal_ends_the_wait_for_a_first_version(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(tmp_path)], stderr=subprocess.PIPE, text=True
    )
    with process:
        for line in process.stderr:
            if "no version of toy under" in line:
                break
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in err


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
        lambda: not any(thread.is_alive() for thread in server._grpc._pool._threads)
    )


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
