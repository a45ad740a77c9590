"""The flags of the server: tensorflow_model_server's, by the same names and defaults."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any

from adaptiverec.common.errors import InvalidValueError

__all__ = ["ServerFlags"]

_PORTS = ("port", "rest_api_port")
# Where they are negative, tensorflow_model_server does not poll.
_SECONDS = ("file_system_poll_wait_seconds", "model_config_file_poll_wait_seconds")
_NOT_NEGATIVE = (
    "max_num_load_retries",
    "num_load_threads",
    "num_unload_threads",
    "tensorflow_session_parallelism",
    "tensorflow_intra_op_parallelism",
    "tensorflow_inter_op_parallelism",
)
_AT_LEAST_ONE = ("grpc_max_threads", "rest_api_num_threads")
_PARALLELISM = (
    "tensorflow_session_parallelism",
    "tensorflow_intra_op_parallelism",
    "tensorflow_inter_op_parallelism",
)
# What this server cannot do, and why.
_UNSUPPORTED = {
    "use_alts_credentials": "ALTS works in Google's own networks; ssl_config_file encrypts",
    "platform_config_file": "every model is a SavedModel here",
    "thread_pool_factory_config_file": "TensorFlow's own thread pools are used here",
    "mixed_precision": "a model runs in the precision that it was saved with",
}


@dataclasses.dataclass(frozen=True)
class ServerFlags:
    """What :func:`adaptiverec.serving.serve` was asked for, checked; see there.

    Raises:
        InvalidValueError: A flag is outside its rule, or asks for what cannot be had.
    """

    model_base_path: str | os.PathLike[str] = ""
    model_name: str = "default"
    port: int = 8500
    host: str = "127.0.0.1"
    grpc_socket_path: str = ""
    rest_api_port: int = 0
    rest_api_num_threads: int | None = None
    rest_api_timeout_in_ms: int = 30_000
    rest_api_enable_cors_support: bool = False
    model_config_file: str = ""
    model_config_file_poll_wait_seconds: float = 0.0
    file_system_poll_wait_seconds: float = 1.0
    fail_if_no_model_versions_found: bool = False
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    num_load_threads: int = 0
    num_unload_threads: int = 0
    allow_version_labels_for_unavailable_models: bool = False
    saved_model_tags: str = "serve"
    enable_model_warmup: bool = True
    num_request_iterations_for_warmup: int = 0
    enable_batching: bool = False
    batching_parameters_file: str = ""
    enable_per_model_batching_parameters: bool = False
    monitoring_config_file: str = ""
    ssl_config_file: str = ""
    grpc_max_threads: int | None = None
    grpc_channel_arguments: str = ""
    enable_grpc_healthcheck_service: bool = False
    enable_signature_method_name_check: bool = False
    enable_serialization_as_tensor_content: bool = False
    tensorflow_session_parallelism: int = 0
    tensorflow_intra_op_parallelism: int = 0
    tensorflow_inter_op_parallelism: int = 0
    tensorflow_session_config_file: str = ""
    per_process_gpu_memory_fraction: float = 0.0
    # Either value is the truth here.
    flush_filesystem_caches: bool = True
    remove_unused_fields_from_bundle_metagraph: bool = True
    enable_profiler: bool = True
    skip_initialize_tpu: bool = False
    xla_cpu_compilation_enabled: bool = False
    xla_gpu_compilation_enabled: bool = False
    num_tflite_pools: int | None = None
    num_tflite_interpreters_per_pool: int = 1
    prefer_tflite_model: bool = False
    # Nothing but the default can be had here.
    use_alts_credentials: bool = False
    platform_config_file: str = ""
    thread_pool_factory_config_file: str = ""
    mixed_precision: str = ""

    @classmethod
    def checked(cls, **flags: Any) -> ServerFlags:
        """The flags, all others at their defaults.

        Raises:
            InvalidValueError: There is no such flag; or as above.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        for name, value in flags.items():
            if name not in known:
                raise InvalidValueError(
                    "A flag must be one of tensorflow_model_server's, or host or "
                    "fail_if_no_model_versions_found. Received: "
                    f"{name}={value!r}"
                )
        return cls(**flags)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            reason = _UNSUPPORTED.get(field.name)
            value = getattr(self, field.name)
            if reason and value != field.default:
                raise InvalidValueError(
                    f"{field.name} must be left at its default, since {reason}. Received: "
                    f"{field.name}={value!r}"
                )
        self._check_numbers()
        if not self.model_config_file:
            self._require(bool(self.model_name), "model_name", "must not be empty")
            if not os.fspath(self.model_base_path):
                raise InvalidValueError(
                    "model_base_path or model_config_file must be given. Received: neither"
                )
        self._require(
            self.enable_batching or not self.batching_parameters_file,
            "batching_parameters_file",
            "must come with enable_batching",
        )
        if all(getattr(self, name) > 0 for name in _PARALLELISM):
            raise InvalidValueError(
                "Either tensorflow_session_parallelism or the other two of "
                f"{', '.join(_PARALLELISM)} must be given. Received: all of them"
            )
        self._require(bool(self.tags), "saved_model_tags", "must have at least one tag")
        # Here for its checks.
        self.channel_arguments  # noqa: B018

    def _check_numbers(self) -> None:
        for name in _PORTS:
            self._require(
                0 <= getattr(self, name) <= 65535, name, "must be from 0 to 65535"
            )
        for name in _SECONDS:
            self._require(
                math.isfinite(getattr(self, name)), name, "must be a number of seconds"
            )
        for name in _NOT_NEGATIVE:
            self._require(getattr(self, name) >= 0, name, "must not be negative")
        for name in _AT_LEAST_ONE:
            value = getattr(self, name)
            self._require(value is None or value >= 1, name, "must be at least 1")
        self._require(
            0 <= self.per_process_gpu_memory_fraction <= 1,
            "per_process_gpu_memory_fraction",
            "must be from 0 to 1",
        )

    def _require(self, holds: bool, name: str, rule: str) -> None:
        if not holds:
            raise InvalidValueError(
                f"{name} {rule}. Received: {name}={getattr(self, name)!r}"
            )

    @property
    def has_rest(self) -> bool:
        """Whether there is a REST port. That of gRPC cannot be one at the same time."""
        return self.rest_api_port not in (0, self.port)

    @property
    def tags(self) -> list[str]:
        """The tags of the graph to load; where none is given, that of served graphs."""
        if not self.saved_model_tags:
            return ["serve"]
        return [tag for tag in self.saved_model_tags.split(",") if tag]

    @property
    def channel_arguments(self) -> list[tuple[str, int | str]]:
        """Arguments of gRPC's server; what looks like a whole number is one."""
        arguments: list[tuple[str, int | str]] = []
        for argument in filter(None, self.grpc_channel_arguments.split(",")):
            key, equals, value = argument.partition("=")
            self._require(
                bool(key and equals),
                "grpc_channel_arguments",
                "must be KEY=VALUE, separated by commas",
            )
            number = value.removeprefix("-")
            whole = number.isascii() and number.isdigit()
            arguments.append((key, int(value) if whole else value))
        return arguments
