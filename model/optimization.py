"""The optimizer of a training: Adam or AdamW, and how its learning rate moves."""

from __future__ import annotations

from typing import Any

import keras

from adaptiverec.common.checks import check_above, check_at_least, check_choice
from adaptiverec.common.errors import InvalidValueError

__all__ = ["SCHEDULES", "AdamW", "make_optimizer"]

SCHEDULES = ("constant", "cosine")


@keras.saving.register_keras_serializable("adaptiverec")
class AdamW(keras.optimizers.AdamW):
    """AdamW whose weight decay leaves biases and layer normalisations alone.

    Decay pulls weights to 0, which is no better guess for a shift or a scale than another
    (Loshchilov & Hutter 2019; BERT's optimizer excludes the same). Keras' own exclusion is
    not saved with a model; this one is part of the class.
    """

    def build(self, variables: Any) -> None:
        """Creates the state for these variables."""
        if not self.built:
            self.exclude_from_weight_decay([v for v in variables if not _is_matrix(v)])
        super().build(variables)


def _is_matrix(variable: Any) -> bool:
    """Whether it is of a dense layer or of a look-up: no bias, shift or scale."""
    return variable.path.split("/")[-1] in ("kernel", "embeddings")


def make_optimizer(
    *,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    schedule: str = "constant",
    warmup_epochs: float = 0.0,
    epochs: int = 1,
    steps_per_epoch: int = 1,
) -> keras.optimizers.Optimizer:
    """Makes the optimizer.

    Args:
        learning_rate: Of Adam; the highest one of a schedule.
        weight_decay: Share of each matrix that is taken off it every step, times the
            learning rate (Loshchilov & Hutter 2019). 0 is plain Adam.
        schedule: `"constant"`, or `"cosine"`: down to 0 along half a cosine until the end
            of the last epoch (Loshchilov & Hutter 2017).
        warmup_epochs: The learning rate rises from 0 for so many epochs, evenly; fewer
            than there are.
        epochs: How many there are to be.
        steps_per_epoch: Steps of each.

    Raises:
        InvalidValueError: An argument is outside its rule.
    """
    check_above("learning_rate", learning_rate, 0)
    check_at_least("weight_decay", weight_decay, 0)
    check_choice("schedule", schedule, SCHEDULES)
    check_at_least("warmup_epochs", warmup_epochs, 0)
    if warmup_epochs and warmup_epochs >= epochs:
        raise InvalidValueError(
            "warmup_epochs must be below epochs, or the learning rate never gets to its "
            f"value. Received: warmup_epochs={warmup_epochs}, epochs={epochs}"
        )
    rate: Any = learning_rate
    warmup_steps = round(warmup_epochs * steps_per_epoch)
    if schedule == "cosine" or warmup_steps:
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup_steps else learning_rate,
            decay_steps=max(epochs * steps_per_epoch - warmup_steps, 1),
            # What remains at the end: all of it is a constant rate.
            alpha=0.0 if schedule == "cosine" else 1.0,
            warmup_target=learning_rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
    if weight_decay:
        return AdamW(rate, weight_decay=weight_decay)
    return keras.optimizers.Adam(rate)
