"""Steps compiled by XLA, which takes batches padding and all, beside those without it."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from adaptiverec.model.adaptive_rec import AdaptiveRec

NUM_ITEMS = 30
LENGTH = 6
# Of one block, since compiling takes seconds a block.
SMALL = {
    "max_length": LENGTH,
    "hidden_dim": 8,
    "inner_dim": 8,
    "dropout": 0.0,
    "num_blocks": 1,
}


def padded(lengths, seed) -> np.ndarray:
    ids = np.random.default_rng(seed).integers(1, NUM_ITEMS + 1, (len(lengths), LENGTH))
    inside = np.arange(LENGTH) < np.array(lengths)[:, None]
    return np.where(inside, ids, 0).astype(np.int32)


LENGTHS = [1, 6, 2, 3, 5, 6, 4, 6]
INPUTS = {
    "item_ids": padded(LENGTHS, 0),
    "same_target_item_ids": padded(LENGTHS[::-1], 1),
    "seen_item_ids": padded([6] * len(LENGTHS), 2),
}
FOLLOWING = padded(LENGTHS, 3)
LAST = FOLLOWING[np.arange(len(LENGTHS)), np.array(LENGTHS) - 1]


def compiled_model(jit_compile, **options) -> AdaptiveRec:
    keras.utils.set_random_seed(1)
    model = AdaptiveRec(NUM_ITEMS, **SMALL | options)
    for weight in model.trainable_weights:
        weight.assign(weight + 0.3 * keras.random.normal(weight.shape, seed=2))
    model.compile(keras.optimizers.SGD(0.1), jit_compile=jit_compile)
    return model


class WithWords(AdaptiveRec):
    """Does something in a step that XLA cannot."""

    def train_step(self, data):
        logs = super().train_step(data)
        return logs | {"letters": tf.strings.length(tf.strings.as_string(logs["loss"]))}


def test_it_is_really_on() -> None:
    for jit_compile in (False, True):
        model = WithWords(NUM_ITEMS, **SMALL, objective="none")
        model.compile(jit_compile=jit_compile)
        if not jit_compile:
            model.fit(INPUTS, LAST, verbose=0)
            continue
        with pytest.raises(tf.errors.InvalidArgumentError, match="AsString"):
            model.fit(INPUTS, LAST, verbose=0)


def without_last_target(targets: np.ndarray) -> np.ndarray:
    # The first user has none at all.
    return np.where(np.arange(len(LENGTHS))[:, None] > 0, targets, 0)


@pytest.mark.parametrize(
    ("options", "targets"),
    [
        ({"objective": "none"}, FOLLOWING),
        pytest.param({"views": "un"}, LAST, marks=pytest.mark.slow),
        pytest.param({"num_blocks": 2}, LAST, marks=pytest.mark.slow),
        pytest.param(
            {"views": "us", "assignment": "soft"},
            without_last_target(FOLLOWING),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"objective": "info_nce", "views": "un", "low_pass_share": 0.5},
            FOLLOWING,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_step_gives_the_same_weights_and_figures(options, targets) -> None:
    weights, logs = [], []
    for jit_compile in (False, True):
        model = compiled_model(jit_compile, **options)
        sample_weight = np.linspace(0.5, 2.0, len(LENGTHS)).astype(np.float32)
        batch = (INPUTS, targets, sample_weight)
        data = tf.data.Dataset.from_tensors(batch).repeat(3)
        history = model.fit(data, shuffle=False, verbose=0).history
        weights.append([weight.numpy() for weight in model.trainable_weights])
        logs.append(history)
    for plain, xla in zip(*weights, strict=True):
        np.testing.assert_allclose(xla, plain, rtol=1e-3, atol=2e-5)
    assert logs[0].keys() == logs[1].keys()
    for name, (value,) in logs[0].items():
        assert logs[1][name][0] == pytest.approx(value, rel=2e-3, abs=1e-4), name


THREE_BATCHES = """
import keras, numpy as np
from adaptiverec.model.adaptive_rec import AdaptiveRec

keras.utils.set_random_seed(1)
model = AdaptiveRec(30, max_length=6, hidden_dim=8, inner_dim=8, num_blocks=1)
model.compile(jit_compile=True)
ids = np.random.default_rng(0).integers(1, 31, (3, 24, 6)).astype(np.int32)
inputs = {"item_ids": ids[0], "same_target_item_ids": ids[1]}
model.fit(inputs, ids[2, :, 0], batch_size=8, verbose=0)
"""


@pytest.mark.slow
def test_steps_of_one_shape_are_compiled_once(tmp_path) -> None:
    # XLA's dumps are the one thing that tells how often it compiled.
    subprocess.run(
        [sys.executable, "-c", THREE_BATCHES],
        env={**os.environ, "XLA_FLAGS": f"--xla_dump_to={tmp_path}"},
        check=True,
    )
    compiled = tmp_path.glob("*one_step_on_data*before_optimizations.txt")
    assert len(list(compiled)) == 1


def test_it_evaluates_alike() -> None:
    found = [
        compiled_model(jit_compile, exclude_seen=True).evaluate(
            INPUTS, LAST, batch_size=3, verbose=0, return_dict=True
        )
        for jit_compile in (False, True)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-4)


@pytest.mark.slow
def test_augmentations_and_sampled_items_run_under_it() -> None:
    model = compiled_model(
        True, views="augment", next_item="sampled_softmax", num_negatives=5
    )
    history = model.fit(INPUTS, LAST, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_it_is_kept_by_a_file_and_never_chosen_by_itself(tmp_path) -> None:
    model = compiled_model(True)
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").jit_compile is True
    for choice in ("auto", False):
        model.compile(jit_compile=choice)
        assert model.jit_compile is False
