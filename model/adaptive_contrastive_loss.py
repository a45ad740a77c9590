"""The adaptive contrastive loss, ``L_learn`` of the poster.

Each row i of the batch has a threshold k[i] of its own. The rows of ``N(i)`` at least
that similar to it are its adaptive positives ``M+(i)``, the others its negatives
``M-(i)``: alike sequences are no longer pushed apart only because they are not views of
the same one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from keras import ops

from adaptiverec.model.masked_logsumexp import masked_logsumexp
from adaptiverec.model.similarity import negative_pairs, twin_similarity

__all__ = [
    "ASSIGNMENTS",
    "DENOMINATORS",
    "PAIR_WEIGHTS",
    "AdaptiveLoss",
    "adaptive_contrastive_loss",
    "positive_assignment",
]

ASSIGNMENTS = ("hard", "soft")
DENOMINATORS = ("negatives", "all")
PAIR_WEIGHTS = ("outside", "inside")


class AdaptiveLoss(NamedTuple):
    """The loss of each row and what it was made of.

    Attributes:
        loss: Float tensor of shape `[2B]`.
        num_positives: ``|M+(i)|``, float tensor of shape `[2B]`; with a soft assignment
            the sum of the weights.
    """

    loss: Any
    num_positives: Any


def positive_assignment(
    similarities: Any,
    thresholds: Any,
    *,
    assignment: str = "hard",
    assignment_temperature: float = 0.1,
) -> Any:
    """How far each pair of ``N(i)`` belongs to ``M+(i)``.

    Args:
        similarities: Float tensor of shape `[2B, 2B]`.
        thresholds: k, float tensor of shape `[2B]`.
        assignment: `"hard"`: 1 where ``sim >= k``, else 0 (a tie is positive); no
            gradient reaches k. `"soft"`: ``sigmoid((sim - k) / T)``, through which the
            loss trains k.
        assignment_temperature: T of the soft assignment, above 0.

    Returns:
        Float tensor of shape `[2B, 2B]`, in [0, 1], 0 outside ``N(i)``.
    """
    negatives = negative_pairs(ops.shape(similarities)[0])
    if assignment == "hard":
        positive = ops.logical_and(similarities >= thresholds[:, None], negatives)
        return ops.cast(positive, similarities.dtype)
    margin = similarities - thresholds[:, None]
    return ops.where(negatives, ops.sigmoid(margin / assignment_temperature), 0.0)


def adaptive_contrastive_loss(
    similarities: Any,
    thresholds: Any,
    twins: Any = None,
    *,
    cosines: Any = None,
    temperature: float = 1.0,
    pair_weights: str = "outside",
    denominator: str = "negatives",
    assignment: str = "hard",
    assignment_temperature: float = 0.1,
) -> AdaptiveLoss:
    """The loss of each row, with ``p(i,j) = e^{sim(i,j)/t} / D(i)``.

    ``(1 - m) * -log p(i,i+)  +  m / |M+(i)| * sum_{j in M+(i)} -log p(i,j)``

    where m is one half, and 0 if ``M+(i)`` is empty: then the twin has the whole
    weight, so that a row counts the same whatever its threshold.

    Args:
        similarities: Float tensor of shape `[2B, 2B]`, rows `[z1; z2]`.
        thresholds: k, float tensor of shape `[2B]`.
        twins: ``sim(i,i+)``, float tensor of shape `[2B]`; by default read from
            `similarities`.
        cosines: What ``M+(i)`` is cut by, where `similarities` are not cosines, whose
            range thresholds have; of the same shape. By default `similarities`.
        temperature: t, above 0.
        pair_weights: `"outside"` the logarithm, as soft labels (the authors' code and
            the formula above); or `"inside"`, as the poster prints it, where each
            positive counts as much as the twin and the weights only add a number,
            constant but for a soft assignment, whose ``|M+(i)|`` moves with k.
        denominator: D(i) sums over ``M-(i) + {i+}`` with `"negatives"` (the poster), or
            over all of ``N(i) + {i+}`` with `"all"` (the authors' code).
        assignment: See :func:`positive_assignment`. A pair's soft weight w counts w as a
            positive and 1 - w in the denominator of the negatives.
        assignment_temperature: See :func:`positive_assignment`.

    Returns:
        An :class:`AdaptiveLoss`.
    """
    if cosines is None:
        cosines = similarities
    positive = positive_assignment(
        cosines,
        thresholds,
        assignment=assignment,
        assignment_temperature=assignment_temperature,
    )
    logits = similarities / temperature
    if twins is None:
        twins = twin_similarity(similarities)
    twin_logit = twins / temperature
    # The row itself is never in the denominator; the twin always is.
    in_denominator = ops.logical_not(ops.eye(ops.shape(logits)[0], dtype="bool"))
    weighted_logits = logits
    if denominator == "negatives" and assignment == "hard":
        in_denominator = ops.logical_and(in_denominator, positive == 0)
    elif denominator == "negatives":
        # Adds log(1 - w), which stays exact where w is all but 1.
        log_share = ops.log_sigmoid(
            (thresholds[:, None] - cosines) / assignment_temperature
        )
        negatives = negative_pairs(ops.shape(logits)[0])
        weighted_logits = logits + ops.where(negatives, log_share, 0.0)
    log_denominator = masked_logsumexp(weighted_logits, in_denominator)

    num_positives = ops.sum(positive, axis=-1)
    sum_of_logits = ops.sum(positive * logits, axis=-1)
    # The weight of all positives; the twin has the rest.
    mass = 0.5 * ops.minimum(num_positives, 1.0)
    if pair_weights == "outside":
        # The weights of a row sum to 1, so -log p leaves D(i) once and whole.
        mean_logit = ops.divide_no_nan(sum_of_logits, num_positives)
        loss = log_denominator - (1.0 - mass) * twin_logit - mass * mean_logit
    else:
        weight = 0.5 / ops.maximum(num_positives, 1.0)
        log_weights = ops.log(1.0 - mass) + num_positives * ops.log(weight)
        loss = (
            (1.0 + num_positives) * log_denominator
            - twin_logit
            - sum_of_logits
            - log_weights
        )
    return AdaptiveLoss(loss, num_positives)
