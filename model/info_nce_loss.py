"""InfoNCE, the contrastive loss that AdaptiveRec starts from (CL4SRec, DuoRec)."""

from __future__ import annotations

from typing import Any

from keras import ops

from adaptiverec.model.masked_logsumexp import masked_logsumexp
from adaptiverec.model.similarity import twin_similarity

__all__ = ["info_nce_loss"]


def info_nce_loss(
    similarities: Any, twins: Any = None, *, temperature: float = 1.0
) -> Any:
    """Pulls each row to its twin and pushes it from every other row of the batch.

    ``-log( e^{sim(i,i+)/t} / sum_{j in N(i) + {i+}} e^{sim(i,j)/t} )`` (poster,
    "Contrastive Loss"; Oord et al. 2018).

    Args:
        similarities: Float tensor of shape `[2B, 2B]`, rows `[z1; z2]`.
        twins: The similarity of each row with its twin, float tensor of shape `[2B]`; by
            default read from `similarities`.
        temperature: t, above 0.

    Returns:
        Float tensor of shape `[2B]`, the loss of each row.
    """
    logits = similarities / temperature
    others = ops.logical_not(ops.eye(ops.shape(logits)[0], dtype="bool"))
    log_denominator = masked_logsumexp(logits, others)
    if twins is None:
        twins = twin_similarity(similarities)
    return log_denominator - twins / temperature
