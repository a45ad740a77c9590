"""The pictures of the training report, drawn by matplotlib.

They hold numbers and fixed words only, never text of the data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from adaptiverec.common.report_axes import logarithmic, mark, report_axes
from adaptiverec.common.report_svg import (
    MARK,
    RAMP,
    SECOND,
    SERIES,
    SOFT,
    THIRD,
    to_svg,
)
from adaptiverec.model.report_cohorts import Interval

__all__ = [
    "NUM_GROUPS",
    "Line",
    "Words",
    "draw_intervals",
    "draw_lines",
    "draw_map",
    "draw_similarities",
    "draw_spectra",
    "epoch_colour",
    "ramp_place",
]

NUM_GROUPS = len(RAMP)
COLOURS = {"series": SERIES, "mark": MARK, "second": SECOND, "third": THIRD}
_LINE = 1.8
_DASHES = (0, (4, 2))
# Early, middle and late; neither too light for a white page nor too dark for a black one.
_EARLY, _MIDDLE, _LATE = (0x2E, 0x9E, 0x5B), (0xD2, 0x9B, 0x1D), (0xC9, 0x36, 0x2C)


class Words(NamedTuple):
    """What a picture is called.

    Attributes:
        name: Its name in the page, which no other picture has.
        title: Its title.
        description: What it shows, for who cannot see it.
    """

    name: str
    title: str
    description: str


class Line(NamedTuple):
    """A figure over the epochs.

    Attributes:
        label: What it is called.
        epochs: Counted from 1, ascending.
        values: One each; NaN leaves a gap.
        colour: A key of `COLOURS`.
        dashed: Whether the line is dashed; told apart without colours.
        band: The lower and the upper end of a band around it, or None.
    """

    label: str
    epochs: Sequence[int]
    values: Sequence[float]
    colour: str = "series"
    dashed: bool = False
    band: tuple[Sequence[float], Sequence[float]] | None = None


def draw_lines(
    lines: Sequence[Line], words: Words, *, best_epoch: int | None = None
) -> str:
    """Figures over the epochs.

    Args:
        lines: What to draw.
        words: What it is called.
        best_epoch: The epoch to mark, or None.

    Returns:
        An SVG element.
    """
    with report_axes() as (figure, axes):
        for line in lines:
            if line.band is not None:
                axes.fill_between(line.epochs, *line.band, color=SOFT, linewidth=0)
            axes.plot(
                line.epochs,
                line.values,
                color=COLOURS[line.colour],
                linewidth=_LINE,
                linestyle=_DASHES if line.dashed else "solid",
                # A single epoch is no line.
                marker="o" if len(line.epochs) < 3 else "",
                markersize=4.5,
            )
        _epochs(axes, [epoch for line in lines for epoch in line.epochs])
        _values(axes)
        if best_epoch is not None:
            low, high = axes.get_xlim()
            mark(
                axes, [(f"best: epoch {best_epoch}", (best_epoch - low) / (high - low))]
            )
        return to_svg(figure, *words)


def draw_similarities(
    percents: Sequence[float],
    curves: Sequence[tuple[int, Sequence[float]]],
    words: Words,
) -> str:
    """Sorted in-batch similarities, a curve an epoch, green early and red late.

    Args:
        percents: Of the pairs, 0 to 100, ascending.
        curves: An epoch and the cosine that so many of the pairs do not exceed.
        words: What it is called.

    Returns:
        An SVG element.
    """
    with report_axes() as (figure, axes):
        last = max(epoch for epoch, _ in curves)
        for epoch, values in curves:
            axes.plot(
                percents,
                values,
                color=epoch_colour(epoch, last),
                linewidth=_LINE if epoch in (1, last) else 1.1,
            )
        axes.set_xlim(0, 100)
        axes.xaxis.set_major_locator(FixedLocator([0, 25, 50, 75, 100]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
        axes.set_xlabel("pairs of N, sorted by similarity")
        _values(axes)
        return to_svg(figure, *words)


def epoch_colour(epoch: int, last: int) -> str:
    """The colour of an epoch's curve, as `#rrggbb`: from green through amber to red."""
    place = (epoch - 1) / max(1, last - 1)
    start, end = (_EARLY, _MIDDLE) if place < 0.5 else (_MIDDLE, _LATE)
    part = 2 * place if place < 0.5 else 2 * place - 1
    mixed = (
        round(one + part * (other - one)) for one, other in zip(start, end, strict=True)
    )
    return "#" + "".join(f"{value:02x}" for value in mixed)


