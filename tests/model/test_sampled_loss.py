"""Losses over sampled items, beside the whole softmax and numbers worked by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf

from adaptiverec.model.next_item_loss import next_item_loss
from adaptiverec.model.sampled_loss import (
    Negatives,
    draw_by_rank,
    draw_evenly,
    generalised_bce_loss,
    sampled_softmax_loss,
)

F = np.array([[1.0, 0.0], [0.5, -1.0]], np.float32)
# Scores of the first row: 2, 0, -1; of the second: 0, -1, .5.
E = np.array([[2.0, 1.0], [0.0, 1.0], [-1.0, -1.0]], np.float32)


def test_all_items_once_are_the_whole_softmax() -> None:
    negatives = Negatives(tf.constant([3, 1, 2]), tf.zeros(3))
    targets = np.array([1, 2])
    found, expected = [], []
    for losses, function in (
        (found, lambda f, e: sampled_softmax_loss(f, e, targets, negatives)),
        (expected, lambda f, e: next_item_loss(f, e, targets)),
    ):
        f, e = tf.constant(F), tf.constant(E)
        with tf.GradientTape() as tape:
            tape.watch([f, e])
            loss = function(f, e)
        losses += [loss, *tape.gradient(loss, [f, e])]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_sampled_softmax_by_hand() -> None:
    # Item 2 drawn once where half a draw was expected, and the target itself, no negative.
    negatives = Negatives(tf.constant([2, 1]), tf.math.log([0.5, 3.0]))
    loss = sampled_softmax_loss(F[:1], E, [1], negatives)
    expected = -2 + math.log(math.exp(2) + math.exp(0) / 0.5)
    assert float(loss[0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("draw", [draw_evenly, draw_by_rank])
def test_the_estimated_denominator_is_right_on_average(draw) -> None:
    sums = []
    for seed in range(200):
        negatives = draw(3, 50, [seed, 1])
        loss = sampled_softmax_loss(F[:1], E, [2], negatives)
        sums.append(math.exp(float(loss[0])))
    # e^loss is the denominator over e^{s[t]}, and s[t] is 0.
    expected = math.exp(2) + 1 + math.exp(-1)
    assert np.mean(sums) == pytest.approx(expected, rel=0.02)


def test_rare_items_of_a_large_catalogue_are_drawn_one_by_one() -> None:
    # In single precision one in seven of the rarer half could be drawn, the same ones
    # again and again.
    num_items, count = 5_000_000, 2_000_000
    drawn = draw_by_rank(num_items, count, [1, 2]).item_ids.numpy()
    rare = drawn[drawn > num_items // 2]
    share = math.log(2) / math.log(num_items + 1)
    assert len(rare) == pytest.approx(count * share, rel=0.02)
    repeats = len(rare) - len(np.unique(rare))
    # As of even draws among two and a half million, or a little more.
    assert repeats < 1.2 * len(rare) ** 2 / num_items


def test_draws_follow_their_shares() -> None:
    even, ranked = draw_evenly(4, 40_000, [1, 2]), draw_by_rank(4, 40_000, [1, 2])
    counts = np.bincount(even.item_ids, minlength=5)
    np.testing.assert_allclose(counts, [0, *[10_000] * 4], atol=400)
    np.testing.assert_allclose(even.log_expected, math.log(10_000), rtol=1e-5)
    counts = np.bincount(ranked.item_ids, minlength=5)
    # log 2, log 3/2, log 4/3, log 5/4, over their sum, log 5.
    shares = np.log([2, 3 / 2, 4 / 3, 5 / 4]) / math.log(5)
    np.testing.assert_allclose(counts[1:], 40_000 * shares, atol=400)
    expected = np.log(40_000 * shares)[np.asarray(ranked.item_ids) - 1]
    np.testing.assert_allclose(ranked.log_expected, expected, rtol=1e-4)


@pytest.mark.parametrize("calibration", [0.0, 0.75, 1.0])
def test_gbce_by_hand(calibration) -> None:
    # One of the two others is drawn: a = 1/2.
    negatives = Negatives(tf.constant([3]), tf.zeros(1))
    loss = generalised_bce_loss(F[:1], E, [1], negatives, calibration=calibration)
    power = {0.0: 1.0, 0.75: 0.625, 1.0: 0.5}[calibration]
    # The chance of a score of s in a catalogue of three: odds of e^s to 3.
    chance = lambda score: math.exp(score) / (math.exp(score) + 3)  # noqa: E731
    expected = -power * math.log(chance(2)) - math.log(1 - chance(-1))
    assert float(loss[0]) == pytest.approx(expected, rel=1e-5)


def test_gbce_of_a_draw_that_is_the_target() -> None:
    negatives = Negatives(tf.constant([1]), tf.zeros(1))
    loss = generalised_bce_loss(F[:1], E, [1], negatives, calibration=0.0)
    assert float(loss[0]) == pytest.approx(math.log1p(3 * math.exp(-2)), rel=1e-5)
