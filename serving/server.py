"""`adaptiverec serve`: a model server with TensorFlow Serving's services and flags.

For trying out and for tests, and for small deployments. tensorflow_model_server takes
the same directories and flags, and answers the same requests.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import Any

from adaptiverec.common.progress import say
from adaptiverec.serving.model_server import ModelServer
from adaptiverec.serving.steady_process import steady_process

__all__ = ["ModelServer", "serve"]

# At whether the server has started, while it has not.
_SECONDS_BETWEEN_LOOKS = 0.05


def serve(
    *,
    model_base_path: str = "",
    model_name: str = "default",
    port: int = 8500,
    host: str = "127.0.0.1",
    grpc_socket_path: str = "",
    rest_api_port: int = 0,
    rest_api_num_threads: int | None = None,
    rest_api_timeout_in_ms: int = 30_000,
    rest_api_enable_cors_support: bool = False,
    model_config_file: str = "",
    model_config_file_poll_wait_seconds: float = 0.0,
    file_system_poll_wait_seconds: float = 1.0,
    fail_if_no_model_versions_found: bool = False,
    max_num_load_retries: int = 5,
    load_retry_interval_micros: int = 60_000_000,
    num_load_threads: int = 0,
    num_unload_threads: int = 0,
    allow_version_labels_for_unavailable_models: bool = False,
    saved_model_tags: str = "serve",
    enable_model_warmup: bool = True,
    num_request_iterations_for_warmup: int = 0,
    enable_batching: bool = False,
    batching_parameters_file: str = "",
    enable_per_model_batching_parameters: bool = False,
    monitoring_config_file: str = "",
    ssl_config_file: str = "",
    grpc_max_threads: int | None = None,
    grpc_channel_arguments: str = "",
    enable_grpc_healthcheck_service: bool = False,
    enable_signature_method_name_check: bool = False,
    enable_serialization_as_tensor_content: bool = False,
    tensorflow_session_parallelism: int = 0,
    tensorflow_intra_op_parallelism: int = 0,
    tensorflow_inter_op_parallelism: int = 0,
    tensorflow_session_config_file: str = "",
    per_process_gpu_memory_fraction: float = 0.0,
    flush_filesystem_caches: bool = True,
    remove_unused_fields_from_bundle_metagraph: bool = True,
    enable_profiler: bool = True,
    skip_initialize_tpu: bool = False,
    xla_cpu_compilation_enabled: bool = False,
    xla_gpu_compilation_enabled: bool = False,
    prefer_tflite_model: bool = False,
    num_tflite_pools: int | None = None,
    num_tflite_interpreters_per_pool: int = 1,
    use_alts_credentials: bool = False,
    platform_config_file: str = "",
    thread_pool_factory_config_file: str = "",
    mixed_precision: str = "",
) -> None:
    """Serves models until SIGTERM or SIGINT; the running requests are still answered.

    The flags are tensorflow_model_server's; host and fail_if_no_model_versions_found are
    more. A second signal ends the process at once. To be called in the main thread, which
    gets the signals.

    Args:
        model_base_path: The directory with the versions, ``BASE/<integer>/``, each a
            SavedModel; not looked at with model_config_file.
        model_name: What requests must name; not looked at with model_config_file.
        port: The TCP port of gRPC; 0 takes a free one.
        host: The address to listen on. By default only this machine can reach it;
            ``0.0.0.0`` lets other machines in.
        grpc_socket_path: A Unix socket for gRPC to listen on as well.
        rest_api_port: The TCP port of the REST API; 0 is none, and so is that of gRPC.
        rest_api_num_threads: How many REST requests run at once; 4 a core by default.
        rest_api_timeout_in_ms: How long a REST request may take.
        rest_api_enable_cors_support: Whether pages of other origins may read the answers.
        model_config_file: Text proto of ModelServerConfig: several models, which of their
            versions, and labels.
        model_config_file_poll_wait_seconds: Time between two looks at that file; 0 or less
            never looks again.
        file_system_poll_wait_seconds: Time between two looks for versions; 0 never looks
            again. A negative one never looks at all, so that no model becomes available.
        fail_if_no_model_versions_found: Whether a base path that does not exist or holds no
            version ends the server at its start. By default it waits for a version, with
            a warning and its ports closed, as tensorflow_model_server does.
        max_num_load_retries: How often loading a version is tried again.
        load_retry_interval_micros: Time between two such tries.
        num_load_threads: How many models may load at once; 0 is all.
        num_unload_threads: How many models may unload at once; 0 is all.
        allow_version_labels_for_unavailable_models: Whether a label that is not in use may
            be given to a version before it is available.
        saved_model_tags: Which graph of a SavedModel; tags are separated by commas.
        enable_model_warmup: Whether to run warm-up requests before a version serves.
        num_request_iterations_for_warmup: How often to run each; 0 or less is once.
        enable_batching: Whether concurrent requests run as one.
        batching_parameters_file: Text proto of BatchingParameters.
        enable_per_model_batching_parameters: Whether each version has its own, in
            batching_params.pbtxt.
        monitoring_config_file: Text proto of MonitoringConfig: metrics on the REST port,
            if there is one.
        ssl_config_file: Text proto of SSLConfig: keys and certificates of the gRPC port.
        grpc_max_threads: How many requests run at once; one more is refused. By default 4
            a core and at least 64, and then 15 times as many may wait.
        grpc_channel_arguments: Arguments of gRPC's server, KEY=VALUE, separated by commas.
        enable_grpc_healthcheck_service: Whether to answer gRPC's health service.
        enable_signature_method_name_check: Whether a signature must name the method that
            is asked for.
        enable_serialization_as_tensor_content: Whether Predict answers in tensor_content.
        tensorflow_session_parallelism: Threads within an op and across ops; 0 is automatic.
        tensorflow_intra_op_parallelism: Threads within an op; 0 is automatic.
        tensorflow_inter_op_parallelism: Threads across ops; 0 is each request's own.
        tensorflow_session_config_file: Text proto of TensorFlow's ConfigProto.
        per_process_gpu_memory_fraction: How much of a GPU's memory to take at once.
        flush_filesystem_caches: Accepted; there is nothing to flush.
        remove_unused_fields_from_bundle_metagraph: Accepted; it always is so.
        enable_profiler: Accepted; there is no profiler service.
        skip_initialize_tpu: Accepted; TPUs are not used.
        xla_cpu_compilation_enabled: Accepted; what asks for XLA always gets it.
        xla_gpu_compilation_enabled: Accepted, likewise.
        prefer_tflite_model: Accepted; TensorFlow Lite is not run here, so a version with a
            ``model.tflite`` is not loaded then.
        num_tflite_pools: Accepted; without TensorFlow Lite there are none.
        num_tflite_interpreters_per_pool: Accepted, likewise.
        use_alts_credentials: Not to be had.
        platform_config_file: Not to be had.
        thread_pool_factory_config_file: Not to be had.
        mixed_precision: Not to be had.

    Raises:
        InvalidValueError: A flag is outside its rule, or not to be had.
        NotFoundError: There is no such file; or a base path does not exist or holds no
            version, with fail_if_no_model_versions_found.
        StageError: A model cannot be loaded, or a port cannot be had.
    """
    server = ModelServer(**locals())
    with _stop_signal() as stop, steady_process():
        if _start(server, stop):
            stop.wait()
            say("Stopping: no new requests, running ones end")
            server.stop()


def _start(server: ModelServer, stop: threading.Event) -> bool:
    """Starts the server, unless there is a signal to stop before that is done."""
    # In a thread of its own: starting may wait for a version for a long time, and only
    # the main thread hears of signals.
    with ThreadPoolExecutor(1, thread_name_prefix="start") as pool:
        started = pool.submit(server.start)
        while not started.done() and not stop.wait(_SECONDS_BETWEEN_LOOKS):
            pass
        if stop.is_set():
            server.stop(grace=0)
            # How it ended does not matter any more, only that it has.
            started.exception()
            return False
        started.result()
    return True


@contextmanager
def _stop_signal() -> Iterator[threading.Event]:
    """Gives an event that is set by the first SIGTERM or SIGINT."""
    stop = threading.Event()
    previous: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        restore()
        stop.set()

    def restore() -> None:
        while previous:
            signal.signal(*previous.popitem())

    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            previous[number] = signal.signal(number, handle)
        yield stop
    finally:
        restore()
