"""Options of a training that others leave without effect."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from adaptiverec.model.train import train

__all__ = ["idle_options"]

_OF_THRESHOLDS = (
    "threshold_weight",
    "threshold_target",
    "threshold_quantile",
    "threshold_start",
    "pair_weights",
    "denominator",
    "assignment",
    "assignment_temperature",
)
_OF_CONTRAST = (
    "views",
    "similarity",
    "temperature",
    "contrastive_weight",
    *_OF_THRESHOLDS,
)
# Where an option has this value, others have no effect.
_IDLE = {
    ("objective", "none"): _OF_CONTRAST,
    ("objective", "info_nce"): _OF_THRESHOLDS,
    ("assignment", "hard"): ("assignment_temperature",),
    ("threshold_target", "median"): ("threshold_quantile",),
    ("threshold_target", "mean"): ("threshold_quantile",),
    ("next_item", "softmax"): ("num_negatives", "gbce_calibration"),
    ("next_item", "sampled_softmax"): ("gbce_calibration",),
    ("low_pass_share", 0.0): ("low_pass_frequencies",),
}


def idle_options(configuration: dict[str, Any]) -> Iterator[str]:
    """What was given and has no effect.

    Args:
        configuration: The arguments of the training.

    Yields:
        For each option that is not its default, the option, and which other one's value
        is why.
    """
    parameters = inspect.signature(train).parameters
    for (name, value), idle in _IDLE.items():
        if configuration[name] == value:
            for option in idle:
                if configuration[option] != parameters[option].default:
                    yield f"{option} (with {name} {value})"
