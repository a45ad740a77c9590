"""The method: model, training and evaluation.

`train`, `tune`, `evaluate` and `report` import TensorFlow when they are called, the other
public names when they are first used; so the command line's help stays quick.
"""

from __future__ import annotations

import importlib
from typing import Any

from adaptiverec.model.evaluate import evaluate
from adaptiverec.model.report import report
from adaptiverec.model.train import train
from adaptiverec.model.tune import tune

__all__ = [
    "AdaptiveRec",
    "PreparedData",
    "StopOnNaN",
    "evaluate",
    "evaluation_dataset",
    "report",
    "streaming_evaluation_dataset",
    "streaming_training_dataset",
    "train",
    "training_dataset",
    "tune",
]

_MODULES = {
    "AdaptiveRec": "adaptive_rec",
    "PreparedData": "prepared_data",
    "StopOnNaN": "callbacks",
    "evaluation_dataset": "instances",
    "streaming_evaluation_dataset": "streaming",
    "streaming_training_dataset": "streaming",
    "training_dataset": "instances",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
