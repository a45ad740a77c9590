"""InfoNCE against numbers worked by hand and an independent NumPy oracle."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptiverec.model.info_nce_loss import info_nce_loss

# Three sequences in two views: rows 0, 1, 2 and their twins 3, 4, 5.
SIMILARITIES = np.array(
    [
        [1.0, 0.2, -0.4, 0.7, 0.0, -0.1],
        [0.2, 1.0, 0.5, 0.3, 0.9, 0.0],
        [-0.4, 0.5, 1.0, 0.1, 0.6, -0.8],
        [0.7, 0.3, 0.1, 1.0, 0.0, 0.2],
        [0.0, 0.9, 0.6, 0.0, 1.0, 0.4],
        [-0.1, 0.0, -0.8, 0.2, 0.4, 1.0],
    ],
    np.float32,
)


def oracle(similarities: np.ndarray, temperature: float) -> np.ndarray:
    """Row by row and pair by pair, as the formula is written."""
    rows = len(similarities)
    losses = []
    for i in range(rows):
        twin = (i + rows // 2) % rows
        e = {
            j: math.exp(similarities[i][j] / temperature) for j in range(rows) if j != i
        }
        losses.append(-math.log(e[twin] / sum(e.values())))
    return np.array(losses)


@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_rows_worked_by_hand(temperature) -> None:
    loss = info_nce_loss(SIMILARITIES, temperature=temperature)
    # Row 0: the twin is row 3 (.7); the row itself is no candidate.
    e = [math.exp(s / temperature) for s in (0.2, -0.4, 0.7, 0.0, -0.1)]
    assert float(loss[0]) == pytest.approx(-math.log(e[2] / sum(e)), rel=1e-5)
    # Row 5: the twin is row 2 (-.8), the least alike.
    e = [math.exp(s / temperature) for s in (-0.1, 0.0, -0.8, 0.2, 0.4)]
    assert float(loss[5]) == pytest.approx(-math.log(e[2] / sum(e)), rel=1e-5)


def test_a_batch_of_one_sequence_has_nothing_to_contrast() -> None:
    loss = info_nce_loss(np.array([[1.0, 0.4], [0.4, 1.0]], np.float32))
    assert np.allclose(loss, 0, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    batch_size=st.integers(1, 4),
    seed=st.integers(0, 2**31),
    temperature=st.sampled_from([0.1, 1.0, 3.0]),
)
def test_losses_and_gradients_are_those_of_the_oracle(
    differences_of_pairs, batch_size, seed, temperature
) -> None:
    rows = 2 * batch_size
    similarities = np.random.default_rng(seed).uniform(-1, 1, (rows, rows))
    similarities = (similarities + similarities.T) / 2
    variable = tf.Variable(similarities, dtype="float32")
    with tf.GradientTape() as tape:
        loss = info_nce_loss(variable, temperature=temperature)
    np.testing.assert_allclose(
        loss, oracle(similarities, temperature), rtol=2e-4, atol=2e-4
    )
    gradient = tape.gradient(loss, variable).numpy()
    expected = differences_of_pairs(
        lambda shifted: oracle(shifted, temperature).sum(), similarities
    )
    # A pair has one similarity, and two places.
    np.testing.assert_allclose(gradient + gradient.T, expected, rtol=1e-3, atol=2e-4)
