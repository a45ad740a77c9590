"""The section of the training report on embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from adaptiverec.common.report_text import compact
from adaptiverec.model.adaptive_rec import AdaptiveRec
from adaptiverec.model.diagnostics import DiagnosticSample
from adaptiverec.model.report_charts import (
    NUM_GROUPS,
    Words,
    draw_map,
    draw_spectra,
    ramp_place,
)
from adaptiverec.model.report_embeddings import Spectrum, embedding_map, spectrum
from adaptiverec.model.sequences import SequenceSource

__all__ = ["vectors_section"]

_NUM_SEQUENCES = 2_000


def vectors_section(
    model: AdaptiveRec,
    popularity: np.ndarray,
    source: SequenceSource | None,
    *,
    seed: int,
) -> dict[str, Any]:
    """A map of the items, and the singular values of items and sequences.

    Args:
        model: Whose embeddings.
        popularity: Interactions of each item in training, int `[num_items]`.
        source: The users' sequences, to encode some of; None leaves them out.
        seed: Of the drawing.

    Returns:
        The pictures and their figures.
    """
    vectors = np.asarray(model.encoder.item_vectors, np.float64)
    shown = embedding_map(vectors, popularity, num_groups=NUM_GROUPS, seed=seed)
    number = len(shown.ranges)
    first, second = (f"{100 * share:.0f} %" for share in shown.shares)
    of_items = spectrum(vectors)
    spectra = [("items", "series", of_items)]
    num_sequences = 0
    if source is not None:
        states = _states(model, source, seed)
        num_sequences = len(states)
        spectra.append(("sequences", "mark", spectrum(states)))
    return {
        "map": draw_map(
            shown.points,
            shown.groups,
            shown.shares,
            Words(
                "map",
                "Items by their embeddings, coloured by popularity",
                f"{len(shown.points):,} points; the first axis has {first} of the "
                f"variance, the second {second}.",
            ),
        ),
        "groups": [
            (
                f"{compact(least)}" if least == most else f"{least:,} to {most:,}",
                ramp_place(group, number),
            )
            for group, (least, most) in enumerate(shown.ranges)
        ],
        "num_shown": len(shown.points),
        "num_items": shown.num_items,
        "spectra": draw_spectra(
            [(name, colour, found.values) for name, colour, found in spectra],
            Words(
                "spectra",
                "Singular values, the largest being 1",
                "; ".join(_said(name, found) for name, _, found in spectra) + ".",
            ),
        ),
        "keys": [
            (name, colour, place > 0) for place, (name, colour, _) in enumerate(spectra)
        ],
        "columns": [name for name, _, _ in spectra],
        "rows": [
            ("directions", [f"{len(found.values):,}" for _, _, found in spectra]),
            (
                "effective rank",
                [f"{found.effective_rank:.1f}" for _, _, found in spectra],
            ),
            (
                "directions with 90 % of the variance",
                [f"{found.directions_for_90:,}" for _, _, found in spectra],
            ),
            ("smallest value", [f"{found.values[-1]:.4f}" for _, _, found in spectra]),
        ],
        "num_sequences": num_sequences,
    }


def _said(name: str, found: Spectrum) -> str:
    return (
        f"{name}: {found.directions_for_90} of {len(found.values)} directions hold 90 % of "
        "the variance"
    )


def _states(model: AdaptiveRec, source: SequenceSource, seed: int) -> np.ndarray:
    sample = DiagnosticSample.draw(
        source,
        num_items=model.num_items,
        max_length=model.max_length,
        seed=seed,
        size=_NUM_SEQUENCES,
    )
    encode = tf.function(model.encoder.encode_by_length)
    return np.asarray(encode(tf.constant(sample.item_ids)), np.float64)
