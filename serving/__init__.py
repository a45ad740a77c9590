"""Export, server and client.

`export`, `serve` and `recommend` import TensorFlow or gRPC when they are called, the
client when it is first used; the client never imports TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import Any

from adaptiverec.serving.export import export
from adaptiverec.serving.recommend import recommend
from adaptiverec.serving.server import ModelServer, serve

__all__ = ["ModelServer", "RecommenderClient", "export", "recommend", "serve"]

_MODULES = {"RecommenderClient": "client"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
