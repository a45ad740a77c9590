"""The flags: tensorflow_model_server's names and defaults, and what comes of each."""

from __future__ import annotations

import dataclasses
import inspect
import re
import socket
from importlib.metadata import version

import grpc
import numpy as np
import pytest
import tensorflow as tf

from adaptiverec.common import cli
from adaptiverec.common.errors import AdaptiveRecError, InvalidValueError, StageError
from adaptiverec.serving.flags import ServerFlags
from adaptiverec.serving.server import ModelServer, serve

# As main.cc and server.h of tensorflow_model_server have them. Left out: those whose
# default is a number of processors, and `version`.
DEFAULTS = {
    "port": 8500,
    "grpc_socket_path": "",
    "rest_api_port": 0,
    "rest_api_timeout_in_ms": 30000,
    "rest_api_enable_cors_support": False,
    "enable_batching": False,
    "allow_version_labels_for_unavailable_models": False,
    "batching_parameters_file": "",
    "enable_per_model_batching_parameters": False,
    "model_config_file": "",
    "model_config_file_poll_wait_seconds": 0,
    "model_name": "default",
    "model_base_path": "",
    "num_load_threads": 0,
    "num_unload_threads": 0,
    "max_num_load_retries": 5,
    "load_retry_interval_micros": 60 * 1000 * 1000,
    "file_system_poll_wait_seconds": 1,
    "flush_filesystem_caches": True,
    "tensorflow_session_parallelism": 0,
    "tensorflow_session_config_file": "",
    "tensorflow_intra_op_parallelism": 0,
    "tensorflow_inter_op_parallelism": 0,
    "use_alts_credentials": False,
    "ssl_config_file": "",
    "platform_config_file": "",
    "per_process_gpu_memory_fraction": 0,
    "saved_model_tags": "serve",
    "grpc_channel_arguments": "",
    "enable_model_warmup": True,
    "num_request_iterations_for_warmup": 0,
    "monitoring_config_file": "",
    "remove_unused_fields_from_bundle_metagraph": True,
    "prefer_tflite_model": False,
    "num_tflite_interpreters_per_pool": 1,
    "enable_signature_method_name_check": False,
    "xla_cpu_compilation_enabled": False,
    "xla_gpu_compilation_enabled": False,
    "enable_profiler": True,
    "thread_pool_factory_config_file": "",
    "mixed_precision": "",
    "skip_initialize_tpu": False,
    "enable_grpc_healthcheck_service": False,
    "enable_serialization_as_tensor_content": False,
}
BY_PROCESSORS = {"rest_api_num_threads", "grpc_max_threads", "num_tflite_pools"}
OURS = {"host": "127.0.0.1", "fail_if_no_model_versions_found": False}


def test_names_and_defaults():
    parameters = inspect.signature(serve).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    assert defaults == {**DEFAULTS, **OURS, **dict.fromkeys(BY_PROCESSORS)}
    fields = {field.name: field.default for field in dataclasses.fields(ServerFlags)}
    assert fields == defaults


def test_flags_are_written_as_tensorflow_writes_them():
    _, bound, _ = cli.app.parse_args(
        [
            *("serve", "--model_base_path=/models/shop", "--port=1234"),
            *("--enable_batching=true", "--enable_model_warmup=false"),
            *("--enable_grpc_healthcheck_service", "--grpc_max_threads=7"),
            *("--load_retry_interval_micros=-1", "--saved_model_tags=serve,gpu"),
        ],
        print_error=False,
        exit_on_error=False,
    )
    assert bound.arguments == {
        "model_base_path": "/models/shop",
        "port": 1234,
        "enable_batching": True,
        "enable_model_warmup": False,
        "enable_grpc_healthcheck_service": True,
        "grpc_max_threads": 7,
        "load_retry_interval_micros": -1,
        "saved_model_tags": "serve,gpu",
    }


def test_of_a_flag_that_is_given_twice_the_last_one_counts():
    # So can the flags of an image's entrypoint be overruled.
    command = ["serve", "--port=8500", "--model_name=a", "--port=1", "--port", "2"]
    _, bound, _ = cli.app.parse_args(command, print_error=False, exit_on_error=False)
    assert bound.arguments == {"port": 2, "model_name": "a"}


