"""``L_basic`` of a batch: of the last positions or of all, exact or over drawn items."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from adaptiverec.common.checks import (
    check_at_least,
    check_at_most,
    check_choice,
    check_rate,
)
from adaptiverec.common.errors import InvalidValueError
from adaptiverec.model.look_up import look_up
from adaptiverec.model.next_item_loss import next_item_loss
from adaptiverec.model.packed_batch import PackedBatch
from adaptiverec.model.replicas import mean_over_batch
from adaptiverec.model.sampled_loss import (
    draw_by_rank,
    draw_evenly,
    generalised_bce_loss,
    sampled_softmax_loss,
)

__all__ = [
    "NEXT_ITEM_CANDIDATES",
    "NEXT_ITEM_LOSSES",
    "NextItemObjective",
    "PositionsWithTarget",
    "positions_with_target",
]

NEXT_ITEM_LOSSES = ("softmax", "sampled_softmax", "gbce")
NEXT_ITEM_CANDIDATES = ("all", "unseen")


@keras.saving.register_keras_serializable("adaptiverec")
class NextItemObjective(keras.layers.Layer):
    """The mean loss of the next item.

    Args:
        kind: `"softmax"`: cross-entropy over the whole catalogue; or, for catalogues too
            large for that, `"sampled_softmax"` with logQ correction or `"gbce"`, see
            :mod:`adaptiverec.model.sampled_loss`.
        num_negatives: Items drawn for each batch, for the last two.
        gbce_calibration: Of gBCE, from 0 to 1.
        candidates: `"all"` items, or those that are `"unseen"`, not in the history that
            the model is given, and the target: for recommenders that leave out what the
            user has had. Negatives are drawn so in BPR (Rendle et al. 2009) and in SASRec
            (Kang & McAuley 2018, section III.E). With the softmax alone.
        label_smoothing: Share of the label that all items have alike, from 0 to below 1
            (Szegedy et al. 2016, section 7). With the softmax over all items alone.

    Raises:
        InvalidValueError: An argument is outside its rule.
    """

    def __init__(
        self,
        *,
        kind: str = "softmax",
        num_negatives: int = 2048,
        gbce_calibration: float = 0.75,
        candidates: str = "all",
        label_smoothing: float = 0.0,
        **kwargs: Any,
    ) -> None:
        # States come in the precision to compute in; weights are not to be rounded to it.
        super().__init__(autocast=False, **kwargs)
        check_choice("next_item", kind, NEXT_ITEM_LOSSES)
        check_at_least("num_negatives", num_negatives, 1)
        check_at_least("gbce_calibration", gbce_calibration, 0)
        check_at_most("gbce_calibration", gbce_calibration, 1)
        check_choice("next_item_candidates", candidates, NEXT_ITEM_CANDIDATES)
        if candidates == "unseen" and kind != "softmax":
            raise InvalidValueError(
                "next_item_candidates='unseen' needs next_item='softmax'. Received: "
                f"next_item={kind!r}"
            )
        check_rate("label_smoothing", label_smoothing)
        if label_smoothing and (kind, candidates) != ("softmax", "all"):
            raise InvalidValueError(
                "label_smoothing needs next_item='softmax' and next_item_candidates="
                f"'all'. Received: label_smoothing={label_smoothing}, "
                f"next_item={kind!r}, next_item_candidates={candidates!r}"
            )
        self.kind = kind
        self.candidates = candidates
        self.label_smoothing = label_smoothing
        self.num_negatives = num_negatives
        self.gbce_calibration = gbce_calibration
        if kind != "softmax":
            self.seed_generator = keras.random.SeedGenerator()
        self.built = True

    def call(
        self,
        states: Any,
        item_vectors: Any,
        targets: Any,
        sample_weight: Any = None,
        *,
        history: Any = None,
        counted: Any = None,
    ) -> Any:
        """The loss.

        Args:
            states: Float tensor of shape `[rows, hidden_dim]`.
            item_vectors: E, float tensor of shape `[num_items, hidden_dim]`; row i is
                that of dense item id i + 1.
            targets: Dense item ids, int tensor of shape `[rows]`.
            sample_weight: Float tensor of shape `[rows]`, or None.
            history: Of each row, dense item ids, int tensor of shape `[rows, any]`, 0 for
                none; where candidates are the unseen items.
            counted: Which rows there are, bool tensor of shape `[rows]`; None is all.

        Returns:
            Float scalar; under a strategy, this replica's share of the mean, see
            :func:`~adaptiverec.model.replicas.mean_over_batch`.
        """
        vectors = ops.cast(item_vectors, states.dtype)
        losses = self._rows(states, vectors, targets, history)
        if sample_weight is not None:
            losses = losses * ops.cast(sample_weight, losses.dtype)
        return mean_over_batch(losses, counted)

    def _rows(self, states: Any, vectors: Any, targets: Any, history: Any) -> Any:
        if self.kind == "softmax":
            if self.candidates == "all":
                history = None
            return next_item_loss(
                states,
                vectors,
                targets,
                history,
                label_smoothing=self.label_smoothing,
            )
        seed = tf.cast(self.seed_generator.next(), tf.int32)
        draw = draw_by_rank if self.kind == "sampled_softmax" else draw_evenly
        negatives = draw(vectors.shape[0], self.num_negatives, seed)
        if self.kind == "sampled_softmax":
            return sampled_softmax_loss(states, vectors, targets, negatives)
        return generalised_bce_loss(
            states, vectors, targets, negatives, calibration=self.gbce_calibration
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "kind": self.kind,
            "num_negatives": self.num_negatives,
            "gbce_calibration": self.gbce_calibration,
            "candidates": self.candidates,
            "label_smoothing": self.label_smoothing,
        }


class PositionsWithTarget(NamedTuple):
    """The rows that all positions of a batch make.

    Attributes:
        states: Float tensor of shape `[rows, hidden_dim]`.
        targets: Dense item ids, int tensor of shape `[rows]`.
        histories: The items up to each of them, int tensor of shape `[rows, longest]`.
        sample_weight: Float tensor of shape `[rows]`, or None.
        counted: Which of them have a target, bool tensor of shape `[rows]`; None is all.
    """

    states: Any
    targets: Any
    histories: Any
    sample_weight: Any
    counted: Any


def positions_with_target(
    states: Any,
    batch: PackedBatch,
    targets: Any,
    sample_weight: Any,
    *,
    fixed_shapes: bool = False,
) -> PositionsWithTarget:
    """The positions of a packed batch that have a target, one after the other.

    Args:
        states: Float tensor of shape `[tokens, hidden_dim]`.
        batch: Where the tokens belong.
        targets: Int tensor of shape `[batch, length]`, 0 where there is none.
        sample_weight: Of the sequences, float tensor of shape `[batch]`, or None.
        fixed_shapes: Whether to keep the positions without a target, not counted, so that
            no shape depends on their number.
    """
    if sample_weight is not None:
        weights = ops.cast(sample_weight, "float32")[:, None]
        sample_weight = batch.tokens_of(ops.broadcast_to(weights, ops.shape(targets)))
    targets = batch.tokens_of(targets)
    if fixed_shapes:
        # Any item will do for a target that is not there.
        known = targets != 0
        return PositionsWithTarget(
            states, ops.maximum(targets, 1), batch.histories, sample_weight, known
        )
    known = tf.where(targets != 0)[:, 0]
    if sample_weight is not None:
        sample_weight = tf.gather(sample_weight, known)
    states, targets = look_up(states, known), tf.gather(targets, known)
    histories = tf.gather(batch.histories, known)
    return PositionsWithTarget(states, targets, histories, sample_weight, None)
