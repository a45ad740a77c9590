"""The contrastive objective ``L_cl`` of a batch in two views."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from adaptiverec.common.checks import (
    check_above,
    check_at_least,
    check_choice,
    check_rate,
)
from adaptiverec.model.adaptive_contrastive_loss import (
    ASSIGNMENTS,
    DENOMINATORS,
    PAIR_WEIGHTS,
    adaptive_contrastive_loss,
)
from adaptiverec.model.adaptive_threshold import AdaptiveThreshold
from adaptiverec.model.info_nce_loss import info_nce_loss
from adaptiverec.model.similarity import (
    SIMILARITIES,
    pairwise_similarity,
    twin_similarity_of_views,
)
from adaptiverec.model.similarity_histogram import (
    SimilarityHistogram,
    similarity_histogram,
)
from adaptiverec.model.threshold_regularizer import (
    THRESHOLD_TARGETS,
    ThresholdRegularizer,
)

__all__ = ["OBJECTIVES", "ContrastiveObjective"]

OBJECTIVES = ("adaptive", "info_nce", "none")


@keras.saving.register_keras_serializable("adaptiverec")
class ContrastiveObjective(keras.layers.Layer):
    """``L_cl = L_learn + threshold_weight * L_reg``, or InfoNCE (poster, "Proposed Method").

    It also observes, as Keras metrics, what it does to the batch: thresholds, how many
    pairs they turn positive, alignment and uniformity.

    It computes in float32, whatever the precision of the views: thresholds near each other
    would be one in half precision, and averages over an epoch would stop growing.

    Args:
        objective: `"adaptive"` or `"info_nce"`.
        similarity: `"cosine"` or `"dot"`; by default cosine for the adaptive objective,
            and dot for InfoNCE, as in DuoRec. Thresholds have the range of the cosine,
            and are compared with it in either case.
        temperature: Divides similarities.
        threshold_weight: Of ``L_reg``.
        threshold_target: See :class:`~.threshold_regularizer.ThresholdRegularizer`.
        threshold_quantile: Likewise.
        threshold_start: See :class:`~.adaptive_threshold.AdaptiveThreshold`.
        pair_weights: See :func:`~.adaptive_contrastive_loss.adaptive_contrastive_loss`.
        denominator: Likewise.
        assignment: Likewise.
        assignment_temperature: Likewise.

    Raises:
        InvalidValueError: An argument is outside its rule.
    """

    def __init__(
        self,
        *,
        objective: str = "adaptive",
        similarity: str | None = None,
        temperature: float = 1.0,
        threshold_weight: float = 0.1,
        threshold_target: str = "quantile",
        threshold_quantile: float = 0.9,
        threshold_start: float = 0.0,
        pair_weights: str = "outside",
        denominator: str = "negatives",
        assignment: str = "hard",
        assignment_temperature: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        if similarity is None:
            similarity = "dot" if objective == "info_nce" else "cosine"
        check_choice("similarity", similarity, SIMILARITIES)
        check_choice("threshold_target", threshold_target, THRESHOLD_TARGETS)
        check_choice("pair_weights", pair_weights, PAIR_WEIGHTS)
        check_choice("denominator", denominator, DENOMINATORS)
        check_choice("assignment", assignment, ASSIGNMENTS)
        check_above("temperature", temperature, 0)
        check_above("assignment_temperature", assignment_temperature, 0)
        check_at_least("threshold_weight", threshold_weight, 0)
        check_rate("threshold_quantile", threshold_quantile)
        self.adaptive = objective == "adaptive"
        self.similarity = similarity
        self.temperature = temperature
        self.threshold_weight = threshold_weight
        self.pair_weights = pair_weights
        self.denominator = denominator
        self.assignment = assignment
        self.assignment_temperature = assignment_temperature
        observed = ["contrastive_loss", "alignment", "uniformity"]
        if self.adaptive:
            self.threshold = AdaptiveThreshold(
                start=threshold_start, dtype=self.dtype_policy, name="threshold"
            )
            self.regularizer = ThresholdRegularizer(
                target=threshold_target,
                quantile=threshold_quantile,
                dtype=self.dtype_policy,
                name="regularizer",
            )
            observed += [
                "threshold_loss",
                "threshold_mean",
                "threshold_spread",
                "num_positives",
                "positive_share",
                "similarity_target",
            ]
        self.observations = {name: keras.metrics.Mean(name=name) for name in observed}

    def build(self, input_shape: Any) -> None:
        """Creates the weights for pairs of views of shape `[batch, hidden_dim]`."""
        [(of_view, _), *_] = input_shape
        if self.adaptive:
            self.threshold.build(of_view)
            self.regularizer.build()

    def start_epoch(self) -> None:
        """Tells that an epoch begins, from which on thresholds have a new target."""
        if self.adaptive:
            self.regularizer.start_epoch()

    def call(self, pairs: list[tuple[Any, Any]]) -> Any:
        """The loss of a batch, the sum of those of its pairs of views.

        Args:
            pairs: Two views of each sequence, float tensors of shape
                `[batch, hidden_dim]`.

        Returns:
            Float scalar.
        """
        of_pairs = [self._terms(z1, z2) for z1, z2 in pairs]
        terms = {name: sum(of[name] for of in of_pairs) for name in of_pairs[0]}
        # As they are: a training that diverges is to be told by its terms.
        for name, value in terms.items():
            self.observations[name].update_state(value)
        regular = terms.get("threshold_loss", 0.0)
        return terms["contrastive_loss"] + self.threshold_weight * regular

    def _terms(self, z1: Any, z2: Any) -> dict[str, Any]:
        """What the loss of a pair is made of, by the names of the metrics."""
        z = ops.concatenate([z1, z2], axis=0)
        cosines = pairwise_similarity(z, "cosine")
        twins = twin_similarity_of_views(z, "cosine")
        histogram = similarity_histogram(cosines)
        self._observe_geometry(histogram, twins)
        similarities = cosines
        if self.similarity != "cosine":
            similarities = pairwise_similarity(z, self.similarity)
            twins = twin_similarity_of_views(z, self.similarity)
        if not self.adaptive:
            rows = info_nce_loss(similarities, twins, temperature=self.temperature)
            return {"contrastive_loss": ops.mean(rows)}
        # One threshold a sequence: its twin's row has the same.
        thresholds = self.threshold(z1)
        rows = adaptive_contrastive_loss(
            similarities,
            ops.concatenate([thresholds, thresholds], axis=0),
            twins,
            cosines=cosines,
            temperature=self.temperature,
            pair_weights=self.pair_weights,
            denominator=self.denominator,
            assignment=self.assignment,
            assignment_temperature=self.assignment_temperature,
        )
        num_positives = ops.mean(rows.num_positives)
        num_negatives = ops.cast(ops.shape(similarities)[0] - 2, "float32")
        self._observe(
            threshold_mean=ops.mean(thresholds),
            threshold_spread=ops.std(thresholds),
            num_positives=num_positives,
            positive_share=num_positives / ops.maximum(num_negatives, 1.0),
            similarity_target=self.regularizer.observe(histogram),
        )
        return {
            "contrastive_loss": ops.mean(rows.loss),
            "threshold_loss": self.regularizer(thresholds),
        }

    def _observe_geometry(self, cosines: SimilarityHistogram, twins: Any) -> None:
        """Alignment and uniformity of the batch (Wang & Isola 2020), on the unit sphere."""
        # |x - y|^2 = 2 - 2 cos(x, y)
        potentials = ops.exp(4.0 * cosines.centres - 4.0)
        self._observe(
            alignment=ops.mean(2.0 - 2.0 * twins),
            uniformity=ops.log(cosines.mean(potentials)),
        )

    def _observe(self, **values: Any) -> None:
        for name, value in values.items():
            # A batch of one sequence has no pairs, and so no statistic of them.
            defined = ops.isfinite(value)
            self.observations[name].update_state(
                ops.where(defined, value, 0.0),
                sample_weight=ops.cast(defined, "float32"),
            )