def draw_intervals(
    labels: Sequence[str],
    intervals: Sequence[Interval],
    whole: float,
    axis: str,
    words: Words,
) -> str:
    """Means with their confidence intervals, a row each, beside the mean of all.

    Args:
        labels: Of the rows, the first on top.
        intervals: Their means and intervals.
        whole: The mean of all, drawn as a line across.
        axis: What is measured.
        words: What it is called.

    Returns:
        An SVG element.
    """
    # A letter is about half as wide as its size.
    left = 20 + 6.5 * max(len(label) for label in labels)
    with report_axes(left=left, height=110 + 24 * len(labels)) as (figure, axes):
        rows = np.arange(len(labels))[::-1]
        axes.hlines(
            rows,
            [interval.low for interval in intervals],
            [interval.high for interval in intervals],
            color=SERIES,
            linewidth=_LINE,
        )
        axes.plot(
            [interval.mean for interval in intervals],
            rows,
            "o",
            color=SERIES,
            markersize=5.5,
        )
        high = max(*(interval.high for interval in intervals), whole, 1e-6) * 1.05
        axes.set_xlim(0, high)
        axes.set_ylim(-0.7, len(labels) - 0.3)
        axes.yaxis.set_major_locator(FixedLocator(list(rows)))
        axes.set_yticklabels(labels)
        axes.yaxis.grid(visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(axis)
        mark(axes, [(f"all: {whole:.4f}", whole / high)])
        return to_svg(figure, *words)


def draw_map(
    points: np.ndarray, groups: np.ndarray, shares: tuple[float, float], words: Words
) -> str:
    """Points in groups that ascend, drawn from the palest colour to the strongest.

    Args:
        points: Float `[points, 2]`.
        groups: The group of each, int `[points]`, fewer than there are colours.
        shares: Share of the variance of either axis.
        words: What it is called.

    Returns:
        An SVG element.
    """
    with report_axes(height=330) as (figure, axes):
        number = int(groups.max()) + 1
        for group in range(number):
            inside = groups == group
            axes.plot(
                points[inside, 0],
                points[inside, 1],
                "o",
                color=RAMP[ramp_place(group, number)],
                markersize=3.0,
                markeredgewidth=0,
            )
        for axis, share, word in (
            (axes.xaxis, shares[0], "first"),
            (axes.yaxis, shares[1], "second"),
        ):
            axis.set_major_locator(MaxNLocator(5))
            axis.set_label_text(f"{word} axis, {100 * share:.0f} % of the variance")
        axes.yaxis.labelpad = 0
        return to_svg(figure, *words)


def ramp_place(group: int, number: int) -> int:
    """The place of a group's colour in the ramp; the last group has the strongest."""
    return round(group * (len(RAMP) - 1) / max(1, number - 1)) if number > 1 else 0


def draw_spectra(spectra: Sequence[tuple[str, str, np.ndarray]], words: Words) -> str:
    """Singular values, the largest being 1, on a logarithmic axis.

    Args:
        spectra: A name, a key of `COLOURS` and the values, descending.
        words: What it is called.

    Returns:
        An SVG element.
    """
    with report_axes() as (figure, axes):
        least = 1.0
        for number, (_, colour, values) in enumerate(spectra):
            # What rounding left of a direction that is not used has no logarithm.
            shown = np.where(values > 1e-6, values, np.nan)
            least = min(least, float(np.nanmin(shown, initial=1.0)))
            axes.plot(
                np.arange(1, len(values) + 1),
                shown,
                color=COLOURS[colour],
                linewidth=_LINE,
                linestyle=_DASHES if number else "solid",
            )
        logarithmic(axes, "y", least, 1.0, ticks=_decades(least))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("direction, by its singular value")
        return to_svg(figure, *words)


def _decades(least: float) -> list[float]:
    exponents = range(math.floor(math.log10(least)), 1)
    steps = (1,) if len(exponents) > 4 else (1, 3) if len(exponents) > 2 else (1, 2, 5)
    return [step * 10.0**exponent for exponent in exponents for step in steps]


def _epochs(axes: Axes, epochs: Sequence[int]) -> None:
    first, last = min(epochs), max(epochs)
    # Room for a single epoch.
    room = max(0.4, 0.02 * (last - first))
    axes.set_xlim(first - room, last + room)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.xaxis.grid(visible=False)
    axes.set_xlabel("epoch")


def _values(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:.4g}".replace("-", "\u2212"))
    )
