"""The paths of the REST API."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

import grpc
from tensorflow_serving.apis import model_pb2

from adaptiverec.serving.status import RequestError

__all__ = ["Route", "is_api_path", "parse_route"]

_MODEL = r"/v1/models/(?P<model>[^/:]+)"
_VERSION = r"(?:(?:/versions/(?P<version>[0-9]+))|(?:/labels/(?P<label>[^/:]+)))?"
_API = re.compile(r"/v1/.*", re.IGNORECASE)
_POST = re.compile(
    rf"{_MODEL}{_VERSION}:(?P<action>classify|regress|predict)", re.IGNORECASE
)
_GET = re.compile(
    rf"/v1/models(?:/(?P<model>[^/:]+))?{_VERSION}(?:/(?P<action>metadata))?",
    re.IGNORECASE,
)
_MAX_VERSION = 2**63 - 1


@dataclass(frozen=True)
class Route:
    """What a request is about.

    Attributes:
        spec: The model, and perhaps its version or label.
        action: ``"predict"``, ``"classify"``, ``"regress"``, ``"metadata"`` or
            ``"status"``.
    """

    spec: model_pb2.ModelSpec
    action: str


def is_api_path(path: str) -> bool:
    """Whether the path is the REST API's, be it right or wrong."""
    return _API.fullmatch(path) is not None


def parse_route(method: str, path: str) -> Route:
    """Reads method and path as tensorflow_model_server does.

    Args:
        method: The HTTP method.
        path: The path as it was sent, with the query, if any.

    Returns:
        What is asked of whom.

    Raises:
        RequestError: INVALID_ARGUMENT, there is no such method or path.
    """
    patterns = {"POST": _POST, "GET": _GET}
    match = patterns[method].fullmatch(path) if method in patterns else None
    # Case matters not in the path, but in what it asks for; what is asked for with GET
    # is the status, unless it is the metadata.
    action = (match and match["action"]) or "status"
    if match is None or (method == "POST" and action != action.lower()):
        raise _invalid(f"Malformed request: {method} {path}")
    if method == "GET" and action != "metadata":
        action = "status"
    if match["model"] is None:
        raise _invalid("Missing model name in request.")
    spec = model_pb2.ModelSpec(name=unquote(match["model"]))
    if match["version"] is not None:
        # Not int() first, which is slow for very many digits.
        digits = match["version"].lstrip("0") or "0"
        if len(digits) > len(str(_MAX_VERSION)) or int(digits) > _MAX_VERSION:
            raise _invalid(f"Failed to convert version: {match['version']} to numeric.")
        spec.version.value = int(digits)
    elif match["label"] is not None:
        spec.version_label = unquote(match["label"])
    return Route(spec, action)


def _invalid(message: str) -> RequestError:
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)
