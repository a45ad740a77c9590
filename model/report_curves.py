"""The sections of the training report that go over the epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adaptiverec.model.diagnostics import QUANTILES, THRESHOLD_QUANTILES
from adaptiverec.model.report_charts import (
    Line,
    Words,
    draw_lines,
    draw_similarities,
    epoch_colour,
)

__all__ = [
    "contrast_section",
    "epochs_table",
    "geometry_section",
    "loss_section",
    "measures_section",
    "similarity_section",
    "spread_over",
    "threshold_section",
]

_MAX_CURVES = 40
_MAX_ROWS = 20
_COLUMNS = {
    "loss": "loss",
    "next_item_loss": "next-item loss",
    "val_loss": "validation",
    "contrastive_loss": "contrastive loss",
    "val_ndcg@10": "NDCG@10",
    "val_recall@10": "recall@10",
    "val_mrr@10": "MRR@10",
    "threshold_mean": "threshold",
    "num_positives": "|M+|",
}

History = Sequence[Mapping[str, float]]


def loss_section(
    history: History, best_epoch: int | None, *, trained_loss: str | None = None
) -> dict[str, Any]:
    """The next-item loss, of training and validation; and the total.

    Args:
        history: The metrics of every epoch.
        best_epoch: To be marked, or None.
        trained_loss: What training minimises, where it is not the validation's softmax
            over all items, so that the two cannot be compared.
    """
    trained, validated, note = "", "", ""
    if trained_loss is not None:
        trained, validated = f": {trained_loss}", ": softmax over all items"
        note = " It is another loss than the training's: the two cannot be compared."
    lines = _lines(
        history,
        ("loss", "total, training", "third", True),
        ("next_item_loss", f"next item, training{trained}", "series", False),
        ("val_loss", f"next item, validation{validated}", "mark", False),
    )
    return _figure(
        lines,
        "losses",
        "Losses, in nats",
        "nats",
        best_epoch,
        "The validation loss is that of the next item alone, without dropout." + note,
    )


def contrast_section(history: History) -> dict[str, Any] | None:
    """The terms of the contrastive loss; None where there is none."""
    lines = _lines(
        history,
        ("contrastive_loss", "contrastive loss", "series", False),
        ("threshold_loss", "thresholds' regulariser", "mark", True),
    )
    return (
        _figure(lines, "contrast", "Terms of the contrastive loss", "nats", None)
        if lines
        else None
    )


def measures_section(history: History, best_epoch: int | None) -> dict[str, Any] | None:
    """Recall, NDCG and MRR of the validation targets; None where there are none."""
    lines = _lines(
        history,
        ("val_recall@10", "recall@10", "series", False),
        ("val_ndcg@10", "NDCG@10", "mark", False),
        ("val_mrr@10", "MRR@10", "second", True),
    )
    if not lines:
        return None
    return _figure(
        lines, "measures", "Measures of the validation targets", "", best_epoch
    )


def threshold_section(
    history: History, diagnostics: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Thresholds and how many pairs they turn positive; None without thresholds."""
    if not history or "threshold_mean" not in history[0]:
        return None
    epochs = _epochs(history)
    noted = {
        figures["epoch"]: figures["threshold_quantiles"]
        for figures in diagnostics
        if "threshold_quantiles" in figures
    }
    # At the end of an epoch, beside which its mean would lag.
    low, middle, high = (
        [noted[epoch][place] if epoch in noted else math.nan for epoch in epochs]
        for place in (0, len(THRESHOLD_QUANTILES) // 2, -1)
    )
    thresholds = [
        Line(
            "median of the sample; band: 5 % to 95 %",
            epochs,
            middle,
            "series",
            False,
            (low, high),
        ),
        *_lines(
            history,
            (
                "similarity_target",
                "statistic of the batches, held to in the next epoch",
                "mark",
                True,
            ),
        ),
    ]
    positives = _lines(
        history, ("num_positives", "|M+|, mean over the batch's rows", "series", False)
    )
    share = history[-1].get("positive_share")
    note = (
        ""
        if share is None
        else f"In the last epoch that is {100 * share:.1f} % of a row's negatives."
    )
    return {
        "thresholds": _figure(
            thresholds,
            "thresholds",
            "Thresholds, as cosines",
            "cosine",
            None,
        ),
        "positives": _figure(
            positives,
            "positives",
            "Adaptive positives of a sequence",
            "sequences",
            None,
            note,
        ),
    }


def similarity_section(
    diagnostics: Sequence[Mapping[str, Any]],
) -> dict[str, Any] | None:
    """The sorted in-batch similarities, a curve an epoch; None where none were noted."""
    noted = [figures for figures in diagnostics if figures["similarity_quantiles"]]
    if not noted:
        return None
    shown = spread_over(noted, _MAX_CURVES)
    last = shown[-1]
    middle = len(QUANTILES) // 2
    curves = [(figures["epoch"], figures["similarity_quantiles"]) for figures in shown]
    first_median, last_median = (
        figures["similarity_quantiles"][middle] for figures in (shown[0], last)
    )
    marked = [shown[0], shown[len(shown) // 2], last]
    seen: dict[int, str] = {
        figures["epoch"]: epoch_colour(figures["epoch"], last["epoch"])
        for figures in marked
    }
    return {
        "chart": draw_similarities(
            list(100 * QUANTILES),
            curves,
            Words(
                "similarities",
                "In-batch similarities of N, sorted, by epoch",
                f"{len(curves)} rising curves. The median cosine is {first_median:.3f} "
                f"after epoch {shown[0]['epoch']} and {last_median:.3f} after epoch "
                f"{last['epoch']}.",
            ),
        ),
        "keys": [(f"epoch {epoch}", colour) for epoch, colour in seen.items()],
        "num_sequences": last["num_sequences"],
        "num_shown": len(shown),
        "num_epochs": len(noted),
        "rows": [
            (
                f"{figures['epoch']}",
                *(
                    f"{figures['similarity_quantiles'][percent]:.3f}".replace(
                        "-", "\u2212"
                    )
                    for percent in (5, 50, 90, 99)
                ),
            )
            for figures in spread_over(noted, 10)
        ],
    }


def geometry_section(diagnostics: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Alignment and uniformity over the epochs; None where none were noted."""
    if not diagnostics:
        return None
    epochs = [figures["epoch"] for figures in diagnostics]

    def figure(kind: str, title: str) -> dict[str, Any]:
        lines = [
            Line(
                label,
                epochs,
                [_number(figures.get(f"{what}_{kind}")) for figures in diagnostics],
                colour,
                dashed,
            )
            for what, label, colour, dashed in (
                ("sequence", "sequences", "series", False),
                ("item", "items", "mark", True),
            )
        ]
        return _figure(lines, kind, title, "", None)

    return {
        "alignment": figure("alignment", "Alignment"),
        "uniformity": figure("uniformity", "Uniformity"),
        "num_sequences": diagnostics[-1]["num_sequences"],
    }


def epochs_table(
    history: History, diagnostics: Sequence[Mapping[str, Any]], best_epoch: int | None
) -> dict[str, Any]:
    """The figures of some epochs: the first, the best, the last, and some between."""
    shown = set(spread_over(_epochs(history), _MAX_ROWS))
    if best_epoch is not None:
        shown.add(best_epoch)
    columns = {name: label for name, label in _COLUMNS.items() if name in history[0]}
    seconds = {figures["epoch"]: figures["seconds"] for figures in diagnostics}
    return {
        "columns": [*columns.values(), "seconds"],
        "rows": [
            (
                epoch,
                epoch == best_epoch,
                [
                    *(_shown(name, history[epoch - 1].get(name)) for name in columns),
                    f"{seconds[epoch]:,.0f}" if epoch in seconds else "\u2013",
                ],
            )
            for epoch in sorted(shown)
        ],
        "num_epochs": len(history),
    }


def spread_over(values: Sequence[Any], most: int) -> list[Any]:
    """The values, or so many of them at even distances, the first and the last included."""
    if len(values) <= most:
        return list(values)
    places = np.unique(np.round(np.linspace(0, len(values) - 1, most)).astype(int))
    return [values[place] for place in places]


def _figure(
    lines: list[Line],
    name: str,
    title: str,
    unit: str,
    best_epoch: int | None,
    note: str = "",
) -> dict[str, Any]:
    """A picture with its key and its first and last numbers."""
    said = []
    for line in lines:
        shown = [value for value in line.values if not math.isnan(value)] or [math.nan]
        said.append(f"{line.label}: from {shown[0]:.4g} to {shown[-1]:.4g}")
    return {
        "title": title,
        "unit": unit,
        "note": note,
        "keys": [(line.label, line.colour, line.dashed) for line in lines],
        "chart": draw_lines(
            lines,
            Words(
                name, title, f"Over {len(lines[0].epochs)} epochs; {'; '.join(said)}."
            ),
            best_epoch=best_epoch,
        ),
    }


def _lines(history: History, *figures: tuple[str, str, str, bool]) -> list[Line]:
    return [
        Line(label, _epochs(history), _column(history, name), colour, dashed)
        for name, label, colour, dashed in figures
        if name in history[0]
    ]


def _epochs(history: History) -> list[int]:
    return list(range(1, len(history) + 1))


def _column(history: History, name: str) -> list[float]:
    return [_number(epoch.get(name)) for epoch in history]


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return "\u2013"
    shown = f"{value:,.1f}" if name == "num_positives" else f"{value:.4f}"
    return shown.replace("-", "\u2212")
