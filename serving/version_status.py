"""The life of a version, and where one stands in it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

import grpc

from adaptiverec.serving.status import RequestError

__all__ = ["Closeable", "State", "VersionStatus", "not_found"]


class Closeable(Protocol):
    """What the manager needs of a loaded version."""

    def close(self) -> None:
        """Frees what the version holds."""


class State(enum.IntEnum):
    """The life of a version; the numbers are TensorFlow Serving's."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class VersionStatus:
    """Where a version stands.

    Attributes:
        version: Its number.
        state: Its state; END with an error is a version that could not be loaded.
        code: The status code of the error, or OK.
        message: The message of the error, or "".
    """

    version: int
    state: State
    code: grpc.StatusCode = grpc.StatusCode.OK
    message: str = ""


def not_found(name: str, version: int | None) -> RequestError:
    """The error of a request for a model or version that does not serve."""
    wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
    return RequestError(
        grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {wanted}"
    )
