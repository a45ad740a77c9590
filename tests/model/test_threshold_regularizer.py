import numpy as np
import pytest
import tensorflow as tf

from adaptiverec.model.threshold_regularizer import (
    ThresholdRegularizer,
    similarity_quantile,
)


def random_similarities(rows: int, seed: int = 0) -> np.ndarray:
    views = np.random.default_rng(seed).normal(size=(rows, 8))
    views /= np.linalg.norm(views, axis=1, keepdims=True)
    return (views @ views.T).astype(np.float32)


def of_negatives(similarities: np.ndarray) -> np.ndarray:
    rows = len(similarities)
    index = np.arange(rows)
    return similarities[(index[:, None] - index[None, :]) % (rows // 2) != 0]


@pytest.mark.parametrize("quantile", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("rows", [4, 64, 300])
def test_quantile_is_exact_to_a_4096th_of_the_range(rows, quantile) -> None:
    similarities = random_similarities(rows)
    values = of_negatives(similarities)
    # The order statistics on both sides of the quantile bound it.
    low = np.quantile(values, max(quantile - 1 / len(values), 0), method="lower")
    high = np.quantile(values, min(quantile + 1 / len(values), 1), method="higher")
    slack = (similarities.max() - similarities.min()) / 4096 + 1e-6
    found = float(similarity_quantile(similarities, quantile))
    assert low - slack <= found <= high + slack


def test_quantile_of_equal_similarities() -> None:
    similarities = np.full((6, 6), 0.25, np.float32)
    assert float(similarity_quantile(similarities, 0.9)) == pytest.approx(
        0.25, abs=1e-6
    )


def test_holds_thresholds_to_the_previous_epochs_mean() -> None:
    regularizer = ThresholdRegularizer(target="mean")
    regularizer.build()
    thresholds = np.array([0.1, 0.3], np.float32)
    batches = [random_similarities(8, seed) for seed in (1, 2)]

    regularizer.start_epoch()
    for batch in batches:
        assert float(regularizer(thresholds)) == 0
        regularizer.observe(batch)
    regularizer.start_epoch()

    q = np.mean([of_negatives(batch).mean() for batch in batches])
    expected = np.linalg.norm(thresholds - q)
    assert float(regularizer(thresholds)) == pytest.approx(expected, rel=1e-5)
    # An evaluation in between, which observes nothing, changes nothing.
    regularizer.start_epoch()
    assert float(regularizer(thresholds)) == pytest.approx(expected, rel=1e-5)


def test_median_is_the_half_quantile() -> None:
    regularizer = ThresholdRegularizer(target="median", quantile=0.9)
    regularizer.build()
    similarities = random_similarities(40)
    assert float(regularizer.observe(similarities)) == pytest.approx(
        np.median(of_negatives(similarities)), abs=1e-3
    )


def test_a_batch_of_one_sequence_is_not_counted() -> None:
    regularizer = ThresholdRegularizer()
    regularizer.build()
    regularizer.observe(random_similarities(2))
    regularizer.start_epoch()
    assert float(regularizer(np.ones(1, np.float32))) == 0


def test_gradient_is_finite_where_thresholds_fit_exactly() -> None:
    regularizer = ThresholdRegularizer(target="mean")
    regularizer.build()
    regularizer.observe(np.full((4, 4), 0.5, np.float32))
    regularizer.start_epoch()
    thresholds = tf.Variable([0.5, 0.5])
    with tf.GradientTape() as tape:
        loss = regularizer(thresholds)
    assert np.all(np.isfinite(tape.gradient(loss, thresholds)))
