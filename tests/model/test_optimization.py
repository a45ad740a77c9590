"""The optimizer: what decays, and how the learning rate moves."""

import keras
import numpy as np
import pytest

from adaptiverec.common.errors import InvalidValueError
from adaptiverec.model.adaptive_rec import AdaptiveRec
from adaptiverec.model.optimization import make_optimizer

SMALL = {"max_length": 4, "hidden_dim": 8, "num_blocks": 1, "inner_dim": 8}


def rates(**options) -> list[float]:
    optimizer = make_optimizer(learning_rate=0.8, **options)
    found = []
    for step in range(options["epochs"] * options["steps_per_epoch"] + 1):
        optimizer.iterations.assign(step)
        found.append(float(keras.ops.convert_to_tensor(optimizer.learning_rate)))
    return found


def test_a_constant_rate() -> None:
    assert rates(epochs=1, steps_per_epoch=2) == pytest.approx([0.8] * 3)


def test_cosine_goes_to_0_at_the_end_of_the_last_epoch() -> None:
    # Along half a cosine: (1 + cos 0°, 60°, 90°, 120°, 180°) / 2 of .8.
    found = rates(schedule="cosine", epochs=3, steps_per_epoch=2)
    assert [found[n] for n in (0, 2, 3, 4, 6)] == pytest.approx([0.8, 0.6, 0.4, 0.2, 0])


def test_warm_up_rises_evenly_and_then_the_schedule_begins() -> None:
    options = {"warmup_epochs": 2, "epochs": 4, "steps_per_epoch": 2}
    assert rates(**options) == pytest.approx([0, 0.2, 0.4, 0.6, *[0.8] * 5])
    found = rates(schedule="cosine", **options)
    assert found[:5] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert [found[6], found[8]] == pytest.approx([0.4, 0])


def decayed_by_a_step_without_gradient(model, optimizer) -> dict[str, float]:
    """What is left of each weight, which was 1."""
    for weight in model.trainable_weights:
        weight.assign(keras.ops.ones(weight.shape))
    zeros = [keras.ops.zeros(weight.shape) for weight in model.trainable_weights]
    optimizer.apply_gradients(zip(zeros, model.trainable_weights, strict=True))
    return {w.path: float(np.mean(w)) for w in model.trainable_weights}


def test_decay_is_decoupled_and_leaves_norms_and_biases_alone(tmp_path) -> None:
    model = AdaptiveRec(9, **SMALL)
    model.compile(make_optimizer(learning_rate=0.1, weight_decay=0.5))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for found in (model, loaded):
        left = decayed_by_a_step_without_gradient(found, found.optimizer)
        kinds = {path.split("/")[-1] for path in left}
        assert kinds == {"kernel", "bias", "embeddings", "gamma", "beta"}
        for path, value in left.items():
            # Learning rate times decay: a twentieth goes.
            matrix = path.endswith(("kernel", "embeddings"))
            assert value == pytest.approx(0.95 if matrix else 1.0), path


def test_without_decay_nothing_goes() -> None:
    model = AdaptiveRec(9, **SMALL, objective="none")
    model.compile(make_optimizer(learning_rate=0.1))
    left = decayed_by_a_step_without_gradient(model, model.optimizer)
    assert set(left.values()) == {1.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_decay": -0.1}, "weight_decay must be at least 0. Received: -0.1"),
        (
            {"schedule": "step"},
            "schedule must be one of 'constant', 'cosine'. Received",
        ),
        ({"warmup_epochs": -1}, "warmup_epochs must be at least 0. Received: -1"),
        (
            {"warmup_epochs": 3, "epochs": 3},
            "must be below epochs.*Received: warmup_epochs=3, epochs=3",
        ),
    ],
)
def test_bad_arguments(options, message) -> None:
    with pytest.raises(InvalidValueError, match=message):
        make_optimizer(**options)
