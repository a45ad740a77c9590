"""``L_total``: what one training step minimises."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from adaptiverec.model.augmentation import two_augmentations
from adaptiverec.model.contrastive_objective import ContrastiveObjective
from adaptiverec.model.model_inputs import (
    item_ids_of,
    same_target_item_ids_of,
    target_at_each_position,
)
from adaptiverec.model.next_item_objective import (
    NextItemObjective,
    positions_with_target,
)
from adaptiverec.model.replicas import gather_rows
from adaptiverec.model.sequence_encoder import SequenceEncoder
from adaptiverec.model.views import make_views

__all__ = ["Losses", "TotalLoss"]


class Losses(NamedTuple):
    """Of a batch, float scalars.

    Attributes:
        total: ``L_total``.
        next_item: ``L_basic``.
    """

    total: Any
    next_item: Any


class TotalLoss:
    """``L_total = L_basic + contrastive_weight * L_cl`` (poster, "Proposed Method").

    Args:
        encoder: ``f``.
        next_item: ``L_basic``.
        contrast: ``L_cl``, or None for none.
        views: What is contrasted, see :func:`~.views.make_views`; None for nothing.
        contrastive_weight: Of ``L_cl``.
        seed_generator: Of the augmentations.
    """

    def __init__(
        self,
        *,
        encoder: SequenceEncoder,
        next_item: NextItemObjective,
        contrast: ContrastiveObjective | None,
        views: str | None,
        contrastive_weight: float,
        seed_generator: keras.random.SeedGenerator,
    ) -> None:
        self._encoder = encoder
        self._next_item = next_item
        self._contrast = contrast
        self._views = views
        self._contrastive_weight = contrastive_weight
        self._seed_generator = seed_generator

    def __call__(
        self,
        inputs: Any,
        targets: Any,
        sample_weight: Any = None,
        *,
        fixed_shapes: bool = False,
    ) -> Losses:
        """Computes the losses of a batch, as of `AdaptiveRec.fit`.

        Args:
            inputs: Int tensor of shape `[batch, length]`, or a dictionary with it.
            targets: Int tensor of shape `[batch]` or `[batch, length]`.
            sample_weight: Float tensor of shape `[batch]`, or None.
            fixed_shapes: Whether to take the batch padding and all, so that no shape
                depends on what is in it.
        """
        item_ids = item_ids_of(inputs)
        all_positions = target_at_each_position(targets, item_ids)

        first_pass = []
        if all_positions:
            last, states, batch = self._encoder.encode_all_positions(
                item_ids, by_length=not fixed_shapes, training=True
            )
            first_pass = [last]

        def encode(*batches: Any) -> list[Any]:
            rest = batches[len(first_pass) :]
            return [*first_pass, *self._encode(rest, fixed_shapes)]

        rows, pairs = make_views(
            self._views,
            encode,
            item_ids,
            same_target_item_ids=same_target_item_ids_of(inputs),
            augment=lambda ids: two_augmentations(
                ids, self._encoder.num_items + 1, seed=self._seed_generator
            ),
        )
        history, counted = item_ids, None
        if all_positions:
            rows, targets, history, sample_weight, counted = positions_with_target(
                states, batch, targets, sample_weight, fixed_shapes=fixed_shapes
            )
        basic = self._next_item(
            rows,
            self._encoder.item_vectors,
            targets,
            sample_weight,
            history=history,
            counted=counted,
        )
        total = basic
        if self._contrast is not None:
            # All replicas' rows: the contrast is between the whole batch.
            gathered = [(gather_rows(z1), gather_rows(z2)) for z1, z2 in pairs]
            total += self._contrastive_weight * self._contrast(gathered)
        return Losses(total, basic)

    def _encode(self, batches: tuple[Any, ...], fixed_shapes: bool) -> list[Any]:
        """Encodes several batches, each row with a dropout mask of its own."""
        if not batches:
            return []
        encode = self._encoder if fixed_shapes else self._encoder.encode_by_length
        if not fixed_shapes and not tf.config.list_logical_devices("GPU"):
            # None needs another, so that cores have one each; see `model.threads`.
            return [encode(batch, training=True) for batch in batches]
        # A GPU divides each operation among all it has, and likes them few and large.
        together = encode(ops.concatenate(batches, axis=0), training=True)
        return ops.split(together, len(batches), axis=0)
