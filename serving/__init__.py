"""Export, server and client.

`export`, `serve`, `recommend`, `loadtest` and `batch_recommend` import TensorFlow, gRPC or
Beam when they are called, the clients when they are first used; these never import
TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import Any

from adaptiverec.serving.batch_recommend import batch_recommend
from adaptiverec.serving.export import export
from adaptiverec.serving.load_test import loadtest
from adaptiverec.serving.recommend import recommend
from adaptiverec.serving.server import ModelServer, serve

__all__ = [
    "AsyncRecommenderClient",
    "ModelServer",
    "RecommenderClient",
    "batch_recommend",
    "export",
    "loadtest",
    "recommend",
    "serve",
]

_MODULES = {
    "AsyncRecommenderClient": "async_client",
    "RecommenderClient": "client",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
