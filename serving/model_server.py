"""A model server in this process: everything that the flags ask for, put together."""

from __future__ import annotations

import functools
import logging
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from adaptiverec.common.errors import AdaptiveRecError, StageError
from adaptiverec.common.progress import say
from adaptiverec.serving.flags import ServerFlags

if TYPE_CHECKING:
    from tensorflow.core.protobuf import config_pb2
    from tensorflow_serving.config import model_server_config_pb2

    from adaptiverec.serving.grpc_server import GrpcServer
    from adaptiverec.serving.metrics import Metrics
    from adaptiverec.serving.rest import RestServer
    from adaptiverec.serving.runner import RunnerWrapper
    from adaptiverec.serving.server_core import ServerCore

__all__ = ["ModelServer"]

_log = logging.getLogger(__name__)

_DRAIN_SECONDS = 30.0


class ModelServer:
    """Serves models as tensorflow_model_server does, from a Python program.

    It answers PredictionService and ModelService over gRPC and, if asked to, TensorFlow
    Serving's REST API. It follows the base paths of its models: a new version is loaded
    beside the old one, warmed up, and takes its place without a failed request; see
    :class:`~adaptiverec.serving.model_manager.ModelManager`.

    Example::

        with ModelServer(model_base_path="exported", port=0) as server:
            client = RecommenderClient(server.address)

    Args:
        **flags: Those of :func:`~adaptiverec.serving.server.serve`, with the same
            defaults.

    Raises:
        InvalidValueError: A flag is unknown or outside its rule.
    """

    def __init__(self, **flags: Any) -> None:
        self._flags = ServerFlags.checked(**flags)
        self._port = self._flags.port
        self._core: ServerCore | None = None
        self._grpc: GrpcServer | None = None
        self._rest: RestServer | None = None
        self._poller: threading.Thread | None = None
        # Before that there is nothing to be had, and so nothing to announce.
        self._listening = False
        self._stopping = threading.Event()
        self._stop_lock = threading.Lock()

    @property
    def port(self) -> int:
        """The gRPC port, once started."""
        return self._port

    @property
    def rest_port(self) -> int | None:
        """The REST port, once started; None where there is none."""
        return self._rest.port if self._rest is not None else None

    @property
    def address(self) -> str:
        """``HOST:PORT``, for clients of gRPC."""
        return self._with_port(self._port)

    def start(self) -> None:
        """Loads a version of each model, then opens the ports.

        Where a base path has no version yet, it waits for one; :meth:`stop`, in another
        thread, ends that. Where one cannot be loaded, it takes as long as the retries.

        Raises:
            NotFoundError: A file that a flag names does not exist; or a base path does not
                exist or holds no version, with fail_if_no_model_versions_found.
            InvalidValueError: A file that a flag names is not what it must be.
            StageError: A model has no version that can be loaded, a port cannot be had, or
                the server has been started before.
        """
        # These import TensorFlow, which the rest of the command line does not wait for.
        from adaptiverec.serving.metrics import Metrics
        from adaptiverec.serving.server_core import ServerCore
        from adaptiverec.serving.status import RequestError

        if self._core is not None:
            raise StageError(
                "A ModelServer can be started once. Received: a second start()"
            )
        flags = self._flags
        config = self._read_config()
        metrics, metrics_path = Metrics(), self._metrics_path()
        self._core = ServerCore(
            self._loader(metrics, read=metrics_path is not None),
            file_system_poll_wait_seconds=flags.file_system_poll_wait_seconds,
            max_num_load_retries=flags.max_num_load_retries,
            load_retry_interval_micros=flags.load_retry_interval_micros,
            num_load_threads=flags.num_load_threads,
            num_unload_threads=flags.num_unload_threads,
            allow_version_labels_for_unavailable_models=(
                flags.allow_version_labels_for_unavailable_models
            ),
            fail_if_no_model_versions_found=flags.fail_if_no_model_versions_found,
            on_available=self._announce,
        )
        try:
            self._check_base_paths(config)
            try:
                self._core.reload(config)
            except RequestError as error:
                raise StageError(
                    "Every model must have a version, a SavedModel that loads and "
                    "answers its warm-up requests. Received: "
                    f"{error.code.name}: {error.message}"
                ) from error
            self._listen(self._core, metrics, metrics_path)
        except BaseException:
            self.stop(grace=0)
            raise
        self._listening = True
        for name, version in self._core.available():
            self._announce(name, version)
        if self._rest is not None:
            say(f"Serving REST on {self._with_port(self._rest.port)}")
        if flags.model_config_file and flags.model_config_file_poll_wait_seconds > 0:
            self._poller = threading.Thread(
                target=self._poll_config, name="model_config_file", daemon=True
            )
            self._poller.start()

    def stop(self, grace: float = _DRAIN_SECONDS) -> None:
        """Refuses new requests, lets the running ones end, and frees the models.

        Args:
            grace: How many seconds the running requests have; then they are cancelled.
        """
        self._stopping.set()
        if self._grpc is None and self._core is not None:
            # Perhaps another thread is in start(), and waits for a model.
            self._core.close()
        with self._stop_lock:
            if self._grpc is not None:
                self._grpc.stop(grace)
            if self._rest is not None:
                self._rest.stop(grace)
            if self._core is not None:
                self._core.close()
            if self._poller is not None:
                self._poller.join()

    def wait(self) -> None:
        """Blocks until the server is stopped, from another thread."""
        if self._grpc is not None:
            self._grpc.wait()

    def __enter__(self) -> ModelServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _with_port(self, port: int) -> str:
        host = self._flags.host
        # An IPv6 address has colons of its own.
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _read_config(self) -> model_server_config_pb2.ModelServerConfig:
        from tensorflow_serving.config import model_server_config_pb2

        from adaptiverec.serving.config_files import read_config_file
        from adaptiverec.serving.model_config import single_model_config

        flags = self._flags
        if not flags.model_config_file:
            return single_model_config(flags.model_name, flags.model_base_path)
        return read_config_file(
            flags.model_config_file,
            model_server_config_pb2.ModelServerConfig(),
            flag="model_config_file",
        )

    def _check_base_paths(
        self, config: model_server_config_pb2.ModelServerConfig
    ) -> None:
        """Raises, in words for whoever starts a server, what the core would refuse."""
        from adaptiverec.serving.versions import check_base_path

        if self._flags.fail_if_no_model_versions_found:
            for model in config.model_config_list.config:
                if Path(model.base_path).is_absolute():
                    check_base_path(Path(model.base_path))

    def _metrics_path(self) -> str | None:
        """Where the metrics are to be had; None where nobody reads them."""
        if not self._flags.monitoring_config_file:
            return None
        if not self._flags.has_rest:
            _log.warning("no metrics, since there is no REST port to have them at")
            return None
        from adaptiverec.serving.metrics import read_metrics_path

        return read_metrics_path(self._flags.monitoring_config_file)

    def _loader(self, metrics: Metrics, *, read: bool) -> Any:
        from adaptiverec.serving.metrics import LoadsOnly
        from adaptiverec.serving.servable import Servable

        flags = self._flags
        wrap_runner: RunnerWrapper | None = None
        if flags.enable_batching:
            from adaptiverec.serving.batching import batching_wrapper

            wrap_runner = batching_wrapper(
                flags.batching_parameters_file or None,
                per_model=flags.enable_per_model_batching_parameters,
                observer=metrics if read else None,
            )
        return functools.partial(
            Servable,
            warm_up=flags.enable_model_warmup,
            warm_up_iterations=max(flags.num_request_iterations_for_warmup, 1),
            tags=flags.tags,
            session_config=self._session_config(),
            check_method_names=flags.enable_signature_method_name_check,
            as_tensor_content=flags.enable_serialization_as_tensor_content,
            prefer_tflite=flags.prefer_tflite_model,
            observer=metrics if read else LoadsOnly(metrics),
            wrap_runner=wrap_runner,
        )

    def _session_config(self) -> config_pb2.ConfigProto:
        from tensorflow.core.protobuf import config_pb2

        from adaptiverec.serving.config_files import read_config_file

        flags = self._flags
        config = config_pb2.ConfigProto()
        if flags.tensorflow_session_config_file:
            read_config_file(
                flags.tensorflow_session_config_file,
                config,
                flag="tensorflow_session_config_file",
            )
        both = flags.tensorflow_session_parallelism
        intra = flags.tensorflow_intra_op_parallelism or both
        inter = flags.tensorflow_inter_op_parallelism or both
        if intra:
            config.intra_op_parallelism_threads = intra
        if inter:
            config.inter_op_parallelism_threads = inter
        if flags.per_process_gpu_memory_fraction:
            config.gpu_options.per_process_gpu_memory_fraction = (
                flags.per_process_gpu_memory_fraction
            )
        return config

    def _listen(
        self, core: ServerCore, metrics: Metrics, metrics_path: str | None
    ) -> None:
        from adaptiverec.serving.grpc_server import GrpcServer

        flags = self._flags
        observer = metrics if metrics_path is not None else None
        credentials = None
        if flags.ssl_config_file:
            from adaptiverec.serving.tls import server_credentials

            credentials = server_credentials(flags.ssl_config_file)
        self._grpc = GrpcServer(
            core,
            self._with_port(flags.port),
            socket_path=flags.grpc_socket_path,
            credentials=credentials,
            max_threads=flags.grpc_max_threads,
            channel_arguments=flags.channel_arguments,
            health_service=flags.enable_grpc_healthcheck_service,
            observer=observer,
            metrics=metrics,
        )
        self._port = self._grpc.port
        if flags.rest_api_port and not flags.has_rest:
            # As there: an error that does not end the server.
            _log.error(
                "no REST API, since rest_api_port is the same as port. Received: "
                "rest_api_port=%d",
                flags.rest_api_port,
            )
        if flags.has_rest:
            from adaptiverec.serving.rest import start_rest_server

            self._rest = start_rest_server(
                core,
                host=flags.host,
                port=flags.rest_api_port,
                num_threads=flags.rest_api_num_threads,
                timeout_in_ms=flags.rest_api_timeout_in_ms,
                enable_cors=flags.rest_api_enable_cors_support,
                metrics_path=metrics_path,
                observer=observer,
            )

    def _poll_config(self) -> None:
        """Reads the configuration again and again; a wrong one changes nothing."""
        from adaptiverec.serving.status import RequestError

        told = ""
        while not self._stopping.wait(self._flags.model_config_file_poll_wait_seconds):
            problem = ""
            try:
                if self._core is not None:
                    # While it waited for models, no change would be seen.
                    self._core.reload(self._read_config(), keep_waiting=lambda: False)
            except RequestError as error:
                problem = (
                    f"cannot go over to {self._flags.model_config_file}: "
                    f"{error.code.name}: {error.message}"
                )
            except AdaptiveRecError as error:
                problem = str(error)
            if problem and problem != told:
                _log.warning("%s", problem)
            told = problem

    def _announce(self, name: str, version: int) -> None:
        if self._listening:
            say(f"Serving {name} version {version} on {self.address}")
