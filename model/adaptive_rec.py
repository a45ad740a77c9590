"""AdaptiveRec: a sequential recommender with the adaptive contrastive objective."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from adaptiverec.common.checks import check_at_least, check_choice
from adaptiverec.common.errors import InvalidValueError
from adaptiverec.model.contrastive_objective import OBJECTIVES, ContrastiveObjective
from adaptiverec.model.model_inputs import (
    check_has_targets,
    check_item_ids,
    check_one_target_each,
    check_targets,
    item_ids_of,
    same_target_item_ids_of,
    seen_item_ids_of,
    target_at_each_position,
)
from adaptiverec.model.next_item_objective import NextItemObjective
from adaptiverec.model.ranking import (
    MEASURES,
    RankingMeasure,
    mask_items,
    target_ranks,
)
from adaptiverec.model.replicas import gather_rows, num_replicas
from adaptiverec.model.sequence_encoder import SequenceEncoder
from adaptiverec.model.total_loss import TotalLoss
from adaptiverec.model.views import VIEWS

__all__ = ["AdaptiveRec"]


@keras.saving.register_keras_serializable("adaptiverec")
class AdaptiveRec(keras.Model):
    """Predicts the next item of a sequence; trained with a contrastive term.

    ``L_total = L_basic + contrastive_weight * L_cl`` (poster, "Proposed Method"):
    ``L_basic`` is the cross-entropy of the next item over the whole catalogue, and
    ``L_cl = L_learn + threshold_weight * L_reg`` the adaptive contrastive loss with its
    regulariser. `objective="info_nce"` gives DuoRec (or, with `views="augment"`,
    CL4SRec), `objective="none"` SASRec.

    Dense item ids are 1 … `num_items`. Sequences are int rows, oldest item first and
    padded **at the end** with 0; rows padded in front are refused.

    * Input of `fit`: `({"item_ids": [batch, length], "same_target_item_ids": [batch,
      length]}, target [batch])`. The second entry, another sequence with the same
      target item, is needed by the views `us_x`, `us` and `su` alone. With targets of
      shape `[batch, length]`, the item after each position (0 where there is none),
      ``L_basic`` is the mean over all positions instead of over the last ones; the
      contrast is that of the last positions all the same.
    * Input of `evaluate`: `({"item_ids": …, "seen_item_ids": [batch, any]}, target)`.
      The second entry is needed with `exclude_seen=True` alone.
    * Input of `predict` and of a call: `[batch, length]` or the dictionary; the output
      is the score of every item, float `[batch, num_items + 1]`, whose column is the
      dense id (column 0, padding, is minus infinity).

    Loss and metrics are the model's own, so `compile` takes an optimizer and neither. A
    `sample_weight` counts in ``L_basic`` alone. Under a `tf.distribute` strategy the
    contrastive batch is global, see :mod:`~adaptiverec.model.replicas`; and where `fit`
    cannot run, as over several workers, there is
    :func:`~adaptiverec.model.distributed_fit.distributed_fit`.

    Args:
        num_items: Size of the catalogue.
        max_length: Longest sequence, in items.
        hidden_dim: H, size of the embeddings.
        num_blocks: Transformer blocks.
        num_heads: Attention heads; divides `hidden_dim`.
        inner_dim: Units of the feed-forward networks.
        dropout: Rate, for embeddings, attention and sublayers alike.
        positions_from: Whether the place of an item, which is embedded, too, is counted
            from the `"start"` of the sequence or from its `"end"`.
        low_pass_share: Share of a low-pass filter beside attention in each block, from 0
            to below 1 (Shin et al. 2024, see :class:`~.low_pass.LowPass`).
        low_pass_frequencies: How many of the lowest frequencies it keeps.
        next_item: ``L_basic``: `"softmax"` over the whole catalogue; for catalogues too
            large for that, `"sampled_softmax"` with logQ correction (which wants dense ids
            in the order of frequency) or `"gbce"`, see
            :mod:`adaptiverec.model.sampled_loss`.
        next_item_candidates: `"all"` items, or the `"unseen"`, see
            :class:`~.next_item_objective.NextItemObjective`.
        label_smoothing: Of the softmax over all items: share of the label that all items
            have alike.
        num_negatives: Items drawn for each batch, for the sampled losses.
        gbce_calibration: Of gBCE.
        objective: `"adaptive"`, `"info_nce"` or `"none"`.
        views: What is contrasted, see :func:`adaptiverec.model.views.make_views`.
        similarity: `"cosine"` or `"dot"`; by default cosine for the adaptive objective,
            whose thresholds have its range, and dot for InfoNCE, as in DuoRec.
        temperature: Divides similarities.
        contrastive_weight: Of ``L_cl`` in ``L_total``.
        threshold_weight: Of ``L_reg`` in ``L_cl``.
        threshold_target: What the thresholds are held to: the previous epoch's
            `"quantile"`, `"median"` or `"mean"` of in-batch similarities.
        threshold_quantile: Which quantile.
        threshold_start: What the thresholds are before they are trained.
        pair_weights: See :func:`~.adaptive_contrastive_loss`, as the next three.
        denominator: `"negatives"` or `"all"`.
        assignment: `"hard"` or `"soft"`.
        assignment_temperature: Of the soft assignment.
        exclude_seen: Whether `evaluate` (and validation in `fit`) takes the items of the
            history out of the ranking. Published results of this family keep them.
        ks: Lengths of recommendation lists to measure.

    Raises:
        InvalidValueError: An argument is outside its rule.
    """

    def __init__(
        self,
        num_items: int,
        *,
        max_length: int = 50,
        hidden_dim: int = 64,
        num_blocks: int = 2,
        num_heads: int = 2,
        inner_dim: int = 256,
        dropout: float = 0.5,
        positions_from: str = "start",
        low_pass_share: float = 0.0,
        low_pass_frequencies: int = 3,
        next_item: str = "softmax",
        next_item_candidates: str = "all",
        label_smoothing: float = 0.0,
        num_negatives: int = 2048,
        gbce_calibration: float = 0.75,
        objective: str = "adaptive",
        views: str = "us_x",
        similarity: str | None = None,
        temperature: float = 1.0,
        contrastive_weight: float = 0.1,
        threshold_weight: float = 0.1,
        threshold_target: str = "quantile",
        threshold_quantile: float = 0.9,
        threshold_start: float = 0.0,
        pair_weights: str = "outside",
        denominator: str = "negatives",
        assignment: str = "hard",
        assignment_temperature: float = 0.1,
        exclude_seen: bool = False,
        ks: tuple[int, ...] = (5, 10),
        **kwargs: Any,
    ) -> None:
        arguments = {
            name: value
            for name, value in locals().items()
            if name not in ("self", "kwargs", "__class__")
        }
        # Layers compute in the policy's precision; scores do not, and need whole weights.
        super().__init__(**{"autocast": False, **kwargs})
        self._arguments = arguments
        check_choice("objective", objective, OBJECTIVES)
        check_choice("views", views, VIEWS)
        check_at_least("contrastive_weight", contrastive_weight, 0)
        for k in ks:
            check_at_least("ks", k, 1)
        # Unless `compile` is told to: sequences are grouped by length on the way, which is
        # sooner, and which XLA's fixed shapes do not allow.
        self.supports_jit = False
        self._is_evaluating = False
        self.num_items = num_items
        self.max_length = max_length
        self.objective = objective
        self.views = views if objective != "none" else None
        self.exclude_seen = exclude_seen

        self.encoder = SequenceEncoder(
            num_items=num_items,
            max_length=max_length,
            hidden_dim=hidden_dim,
            num_blocks=num_blocks,
            num_heads=num_heads,
            inner_dim=inner_dim,
            dropout=dropout,
            positions_from=positions_from,
            low_pass_share=low_pass_share,
            low_pass_frequencies=low_pass_frequencies,
            dtype=self.dtype_policy,
            name="encoder",
        )
        self.next_item = NextItemObjective(
            kind=next_item,
            candidates=next_item_candidates,
            label_smoothing=label_smoothing,
            num_negatives=num_negatives,
            gbce_calibration=gbce_calibration,
            dtype=self.dtype_policy,
            name="next_item",
        )
        # Made in any case, so that its arguments are checked.
        contrast = ContrastiveObjective(
            objective=objective,
            similarity=similarity,
            temperature=temperature,
            threshold_weight=threshold_weight,
            threshold_target=threshold_target,
            threshold_quantile=threshold_quantile,
            threshold_start=threshold_start,
            pair_weights=pair_weights,
            denominator=denominator,
            assignment=assignment,
            assignment_temperature=assignment_temperature,
            name="contrast",
        )
        self.contrast = contrast if objective != "none" else None
        self.seed_generator = keras.random.SeedGenerator()
        self.total_loss = TotalLoss(
            encoder=self.encoder,
            next_item=self.next_item,
            contrast=self.contrast,
            views=self.views,
            contrastive_weight=contrastive_weight,
            seed_generator=self.seed_generator,
        )
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.next_item_loss_tracker = keras.metrics.Mean(name="next_item_loss")
        self.ranking_measures = [
            RankingMeasure(measure, k) for measure in MEASURES for k in ks
        ]
        self.build()

    def build(self, input_shape: Any = None) -> None:
        """Creates all weights; their shapes do not depend on the input."""
        self.encoder.build()
        if self.contrast is not None:
            of_view = (None, self.encoder.hidden_dim)
            self.contrast.build([(of_view, of_view)])
        self.built = True

    def compile(self, optimizer: Any = "adam", **kwargs: Any) -> None:
        """Configures training; as in Keras, but the loss is the model's own.

        With `jit_compile=True` batches are taken as they are, padding and all, since XLA's
        shapes are fixed; so it pays where sequences are about as long as `max_length`, if
        at all. The default, "auto", is without XLA.

        Args:
            optimizer: A Keras optimizer or its name.
            **kwargs: Of `keras.Model.compile`.

        Raises:
            InvalidValueError: With a loss or metrics.
        """
        for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            if kwargs.get(name) is not None:
                raise InvalidValueError(
                    "AdaptiveRec computes its own loss, chosen by `objective` and "
                    "`views`, and its own metrics, chosen by `ks`; compile() takes none. "
                    f"Received: {name}={kwargs[name]!r}"
                )
        # What Keras asks when it chooses for "auto", and before it heeds True.
        self.supports_jit = kwargs.get("jit_compile") is True
        super().compile(optimizer=optimizer, **kwargs)
        # Variables made while the first step is traced would have it traced twice.
        self.optimizer.build(self.trainable_variables)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model as the saved one was."""
        self.compile(**keras.saving.deserialize_keras_object(config))

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """All metrics, reset by Keras at the start of every epoch and evaluation."""
        own = [*self._training_metrics(), *self.ranking_measures]
        # Keras has a tracker of the loss as well, of the same name; nothing updates it.
        others = (m for m in super().metrics if m is not self._loss_tracker)
        return own + [metric for metric in others if metric not in own]

    def _training_metrics(self) -> list[keras.metrics.Metric]:
        observations = self.contrast.observations if self.contrast else {}
        return [
            self.loss_tracker,
            self.next_item_loss_tracker,
            *observations.values(),
        ]

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As in Keras."""
        with self.evaluating():
            return super().evaluate(*args, **kwargs)

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """While it lasts, starting the metrics anew begins no epoch of training."""
        self._is_evaluating = True
        try:
            yield
        finally:
            self._is_evaluating = False

    def reset_metrics(self) -> None:
        """Starts the metrics anew, and with them the epoch of the thresholds' target."""
        super().reset_metrics()
        # Not where an evaluation does so, be it in the middle of an epoch.
        if self.contrast is not None and not self._is_evaluating:
            self.contrast.start_epoch()

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Scores the whole catalogue as the next item of each sequence.

        Args:
            inputs: Int tensor of shape `[batch, length]`, or a dictionary with it as
                `"item_ids"`.
            training: Whether to drop out.

        Returns:
            Float tensor of shape `[batch, num_items + 1]`; the column is the dense id,
            column 0 is minus infinity.
        """
        item_ids = self._checked(item_ids_of(inputs))
        representations = self.encoder(item_ids, training=training)
        return _with_padding_column(self._item_scores(representations))

    def score_by_length(self, inputs: Any) -> Any:
        """The scores of a call, sooner: without the work that padding costs.

        Args:
            inputs: As of a call; the number of columns must be known.

        Returns:
            As of a call.
        """
        item_ids = self._checked(item_ids_of(inputs))
        # XLA's shapes cannot depend on how long the sequences of a batch are.
        encode = self.encoder if self.jit_compile else self.encoder.encode_by_length
        representations = encode(item_ids)
        return _with_padding_column(self._item_scores(representations))

    def recommend(self, inputs: Any, k: int = 10, *, exclude_seen: bool = True) -> Any:
        """The k best next items of each sequence.

        Args:
            inputs: As of a call; with `exclude_seen` the items of `"seen_item_ids"`, or
                of the sequence itself where there are none, are left out.
            k: How many, at least 1; at most the size of the catalogue are given.
            exclude_seen: Whether to leave out what the user has had.

        Returns:
            Dense item ids, int `[batch, k]`, best first, and their scores, float of the
            same shape. Where fewer than k items remain, the scores of the rest are
            minus infinity.

        Raises:
            InvalidValueError: k is below 1.
        """
        check_at_least("k", k, 1)
        scores = self(inputs, training=False)
        if exclude_seen:
            seen = item_ids_of(inputs)
            if isinstance(inputs, dict) and inputs.get("seen_item_ids") is not None:
                seen = seen_item_ids_of(inputs, num_items=self.num_items)
            scores = mask_items(scores, seen)
        values, item_ids = ops.top_k(scores, min(k, self.num_items))
        return item_ids, values

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step of optimisation on ``L_total``."""
        inputs, targets, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        item_ids = self._checked(item_ids_of(inputs))
        same_target = same_target_item_ids_of(inputs)
        if same_target is not None:
            self._checked(same_target, "same_target_item_ids")
        check_has_targets(targets)
        check_targets(
            targets,
            num_items=self.num_items,
            each_position=target_at_each_position(targets, item_ids),
        )
        with tf.GradientTape() as tape:
            loss, next_item_loss = self.total_loss(
                inputs, targets, sample_weight, fixed_shapes=self.jit_compile
            )
            # The optimizer adds up the gradients of all replicas.
            scaled_loss = self.optimizer.scale_loss(loss / num_replicas())
        gradients = tape.gradient(scaled_loss, self.trainable_weights)
        self.optimizer.apply_gradients(
            zip(gradients, self.trainable_weights, strict=True)
        )
        self.loss_tracker.update_state(loss)
        self.next_item_loss_tracker.update_state(next_item_loss)
        return {metric.name: metric.result() for metric in self._training_metrics()}

    def test_step(self, data: Any) -> dict[str, Any]:
        """Ranks the targets in the whole catalogue."""
        inputs, targets, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        check_has_targets(targets)
        check_one_target_each(targets)
        check_targets(targets, num_items=self.num_items, each_position=False)
        scores = self.score_by_length(inputs)
        losses = _cross_entropy(scores, targets)
        if self.exclude_seen:
            seen = seen_item_ids_of(inputs, num_items=self.num_items)
            scores = mask_items(scores, seen)
        # Of all replicas, so that each comes to the figures of the whole.
        losses, ranks = gather_rows(losses), gather_rows(target_ranks(scores, targets))
        if sample_weight is not None:
            sample_weight = gather_rows(sample_weight)
        self.loss_tracker.update_state(losses, sample_weight=sample_weight)
        for measure in self.ranking_measures:
            measure.update_state(ranks, sample_weight=sample_weight)
        evaluated = [self.loss_tracker, *self.ranking_measures]
        return {metric.name: metric.result() for metric in evaluated}

    def _checked(self, item_ids: Any, name: str = "item_ids") -> Any:
        check_item_ids(
            item_ids, num_items=self.num_items, max_length=self.max_length, name=name
        )
        return item_ids

    def _item_scores(self, representations: Any) -> Any:
        """``f(s) E^T``, float `[batch, num_items]`; the column is the dense id - 1."""
        # In half precision many items would have the same score.
        vectors = ops.cast(self.encoder.item_vectors, "float32")
        return ops.matmul(ops.cast(representations, "float32"), ops.transpose(vectors))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), **self._arguments}


def _with_padding_column(item_scores: Any) -> Any:
    return ops.pad(item_scores, [[0, 0], [1, 0]], constant_values=-float("inf"))


def _cross_entropy(scores: Any, targets: Any) -> Any:
    """``L_basic`` of each row: cross-entropy over the whole catalogue.

    A third of the time of TensorFlow's own, which makes the gradient as well. The padding's
    column, minus infinity, adds nothing.
    """
    targets = ops.cast(targets, "int32")
    return ops.logsumexp(scores, axis=1) - tf.gather(scores, targets, batch_dims=1)
