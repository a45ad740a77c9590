"""The small network of the thresholds: where they begin, and how far they reach."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from adaptiverec.common.errors import InvalidValueError
from adaptiverec.model.adaptive_threshold import AdaptiveThreshold
from adaptiverec.model.contrastive_objective import ContrastiveObjective


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("start", [-1.0, -0.3, 0.0, 0.5, 1.0])
def test_an_untrained_network_begins_there(start) -> None:
    thresholds = AdaptiveThreshold(start=start)(normal(20, 64))
    np.testing.assert_allclose(thresholds, np.full(20, start), atol=0.01)


def test_thresholds_reach_past_every_cosine() -> None:
    layer = AdaptiveThreshold()
    layer.build((None, 16))
    for bias, limit in ((50.0, 1.05), (-50.0, -1.05)):
        layer.output_unit.bias.assign([bias])
        np.testing.assert_allclose(layer(normal(3, 16)), np.full(3, limit), rtol=1e-6)


def test_each_sequence_has_a_threshold_of_its_own() -> None:
    layer = AdaptiveThreshold()
    states = normal(4, 16)
    layer.build((None, 16))
    layer.hidden.kernel.assign(normal(16, 2))
    layer.output_unit.kernel.assign(normal(2, 1))
    together = np.array(layer(states))
    assert np.ptp(together) > 0.1
    alone = [float(layer(states[i : i + 1])[0]) for i in range(4)]
    np.testing.assert_allclose(alone, together, rtol=1e-5)


@pytest.mark.parametrize(("start", "share"), [(1.0, 0.0), (0.0, 0.5), (-1.0, 1.0)])
def test_share_of_positives_before_training(start, share) -> None:
    keras.utils.set_random_seed(0)
    objective = ContrastiveObjective(threshold_start=start)
    # Cosines of directions at random lie about 0.
    objective([tuple(normal(2, 100, 64))])
    found = float(objective.observations["positive_share"].result())
    assert found == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("start", [1.01, -1.01, float("nan")])
def test_a_start_that_is_no_cosine_is_refused(start) -> None:
    with pytest.raises(InvalidValueError, match=r"threshold_start must be at .* Rec.*"):
        AdaptiveThreshold(start=start)


def test_file_keeps_the_start() -> None:
    layer = AdaptiveThreshold(start=0.25)
    assert AdaptiveThreshold.from_config(layer.get_config()).start == 0.25
