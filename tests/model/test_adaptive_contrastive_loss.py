"""The adaptive loss against numbers worked by hand and an independent NumPy oracle."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from adaptiverec.model.adaptive_contrastive_loss import adaptive_contrastive_loss

# Three sequences in two views: rows 0, 1, 2 and their twins 3, 4, 5.
ROW_0 = [1.0, 0.8, -0.2, 0.6, 0.1, 0.4]


def batch_of_three() -> np.ndarray:
    similarities = np.zeros((6, 6), np.float32)
    similarities[0] = ROW_0
    similarities[:, 0] = ROW_0
    # Twins of the others, so that their rows are defined too.
    similarities[1, 4] = similarities[4, 1] = 0.5
    similarities[2, 5] = similarities[5, 2] = 0.5
    return similarities


def oracle(
    similarities, thresholds, temperature, pair_weights, denominator, soft_temperature
):
    """Row by row and pair by pair, as the formula is written."""
    rows = len(similarities)
    losses = []
    for i in range(rows):
        twin = (i + rows // 2) % rows
        negatives = [j for j in range(rows) if j not in (i, twin)]
        e = {j: math.exp(similarities[i][j] / temperature) for j in range(rows)}
        w = {}
        for j in negatives:
            margin = similarities[i][j] - thresholds[i]
            if soft_temperature is None:
                w[j] = float(margin >= 0)
            else:
                w[j] = 1 / (1 + math.exp(-margin / soft_temperature))
        d = e[twin] + sum(
            e[j] * ((1 - w[j]) if denominator == "negatives" else 1) for j in negatives
        )
        p = {j: e[j] / d for j in [twin, *negatives]}
        total = sum(w.values())
        # Of all positives; without any, the twin has the whole weight.
        mass = 0.5 * min(total, 1)
        if pair_weights == "inside":
            loss = -math.log((1 - mass) * p[twin])
            loss -= sum(w[j] * math.log(mass / total * p[j]) for j in w if w[j])
        else:
            loss = -(1 - mass) * math.log(p[twin])
            loss -= sum(mass / total * w[j] * math.log(p[j]) for j in w if w[j])
        losses.append(loss)
    return np.array(losses)


def test_row_worked_by_hand() -> None:
    # k = .4: M+ = {1 (.8), 5 (.4, a tie)}, M- = {2 (-.2), 4 (.1)}, twin 3 (.6).
    result = adaptive_contrastive_loss(batch_of_three(), np.full(6, 0.4, np.float32))
    d = math.exp(0.6) + math.exp(-0.2) + math.exp(0.1)
    expected = 0.5 * (math.log(d) - 0.6) + 0.25 * (
        (math.log(d) - 0.8) + (math.log(d) - 0.4)
    )
    assert float(result.loss[0]) == pytest.approx(expected, rel=1e-6)
    assert float(result.num_positives[0]) == 2


def test_the_other_rows_worked_by_hand() -> None:
    # The similarities of a row are 0 but for those named; its twin is in the middle.
    e = {s: math.exp(s) for s in (-0.2, 0.1, 0.5, 0.6)}
    # Row 1: .8 with row 0 and .5 with the twin, k = .4. Three negatives of 0.
    log_d1 = math.log(e[0.5] + 3)
    # Row 2: -.2 and the twin's .5, k = .1. No positive.
    log_d2 = math.log(e[0.5] + e[-0.2] + 3)
    # Row 3: the twin's .6 and nothing else, k = .4. No positive.
    log_d3 = math.log(e[0.6] + 4)
    # Row 4: .1 and the twin's .5, k = 0. All four are positive, the zeros by a tie.
    # Row 5: .4, a tie, and the twin's .5, k = .4. Three negatives of 0.
    log_d5 = math.log(e[0.5] + 3)
    expected = [
        0.5 * (log_d1 - 0.5) + 0.5 * (log_d1 - 0.8),
        log_d2 - 0.5,
        log_d3 - 0.6,
        0.5 * (0.5 - 0.5) + 0.125 * (4 * 0.5 - 0.1),
        0.5 * (log_d5 - 0.5) + 0.5 * (log_d5 - 0.4),
    ]
    thresholds = np.array([0.4, 0.4, 0.1, 0.4, 0.0, 0.4], np.float32)
    result = adaptive_contrastive_loss(batch_of_three(), thresholds)
    np.testing.assert_allclose(result.loss[1:], expected, rtol=1e-6)
    np.testing.assert_array_equal(result.num_positives[1:], [1, 0, 0, 4, 1])


def test_denominator_over_all_pairs() -> None:
    result = adaptive_contrastive_loss(
        batch_of_three(), np.full(6, 0.4, np.float32), denominator="all"
    )
    d = sum(math.exp(s) for s in ROW_0[1:])
    assert float(result.loss[0]) == pytest.approx(math.log(d) - 0.6, rel=1e-6)


def test_inside_the_logarithm_by_hand() -> None:
    result = adaptive_contrastive_loss(
        batch_of_three(), np.full(6, 0.4, np.float32), pair_weights="inside"
    )
    d = math.exp(0.6) + math.exp(-0.2) + math.exp(0.1)
    expected = -math.log(math.exp(0.6) / d / 2)
    expected -= math.log(math.exp(0.8) / d / 4) + math.log(math.exp(0.4) / d / 4)
    assert float(result.loss[0]) == pytest.approx(expected, rel=1e-6)


def test_soft_assignment_by_hand() -> None:
    result = adaptive_contrastive_loss(
        batch_of_three(),
        np.full(6, 0.4, np.float32),
        assignment="soft",
        assignment_temperature=0.2,
    )
    # sigmoid(2), sigmoid(-3), sigmoid(-1.5), sigmoid(0) of rows 1, 2, 4 and 5.
    w1, w2, w4, w5 = 0.880797, 0.0474259, 0.182426, 0.5
    n = 1.6106489
    d = math.exp(0.6) + (1 - w1) * math.exp(0.8) + (1 - w2) * math.exp(-0.2)
    d += (1 - w4) * math.exp(0.1) + (1 - w5) * math.exp(0.4)
    mean_logit = (w1 * 0.8 - w2 * 0.2 + w4 * 0.1 + w5 * 0.4) / n
    expected = math.log(d) - 0.5 * 0.6 - 0.5 * mean_logit
    assert float(result.num_positives[0]) == pytest.approx(n, rel=1e-5)
    assert float(result.loss[0]) == pytest.approx(expected, rel=1e-5)


def test_thresholds_are_of_cosines_whatever_the_similarity() -> None:
    cosines = batch_of_three()
    thresholds = np.full(6, 0.4, np.float32)
    result = adaptive_contrastive_loss(10 * cosines, thresholds, cosines=cosines)
    # Of the dots 8, -2, 6 (the twin), 1 and 4, those of rows 1 and 5 are positive.
    d = math.exp(6) + math.exp(-2) + math.exp(1)
    expected = 0.5 * (math.log(d) - 6) + 0.25 * (2 * math.log(d) - 8 - 4)
    assert float(result.loss[0]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("pair_weights", ["outside", "inside"])
def test_without_positives_the_twin_has_the_whole_weight(pair_weights) -> None:
    result = adaptive_contrastive_loss(
        batch_of_three(), np.full(6, 2.0, np.float32), pair_weights=pair_weights
    )
    d = sum(math.exp(s) for s in ROW_0[1:])
    assert float(result.loss[0]) == pytest.approx(math.log(d) - 0.6, rel=1e-6)
    assert np.all(result.num_positives == 0)


def test_all_pairs_positive_leaves_the_twin_alone_in_the_denominator() -> None:
    result = adaptive_contrastive_loss(batch_of_three(), np.full(6, -2.0, np.float32))
    expected = 0.5 * (0.6 - (0.8 - 0.2 + 0.1 + 0.4) / 4)
    assert float(result.loss[0]) == pytest.approx(expected, rel=1e-5)


def test_a_batch_of_one_sequence_has_nothing_to_contrast() -> None:
    result = adaptive_contrastive_loss(
        np.array([[1.0, 0.3], [0.3, 1.0]], np.float32), np.zeros(2, np.float32)
    )
    assert np.allclose(result.loss, 0, atol=1e-6)


def test_large_similarities_do_not_overflow() -> None:
    result = adaptive_contrastive_loss(
        1000 * batch_of_three(), np.full(6, 400.0, np.float32), temperature=0.1
    )
    assert np.all(np.isfinite(result.loss))


@settings(max_examples=60, deadline=None)
@given(
    batch_size=st.integers(1, 5),
    seed=st.integers(0, 2**31),
    temperature=st.sampled_from([0.1, 0.5, 1.0, 3.0]),
    pair_weights=st.sampled_from(["outside", "inside"]),
    denominator=st.sampled_from(["negatives", "all"]),
    soft_temperature=st.sampled_from([None, 0.05, 0.5]),
)
def test_equals_the_oracle(
    batch_size, seed, temperature, pair_weights, denominator, soft_temperature
) -> None:
    generator = np.random.default_rng(seed)
    views = generator.normal(size=(2 * batch_size, 3))
    if batch_size > 2:
        views[1] = views[0]  # two equal rows
    views /= np.linalg.norm(views, axis=1, keepdims=True)
    similarities = (views @ views.T).astype(np.float32)
    thresholds = generator.uniform(-1.05, 1.05, 2 * batch_size).astype(np.float32)
    result = adaptive_contrastive_loss(
        similarities,
        thresholds,
        temperature=temperature,
        pair_weights=pair_weights,
        denominator=denominator,
        assignment="hard" if soft_temperature is None else "soft",
        assignment_temperature=soft_temperature or 0.1,
    )
    expected = oracle(
        similarities,
        thresholds,
        temperature,
        pair_weights,
        denominator,
        soft_temperature,
    )
    np.testing.assert_allclose(result.loss, expected, rtol=2e-4, atol=2e-4)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    temperature=st.sampled_from([0.2, 1.0]),
    pair_weights=st.sampled_from(["outside", "inside"]),
    denominator=st.sampled_from(["negatives", "all"]),
    soft_temperature=st.sampled_from([None, 0.2]),
)
def test_gradient_of_the_similarities_is_that_of_finite_differences(
    differences_of_pairs, seed, temperature, pair_weights, denominator, soft_temperature
) -> None:
    generator = np.random.default_rng(seed)
    similarities = generator.uniform(-1, 1, (6, 6))
    similarities = (similarities + similarities.T) / 2
    thresholds = generator.uniform(-1, 1, 6)
    # A pair at its threshold has no gradient.
    assume(np.abs(similarities - thresholds[:, None]).min() > 1e-3)
    options = (temperature, pair_weights, denominator, soft_temperature)
    variable = tf.Variable(similarities, dtype="float32")
    with tf.GradientTape() as tape:
        loss = adaptive_contrastive_loss(
            variable,
            tf.constant(thresholds, "float32"),
            temperature=temperature,
            pair_weights=pair_weights,
            denominator=denominator,
            assignment="hard" if soft_temperature is None else "soft",
            assignment_temperature=soft_temperature or 0.1,
        ).loss
    gradient = tape.gradient(loss, variable).numpy()
    expected = differences_of_pairs(
        lambda shifted: oracle(shifted, thresholds, *options).sum(), similarities
    )
    # A pair has one similarity, and two places.
    np.testing.assert_allclose(gradient + gradient.T, expected, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize(("assignment", "trains"), [("hard", False), ("soft", True)])
def test_only_the_soft_assignment_trains_the_thresholds(assignment, trains) -> None:
    similarities = tf.constant(batch_of_three())
    thresholds = tf.Variable(tf.fill([6], 0.3))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(
            adaptive_contrastive_loss(
                similarities, thresholds, assignment=assignment
            ).loss
        )
    gradient = tape.gradient(loss, thresholds)
    if not trains:
        assert gradient is None or np.all(gradient == 0)
        return
    # Finite differences, of the oracle.
    step = 1e-4
    for i in range(6):
        shifted = [np.full(6, 0.3), np.full(6, 0.3)]
        shifted[0][i] += step
        shifted[1][i] -= step
        above, below = (
            oracle(batch_of_three(), k, 1.0, "outside", "negatives", 0.1).sum()
            for k in shifted
        )
        assert float(gradient[i]) == pytest.approx(
            (above - below) / (2 * step), abs=1e-3
        )


@pytest.mark.parametrize("temperature", [1.0, 0.05])
@pytest.mark.parametrize(("denominator", "direction"), [("negatives", -1), ("all", 1)])
def test_where_the_soft_assignment_pulls_thresholds(
    denominator, direction, temperature
) -> None:
    """Down, as what is positive leaves the negatives; over all, up to the most alike."""
    views = np.random.default_rng(3).normal(size=(16, 6))
    views /= np.linalg.norm(views, axis=1, keepdims=True)
    similarities = tf.constant(views @ views.T, "float32")
    thresholds = tf.Variable(np.quantile(similarities, 0.9, axis=1).astype(np.float32))
    with tf.GradientTape() as tape:
        loss = adaptive_contrastive_loss(
            similarities,
            thresholds,
            temperature=temperature,
            denominator=denominator,
            assignment="soft",
        ).loss
    pulled = -tape.gradient(loss, thresholds).numpy()
    assert np.mean(np.sign(pulled) == direction) > 0.8
