import numpy as np
import pytest
import tensorflow as tf

from adaptiverec.model.similarity_histogram import (
    NUM_BINS,
    SimilarityHistogram,
    similarity_histogram,
)
from adaptiverec.model.threshold_regularizer import ThresholdRegularizer


def random_similarities(rows: int, seed: int = 0) -> np.ndarray:
    views = np.random.default_rng(seed).normal(size=(rows, 8))
    views /= np.linalg.norm(views, axis=1, keepdims=True)
    return (views @ views.T).astype(np.float32)


def of_negatives(similarities: np.ndarray) -> np.ndarray:
    rows = len(similarities)
    index = np.arange(rows)
    return similarities[(index[:, None] - index[None, :]) % (rows // 2) != 0]


def test_holds_thresholds_to_the_previous_epochs_mean() -> None:
    regularizer = ThresholdRegularizer(target="mean")
    regularizer.build()
    thresholds = np.array([0.1, 0.3], np.float32)
    batches = [similarity_histogram(random_similarities(8, seed)) for seed in (1, 2)]

    regularizer.start_epoch()
    for batch in batches:
        assert float(regularizer(thresholds)) == 0
        regularizer.observe(batch)
    regularizer.start_epoch()

    q = np.mean([batch.mean(batch.centres) for batch in batches])
    expected = np.linalg.norm(thresholds - q)
    assert float(regularizer(thresholds)) == pytest.approx(expected, rel=1e-5)
    # An evaluation in between, which observes nothing, changes nothing.
    regularizer.start_epoch()
    assert float(regularizer(thresholds)) == pytest.approx(expected, rel=1e-5)


def test_median_is_the_half_quantile() -> None:
    regularizer = ThresholdRegularizer(target="median", quantile=0.9)
    regularizer.build()
    similarities = random_similarities(40)
    found = float(regularizer.observe(similarity_histogram(similarities)))
    assert found == pytest.approx(np.median(of_negatives(similarities)), abs=1e-3)


def test_a_batch_of_one_sequence_is_not_counted() -> None:
    regularizer = ThresholdRegularizer()
    regularizer.build()
    regularizer.observe(similarity_histogram(random_similarities(2)))
    regularizer.start_epoch()
    assert float(regularizer(np.ones(1, np.float32))) == 0


def test_gradient_is_finite_where_thresholds_fit_exactly() -> None:
    regularizer = ThresholdRegularizer(target="mean")
    regularizer.build()
    # All pairs in the last bin, whose centre is the mean, and 1 its upper end.
    counts = tf.one_hot(NUM_BINS - 1, NUM_BINS)
    centre = float(regularizer.observe(SimilarityHistogram(counts)))
    assert centre == 1 - 1 / NUM_BINS
    regularizer.start_epoch()
    thresholds = tf.Variable([centre, centre])
    with tf.GradientTape() as tape:
        loss = regularizer(thresholds)
    assert np.all(np.isfinite(tape.gradient(loss, thresholds)))
