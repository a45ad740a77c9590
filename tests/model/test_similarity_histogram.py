"""What is read from a histogram of similarities, beside all of them sorted by NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptiverec.model.similarity_histogram import NUM_BINS, similarity_histogram

CLOSE = 2.0 / NUM_BINS + 1e-6


def random_views(rows: int, seed: int, longest: float = 1.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    views = generator.normal(size=(rows, 8))
    views /= np.linalg.norm(views, axis=1, keepdims=True)
    return views * generator.uniform(0, longest, (rows, 1))


def of_negatives(similarities: np.ndarray) -> np.ndarray:
    index = np.arange(len(similarities))
    return similarities[(index[:, None] - index) % (len(index) // 2) != 0]


def between_order_statistics(values, quantile, found, slack) -> bool:
    low = np.quantile(values, max(quantile - 1 / len(values), 0), method="lower")
    high = np.quantile(values, min(quantile + 1 / len(values), 1), method="higher")
    return low - slack <= found <= high + slack


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sequences=st.integers(2, 150),
    quantile=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    longest=st.sampled_from([1.0, 0.01]),
)
def test_it_tells_quantiles_and_means(seed, sequences, quantile, longest) -> None:
    views = random_views(2 * sequences, seed, longest)
    similarities = (views @ views.T).astype(np.float32)
    values = of_negatives(similarities)
    histogram = similarity_histogram(similarities)
    assert float(histogram.num_pairs) == len(values)
    found = float(histogram.quantile(quantile))
    assert between_order_statistics(values, quantile, found, CLOSE)
    mean = float(histogram.mean(histogram.centres))
    assert mean == pytest.approx(values.mean(), abs=CLOSE)


def test_it_tells_the_mean_of_what_is_made_of_each() -> None:
    views = random_views(60, 0)
    cosines = (views @ views.T).astype(np.float32)
    histogram = similarity_histogram(cosines)
    found = float(histogram.mean(tf.exp(4.0 * histogram.centres - 4.0)))
    assert found == pytest.approx(
        np.exp(4 * of_negatives(cosines) - 4).mean(), rel=1e-3
    )


@pytest.mark.parametrize("cosine", [1.0, 0.25, -1.0])
def test_equal_similarities(cosine) -> None:
    histogram = similarity_histogram(np.full((6, 6), cosine, np.float32))
    assert float(histogram.quantile(0.9)) == pytest.approx(cosine, abs=CLOSE)


def test_of_one_sequence_there_are_no_pairs() -> None:
    histogram = similarity_histogram(np.eye(2, dtype=np.float32))
    assert float(histogram.num_pairs) == 0
    assert float(histogram.mean(histogram.centres)) == 0


def test_what_is_no_number_is_counted_all_the_same() -> None:
    histogram = similarity_histogram(np.full((4, 4), np.nan, np.float32))
    assert float(histogram.num_pairs) == 8
