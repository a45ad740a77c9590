"""What was given to a training for nothing."""

import inspect

import pytest

from adaptiverec.model.idle_options import idle_options
from adaptiverec.model.train import train


def idle(**options) -> list[str]:
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(train).parameters.items()
    }
    assert set(options) <= set(defaults)
    return list(idle_options({**defaults, **options}))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"objective": "none"},
        {"threshold_start": 1.0, "temperature": 0.05},
        {"assignment": "soft", "assignment_temperature": 0.5},
        {"objective": "info_nce", "temperature": 0.05, "views": "su"},
        {"next_item": "gbce", "gbce_calibration": 0.5, "num_negatives": 9},
        {"low_pass_share": 0.7, "low_pass_frequencies": 5},
    ],
)
def test_what_has_an_effect_is_not_named(options) -> None:
    assert idle(**options) == []


def test_what_has_none_is_named_with_the_reason() -> None:
    assert idle(objective="info_nce", threshold_start=1.0, assignment="soft") == [
        "threshold_start (with objective info_nce)",
        "assignment (with objective info_nce)",
    ]
    assert idle(objective="none", temperature=0.05) == [
        "temperature (with objective none)"
    ]
    assert idle(next_item="softmax", num_negatives=9, low_pass_frequencies=2) == [
        "num_negatives (with next_item softmax)",
        "low_pass_frequencies (with low_pass_share 0.0)",
    ]
    assert idle(threshold_target="mean", threshold_quantile=0.5) == [
        "threshold_quantile (with threshold_target mean)"
    ]
