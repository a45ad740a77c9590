"""Which models a server has: TensorFlow Serving's ModelServerConfig, and its rules."""

from __future__ import annotations

import os
import re
from pathlib import Path

import grpc
from tensorflow_serving.config import model_server_config_pb2

from adaptiverec.serving.status import RequestError

__all__ = [
    "check_logging",
    "check_models",
    "check_platform_changes",
    "check_platforms",
    "check_transition",
    "single_model_config",
]

_PLATFORM = "tensorflow"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9.]*://")


def single_model_config(
    name: str, base_path: str | os.PathLike[str]
) -> model_server_config_pb2.ModelServerConfig:
    """The configuration of one model, whose newest version is served."""
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(
        name=name, base_path=str(Path(base_path).absolute()), model_platform=_PLATFORM
    )
    return config


def check_transition(
    old: model_server_config_pb2.ModelServerConfig,
    new: model_server_config_pb2.ModelServerConfig,
) -> None:
    """Raises unless a server may go from one kind of configuration to the other.

    Raises:
        RequestError: FAILED_PRECONDITION, it may not; UNIMPLEMENTED, a custom config.
    """
    kind = old.WhichOneof("config")
    if kind is not None and new.WhichOneof("config") != "model_config_list":
        raise RequestError(
            grpc.StatusCode.FAILED_PRECONDITION,
            "Cannot transition to requested config. It is only legal to transition from "
            "one ModelConfigList to another.",
        )
    if new.WhichOneof("config") == "custom_model_config":
        raise RequestError(
            grpc.StatusCode.UNIMPLEMENTED,
            "ModelServer does not yet support custom model config.",
        )


def check_models(models: model_server_config_pb2.ModelConfigList) -> None:
    """Raises where a model is listed twice, or its base path is not to be had.

    Raises:
        RequestError: INVALID_ARGUMENT.
    """
    names = set()
    for model in models.config:
        if model.name in names:
            raise _invalid(
                f"Illegal to list model {model.name} multiple times in config list"
            )
        names.add(model.name)
    for model in models.config:
        if _SCHEME.match(model.base_path):
            raise _invalid(
                f"Expected model {model.name} to lie in a local file system; got "
                f"base_path()={model.base_path}"
            )
        if not Path(model.base_path).is_absolute():
            raise _invalid(
                f"Expected model {model.name} to have an absolute path or URI; got "
                f"base_path()={model.base_path}"
            )


def check_platform_changes(
    old: model_server_config_pb2.ModelConfigList,
    new: model_server_config_pb2.ModelConfigList,
) -> None:
    """Raises where a model changes its platform.

    Raises:
        RequestError: INVALID_ARGUMENT.
    """
    before = {model.name: _platform(model) for model in old.config}
    for model in new.config:
        if model.name in before and _platform(model) != before[model.name]:
            raise _invalid(
                f"Illegal to change a model's platform. For model {model.name} platform "
                f"was {before[model.name]} and new platform requested is "
                f"{_platform(model)}"
            )


def check_platforms(models: model_server_config_pb2.ModelConfigList) -> None:
    """Raises where a model has no platform, or one that there is not.

    Raises:
        RequestError: INVALID_ARGUMENT.
    """
    for model in models.config:
        if _platform(model) != _PLATFORM:
            raise _invalid(
                f"Model {model.name} requests unsupported platform {_platform(model)}"
            )


def check_logging(models: model_server_config_pb2.ModelConfigList) -> None:
    """Raises where the requests to a model are to be logged.

    tensorflow_model_server has nothing to log them with, either, and finds out when
    everything else has been done.

    Raises:
        RequestError: INVALID_ARGUMENT.
    """
    if any(model.HasField("logging_config") for model in models.config):
        raise _invalid("No request-logger-creator provided.")


def _platform(model: model_server_config_pb2.ModelConfig) -> str:
    if model.model_type != model_server_config_pb2.MODEL_TYPE_UNSPECIFIED:
        if model.model_platform:
            raise _invalid(
                "Illegal setting both ModelServerConfig::model_type (deprecated) and "
                "ModelServerConfig::model_platform."
            )
        if model.model_type != model_server_config_pb2.TENSORFLOW:
            raise _invalid(
                f"ModelServerConfig::model_type choice {model.model_type} not supported."
            )
        return _PLATFORM
    if not model.model_platform:
        raise _invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            "ModelServerConfig::model_platform."
        )
    return model.model_platform


def _invalid(message: str) -> RequestError:
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)