def test_tells_its_version(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["serve", "--version"])
    assert end.value.code == 0
    ours, tensorflow = capsys.readouterr().out.splitlines()
    assert ours == f"AdaptiveRec ModelServer: {version('adaptiverec')}"
    assert tensorflow == f"TensorFlow Library: {tf.version.VERSION}"


def test_unknown_flags_are_refused_by_name(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["serve", "--model_base_path=/models", "--enable_magic=true"])
    assert end.value.code not in (0, None)
    assert "--enable_magic" in "".join(capsys.readouterr())
    with pytest.raises(InvalidValueError, match="Received: enable_magic=True"):
        ModelServer(model_base_path="/models", enable_magic=True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"model_name": ""}, "model_name must not be empty. Received: model_name=''"),
        ({"port": 65536}, "port must be from 0 to 65535. Received: port=65536"),
        ({"port": -1}, "port must be from 0 to 65535. Received: port=-1"),
        ({"rest_api_port": 65536}, "65535. Received: rest_api_port=65536"),
        ({"grpc_max_threads": 0}, "at least 1. Received: grpc_max_threads=0"),
        ({"rest_api_num_threads": 0}, "at least 1. Received: rest_api_num_threads=0"),
        ({"file_system_poll_wait_seconds": float("nan")}, "seconds=nan"),
        ({"max_num_load_retries": -1}, "negative. Received: max_num_load_retries=-1"),
        ({"per_process_gpu_memory_fraction": 1.5}, "from 0 to 1. Received: per_p"),
        ({"saved_model_tags": ","}, "at least one tag. Received: saved_model_tags=','"),
        (
            {"batching_parameters_file": "x"},
            "must come with enable_batching. Received: batching_parameters_file='x'",
        ),
        (
            {"grpc_channel_arguments": "grpc.max_connection_age_ms"},
            "must be KEY=VALUE, separated by commas. Received: grpc_channel_arguments=",
        ),
        (
            {
                "tensorflow_session_parallelism": 1,
                "tensorflow_intra_op_parallelism": 1,
                "tensorflow_inter_op_parallelism": 1,
            },
            "Received: all of them",
        ),
        ({"model_base_path": ""}, "must be given. Received: neither"),
        (
            {"use_alts_credentials": True},
            "ssl_config_file encrypts. Received: use_alts",
        ),
        (
            {"platform_config_file": "x"},
            "SavedModel here. Received: platform_config_fi",
        ),
        ({"thread_pool_factory_config_file": "x"}, "Received: thread_pool_factory_con"),
        ({"mixed_precision": "bfloat16"}, "Received: mixed_precision='bfloat16'"),
    ],
)
def test_flags_outside_their_rules(flags, message):
    with pytest.raises(InvalidValueError, match=re.escape(message)):
        ModelServer(**{"model_base_path": "base", **flags})


def test_harmless_flags_are_taken():
    ModelServer(
        model_config_file_poll_wait_seconds=-1,
        num_request_iterations_for_warmup=-1,
        model_base_path="base",
        flush_filesystem_caches=False,
        remove_unused_fields_from_bundle_metagraph=False,
        enable_profiler=False,
        skip_initialize_tpu=True,
        xla_cpu_compilation_enabled=True,
        xla_gpu_compilation_enabled=True,
        num_tflite_pools=2,
        num_tflite_interpreters_per_pool=2,
    )


def test_a_model_of_tensorflow_lite_is_not_passed_over(start, publish, tmp_path):
    version = publish(tmp_path / "base", 1)
    _, caller = start(tmp_path / "base", prefer_tflite_model=True)
    assert caller.number() == (1, 1.0)
    (version / "model.tflite").touch()
    with pytest.raises(StageError, match=r"UNIMPLEMENTED: TensorFlow Lite is not run"):
        start(tmp_path / "base", prefer_tflite_model=True)
    _, caller = start(tmp_path / "base")
    assert caller.number() == (1, 1.0)


def test_without_a_rest_port_there_are_no_metrics(start, publish, tmp_path, caplog):
    publish(tmp_path / "base", 1)
    # Not even read, as in tensorflow_model_server.
    server, caller = start(tmp_path / "base", monitoring_config_file="nowhere")
    assert caller.number() == (1, 1.0)
    assert server.rest_port is None
    assert "no metrics, since there is no REST port" in caplog.text


