"""What is noted after every epoch, against NumPy on numbers that are known."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from adaptiverec.model.diagnostics import (
    DiagnosticSample,
    RecordDiagnostics,
    alignment,
    read_diagnostics,
    uniformity,
)
from adaptiverec.model.prepared_data import Sequences

# Users 1 2 3 | 4 3, of whom 4 is trained on | 3 1 3.
SEQUENCES = Sequences(
    items=np.array([1, 2, 3, 4, 3, 3, 1, 3], np.int32),
    starts=np.array([0, 3, 5, 8]),
    train_ends=np.array([3, 4, 8]),
    validation_ends=np.array([3, 5, 8]),
)


def test_alignment_and_uniformity_by_hand() -> None:
    # Of any length: unit vectors are compared. A right angle is at squared distance 2.
    x = np.array([[2.0, 0.0], [0.0, 5.0]])
    y = np.array([[0.0, 1.0], [0.0, 3.0]])
    assert alignment(x, y) == pytest.approx((2.0 + 0.0) / 2)
    assert uniformity(x) == pytest.approx(-4.0)
    # Three pairs: opposite (squared distance 4), and two right angles.
    z = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    assert uniformity(z) == pytest.approx(
        math.log((math.exp(-8) + 2 * math.exp(-4)) / 3)
    )
    assert math.isnan(uniformity(x[:1]))


def draw(seed: int = 0, **options) -> DiagnosticSample:
    return DiagnosticSample.draw(
        SEQUENCES, **{"num_items": 4, "max_length": 2, "seed": seed, **options}
    )


def test_a_sample_that_takes_all() -> None:
    sample = draw()
    found = {
        (tuple(history), target, tuple(same))
        for history, target, same in zip(
            sample.item_ids.tolist(),
            sample.targets.tolist(),
            sample.same_target_item_ids.tolist(),
            strict=True,
        )
    }
    # The second user has a single item to train on. Two instances have target 3, and are
    # each other's partner; the others are alone with their target.
    assert found == {
        ((1, 0), 2, (1, 0)),
        ((1, 2), 3, (3, 1)),
        ((3, 0), 1, (3, 0)),
        ((3, 1), 3, (1, 2)),
    }
    assert sample.items.tolist() == [1, 2, 3, 4]


def test_draws_depend_on_the_seed_alone_and_differ() -> None:
    assert draw(5, size=2).item_ids.tolist() == draw(5, size=2).item_ids.tolist()
    drawn = {draw(seed, size=1).targets[0] for seed in range(40)}
    assert drawn == {1, 2, 3}


@pytest.fixture
def recorded(tmp_path) -> dict:
    generator = np.random.default_rng(1)
    # What a history is encoded as: a vector of its first item.
    vectors = generator.normal(size=(5, 3)).astype(np.float32)
    table = tf.constant(vectors)
    model = SimpleNamespace(
        encoder=SimpleNamespace(
            encode_by_length=lambda ids: tf.gather(table, ids[:, 0]),
            item_embedding=SimpleNamespace(embeddings=table),
        ),
        contrast=SimpleNamespace(threshold=lambda z: z[:, 0] / 10),
    )
    callback = RecordDiagnostics(tmp_path / "diagnostics", draw())
    callback.set_model(model)
    callback.on_epoch_begin(0)
    callback.on_epoch_end(0)
    figures = json.loads((tmp_path / "diagnostics" / "epoch-0001.json").read_text())
    return {"figures": figures, "vectors": vectors, "path": tmp_path / "diagnostics"}


def test_similarities_of_n_leave_out_the_row_and_its_twin(recorded) -> None:
    figures, vectors, sample = recorded["figures"], recorded["vectors"], draw()
    z = vectors[
        np.concatenate([sample.item_ids[:, 0], sample.same_target_item_ids[:, 0]])
    ].astype(np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    pairs = [
        float(z[i] @ z[j])
        for i in range(8)
        for j in range(8)
        if j not in (i, (i + 4) % 8)
    ]
    assert len(figures["similarity_quantiles"]) == 101
    assert figures["similarity_quantiles"][0] == pytest.approx(min(pairs), abs=1e-4)
    assert figures["similarity_quantiles"][50] == pytest.approx(
        np.median(pairs), abs=1e-4
    )
    assert figures["similarity_quantiles"][100] == pytest.approx(max(pairs), abs=1e-4)
    squares = np.sum((z[:4] - z[4:]) ** 2, axis=1)
    assert figures["sequence_alignment"] == pytest.approx(squares.mean(), abs=1e-5)
    thresholds = vectors[sample.item_ids[:, 0], 0] / 10
    assert figures["threshold_quantiles"][2] == pytest.approx(
        np.median(thresholds), abs=1e-4
    )


def test_items_are_compared_with_the_target_after_them(recorded) -> None:
    vectors = recorded["vectors"].astype(np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    # Last items and targets of the four instances.
    pairs = [(1, 2), (2, 3), (3, 1), (1, 3)]
    expected = np.mean([np.sum((unit[a] - unit[b]) ** 2) for a, b in pairs])
    assert recorded["figures"]["item_alignment"] == pytest.approx(expected, abs=1e-5)


def test_epochs_that_were_cut_off_are_not_read(recorded) -> None:
    path = recorded["path"]
    (path / "epoch-0002.json").write_text("half of a fi")
    (figures,) = read_diagnostics(path, 1)
    assert figures["epoch"] == 1
    assert read_diagnostics(path / "none", 3) == []
