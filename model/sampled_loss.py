"""Next-item losses over some items of the catalogue, for catalogues too large for all.

The negatives are drawn once for the whole batch, so that they cost one small product of
matrices. A step sees no others: it takes some thousand of them, where losses that draw
for each row on its own have some hundred. A draw that is a row's target is no negative of
that row.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import tensorflow as tf

from adaptiverec.model.look_up import look_up

__all__ = [
    "Negatives",
    "draw_by_rank",
    "draw_evenly",
    "generalised_bce_loss",
    "sampled_softmax_loss",
]


class Negatives(NamedTuple):
    """Items drawn with replacement.

    Attributes:
        item_ids: Dense ids, int32 `[count]`.
        log_expected: The logarithm of how often each of them is expected among all draws,
            float32 `[count]`.
    """

    item_ids: Any
    log_expected: Any


def draw_evenly(num_items: int, count: int, seed: Any) -> Negatives:
    """Draws each item alike.

    Args:
        num_items: Size of the catalogue.
        count: How many.
        seed: Of the draw, int `[2]`.
    """
    item_ids = tf.random.stateless_uniform(
        [count], seed, minval=1, maxval=num_items + 1, dtype=tf.int32
    )
    return Negatives(item_ids, tf.fill([count], math.log(count / num_items)))


def draw_by_rank(num_items: int, count: int, seed: Any) -> Negatives:
    """Draws item i with the share ``log((i + 1) / i) / log(num_items + 1)``.

    That is about how often the i-th most frequent item occurs, by Zipf's law, in a
    vocabulary that is in the order of frequency, as those of `adaptiverec prepare` are but
    for items that came after its base vocabulary. In any other order the estimate of the
    softmax is still unbiased, but moves more: a frequent item of a high id is a negative
    seldom, with a weight so much the larger.

    Args:
        num_items: Size of the catalogue.
        count: How many.
        seed: Of the draw, int `[2]`.
    """
    log_all = math.log(num_items + 1)
    # A float32 has 2^23 values here, of which items behind the 500,000th would share one.
    uniform = tf.random.stateless_uniform([count], seed, dtype=tf.float64)
    item_ids = tf.minimum(tf.cast(tf.exp(uniform * log_all), tf.int32), num_items)
    share = tf.math.log1p(1.0 / tf.cast(item_ids, tf.float64)) / log_all
    return Negatives(item_ids, tf.cast(tf.math.log(share * count), tf.float32))


def sampled_softmax_loss(
    representations: Any, item_vectors: Any, targets: Any, negatives: Negatives
) -> Any:
    """Cross-entropy whose denominator is estimated from the negatives.

    ``-s[t] + log(e^{s[t]} + sum_j e^{s[j] - log(n q[j])})``, the sum over the n draws that
    are not t. Without the correction by ``log(n q)`` (Bengio & Senécal 2008), items that
    are drawn often would be pushed down for it. The target is in the denominator for
    certain, so it is not corrected; thus the estimate is that of the whole softmax.

    Args:
        representations: f(s), float tensor of shape `[batch, hidden_dim]`.
        item_vectors: E, float tensor of shape `[num_items, hidden_dim]`; row i is that
            of dense item id i + 1.
        targets: Dense item ids, int tensor of shape `[batch]`.
        negatives: The draws.

    Returns:
        Float tensor of shape `[batch]`.
    """
    positive, negative = _scores(representations, item_vectors, targets, negatives)
    logits = tf.concat([positive[:, None], negative - negatives.log_expected], axis=1)
    return tf.reduce_logsumexp(logits, axis=1) - positive


def generalised_bce_loss(
    representations: Any,
    item_vectors: Any,
    targets: Any,
    negatives: Negatives,
    *,
    calibration: float = 0.75,
) -> Any:
    """gBCE: binary cross-entropy that sampling does not make overconfident.

    ``-b log sigmoid(z[t]) - sum_j log(1 - sigmoid(z[j]))`` with
    ``b = a (calibration (1 - 1 / a) + 1 / a)`` and a the share of the catalogue that is
    drawn (Petrov & Macdonald 2023, gSASRec). The negatives are to be drawn evenly.

    ``z = s - log N`` for N items: scores of 0, as before training, stand for about one
    chance in N (Lin et al. 2017, section 3.3). At even odds, all that would be learned
    for many epochs is to push every score down. The ranking is that of s.

    Args:
        representations: As of :func:`sampled_softmax_loss`, as the next three.
        item_vectors: E.
        targets: Dense item ids.
        negatives: The draws.
        calibration: From 0, plain binary cross-entropy, to 1, fully calibrated.

    Returns:
        Float tensor of shape `[batch]`.
    """
    positive, negative = _scores(representations, item_vectors, targets, negatives)
    num_items = tf.cast(tf.shape(item_vectors)[0], tf.float32)
    count = tf.cast(tf.size(negatives.item_ids), tf.float32)
    # More draws than items leave nothing to calibrate.
    share = tf.minimum(count / tf.maximum(num_items - 1.0, 1.0), 1.0)
    power = share * (calibration * (1.0 - 1.0 / share) + 1.0 / share)
    log_odds = -tf.math.log(num_items)
    of_target = tf.math.log_sigmoid(positive + log_odds)
    of_negatives = tf.reduce_sum(tf.math.log_sigmoid(-(negative + log_odds)), axis=1)
    return -(power * of_target + of_negatives)


def _scores(
    representations: Any, item_vectors: Any, targets: Any, negatives: Negatives
) -> tuple[Any, Any]:
    """Of the targets, `[batch]`, and of the negatives, `[batch, count]`."""
    targets = tf.cast(targets, tf.int32)
    rows = tf.concat([targets, negatives.item_ids], axis=0) - 1
    vectors = look_up(item_vectors, rows)
    count = tf.shape(targets)[0]
    of_targets, of_negatives = vectors[:count], vectors[count:]
    positive = tf.reduce_sum(representations * of_targets, axis=1)
    negative = tf.matmul(representations, of_negatives, transpose_b=True)
    negative = tf.cast(negative, tf.float32)
    hit = targets[:, None] == negatives.item_ids[None, :]
    # Far below any score: no share in a softmax, and a log sigmoid of 0.
    return tf.cast(positive, tf.float32), tf.where(hit, -1e9, negative)