def test_one_port_for_both_is_grpc_alone(start, publish, tmp_path, caplog):
    publish(tmp_path / "base", 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    server, caller = start(tmp_path / "base", port=port, rest_api_port=port)
    assert caller.number() == (1, 1.0)
    assert server.rest_port is None
    assert f"the same as port. Received: rest_api_port={port}" in caplog.text


def test_answers_in_tensor_content_where_told_so(start, publish, helpers, tmp_path):
    publish(tmp_path / "base", 1)
    _, caller = start(tmp_path / "base", enable_serialization_as_tensor_content=True)
    outputs = caller.prediction.Predict(helpers.predict_request()).outputs
    assert outputs["x_doubled"].tensor_content == np.float32([3, -4]).tobytes()
    assert not outputs["x_doubled"].float_val
    request = helpers.predict_request("echo", text=["a", "bcd"])
    text = caller.prediction.Predict(request).outputs["text"]
    # Two lengths, then the letters of both.
    assert text.tensor_content == b"\x01\x03abcd"


def test_listens_on_a_socket_as_well(start, publish, helpers, tmp_path):
    publish(tmp_path / "base", 1)
    path = tmp_path / "socket"
    _, caller = start(tmp_path / "base", grpc_socket_path=str(path))
    assert caller.number() == (1, 1.0)
    with grpc.insecure_channel(f"unix:{path}") as channel:
        predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        assert predict(helpers.predict_request().SerializeToString(), timeout=30)


def test_channel_arguments_reach_grpc(start, publish, helpers, tmp_path):
    publish(tmp_path / "base", 1)
    _, caller = start(
        tmp_path / "base", grpc_channel_arguments="grpc.max_receive_message_length=100"
    )
    request = helpers.predict_request("echo", text=["x" * 200])
    code, _ = caller.refusal(request)
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_tags_choose_the_graph(start, publish, tmp_path):
    publish(tmp_path / "base", 1)
    _, caller = start(tmp_path / "base", saved_model_tags="")
    assert caller.number() == (1, 1.0)
    with pytest.raises(
        StageError, match=r"meta graph def matching supplied tags: \{ serve gpu \}"
    ):
        start(tmp_path / "base", saved_model_tags="serve,gpu")


def test_threads_of_the_session(start, publish, tmp_path):
    publish(tmp_path / "base", 1)
    file = tmp_path / "session.config"
    file.write_text("intra_op_parallelism_threads: 2")
    flags = {
        "tensorflow_session_config_file": str(file),
        "tensorflow_inter_op_parallelism": 2,
    }
    server, caller = start(tmp_path / "base", **flags)
    assert caller.number() == (1, 1.0)
    config = server._session_config()
    assert config.intra_op_parallelism_threads == 2
    assert config.inter_op_parallelism_threads == 2
    file.write_text("no_such_option: 1")
    with pytest.raises(AdaptiveRecError, match="tensorflow_session_config_file must"):
        start(tmp_path / "base", **flags)


def test_batching_rest_and_metrics_are_plugged_in(start, publish, helpers, tmp_path):
    publish(tmp_path / "base", 1)
    parameters = tmp_path / "batching.config"
    parameters.write_text("max_batch_size { value: 4 }")
    _, caller = start(
        tmp_path / "base",
        enable_batching=True,
        batching_parameters_file=str(parameters),
        enable_grpc_healthcheck_service=True,
    )
    request = helpers.predict_request("echo", text=["a", "b"])
    response = caller.prediction.Predict(request)
    assert list(response.outputs["text"].string_val) == [b"a", b"b"]
    code, _ = caller.refusal(helpers.predict_request("echo", text=5 * ["a"]))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    # Unlike tensors are never put together.
    code, message = caller.refusal(helpers.predict_request("echo", text=tf.ones([1])))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert message == "Expects arg[0] to be string but float is provided"
    health = caller.channel.unary_unary("/grpc.health.v1.Health/Check")
    # The state, SERVING.
    assert health(b"", timeout=30) == b"\x08\x01"
