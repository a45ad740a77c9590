"""Axes for the pictures of the reports, in one look."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from adaptiverec.common.report_svg import GRID, INK, MARK, MUTED
from adaptiverec.common.report_text import compact

__all__ = [
    "logarithmic",
    "mark",
    "place_across",
    "report_axes",
    "round_ticks",
    "width_of_words",
]

# Points of 1/72 inch, small: a picture is scaled to its column. The margins leave room for
# the larger text that the page asks for on a phone.
_WIDTH, _HEIGHT = 430, 260
_LEFT, _RIGHT, _BOTTOM, _TOP = 44, 14, 44, 34
_FONT_SIZE = 11
_PHONE_FONT_SIZE = 14

_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.labelpad": 6,
    "axes.labelcolor": MUTED,
    "axes.labelsize": _FONT_SIZE,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": _FONT_SIZE,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "adaptiverec",
    "text.color": INK,
    "text.parse_math": False,
    "timezone": "UTC",
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.left": False,
}


@contextmanager
def report_axes(
    *, left: float = _LEFT, height: float = _HEIGHT
) -> Iterator[tuple[Figure, Axes]]:
    """An empty picture, whatever style the process or its user has chosen.

    Args:
        left: Room for what stands left of the axis, in points.
        height: Of the picture, in points.

    Yields:
        The figure and its axes.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=(_WIDTH / 72, height / 72))
        figure.patch.set_visible(False)
        axes = figure.add_axes(
            (
                left / _WIDTH,
                _BOTTOM / height,
                1 - (left + _RIGHT) / _WIDTH,
                1 - (_BOTTOM + _TOP) / height,
            )
        )
        axes.patch.set_visible(False)
        yield figure, axes


def mark(axes: Axes, marks: list[tuple[str, float]]) -> None:
    """Vertical lines with words above them.

    Args:
        axes: Where to draw.
        marks: At most two, each with its place from 0 to 1 across the picture, ascending.
    """
    # Of two, the first's words go to its left and the second's to its right. Where there
    # is no room for that, what lies above keeps lines and words from crossing.
    height = _HEIGHT - _TOP - _BOTTOM
    two = len(marks) == 2
    crowded = two and marks[0][1] < width_of_words(marks[0][0])
    for number, (words, place) in enumerate(marks):
        is_first = number == 0
        to_right = crowded if two and is_first else place + width_of_words(words) < 1
        level = int(two and is_first == crowded)
        top = 1 + (4 + _PHONE_FONT_SIZE * level) / height
        axes.plot(
            [place, place],
            [0, top],
            color=MARK,
            linewidth=1.2,
            linestyle=(0, (3, 2)),
            transform=axes.transAxes,
            clip_on=False,
        )
        axes.annotate(
            words,
            (place, top),
            (4 if to_right else -4, -6),
            xycoords=axes.transAxes,
            textcoords="offset points",
            horizontalalignment="left" if to_right else "right",
        )


def place_across(axes: Axes, x: float, y: float) -> float:
    """Where a point is across the picture, from 0 to 1."""
    return float(axes.transLimits.transform(axes.transScale.transform((x, y)))[0])


def width_of_words(words: str) -> float:
    """How wide words are at most, the picture being 1."""
    # A letter is about half as wide as its size.
    return len(words) * _PHONE_FONT_SIZE / 2 / (_WIDTH - _LEFT - _RIGHT)


def logarithmic(
    axes: Axes,
    name: str,
    low: float,
    high: float,
    ticks: Sequence[float] | None = None,
) -> None:
    """Makes an axis logarithmic, with a few round ticks, however short it is.

    Args:
        axes: Of the picture.
        name: `"x"` or `"y"`.
        low: The smallest number drawn, above 0.
        high: The largest.
        ticks: Where to; by default at round numbers of things that are counted.
    """
    axis = axes.xaxis if name == "x" else axes.yaxis
    # A single value gets room around it.
    low, high = low / 1.08, max(high * 1.08, low * 1.6)
    if name == "x":
        axes.set_xscale("log")
        axes.set_xlim(low, high)
    else:
        axes.set_yscale("log")
        axes.set_ylim(low, high)
    axis.set_major_locator(FixedLocator(ticks or _logarithmic_ticks(low, high)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))


def _logarithmic_ticks(low: float, high: float) -> list[float]:
    # Nothing counted is below one.
    first = max(0, math.floor(math.log10(low)))
    exponents = range(first, math.ceil(math.log10(high)) + 1)
    every = max(1, len(exponents) // 6)
    for digits in ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10))):
        ticks = [digit * 10.0**n for n in exponents[::every] for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 3:
            return ticks
    # Between two neighbours: whole numbers.
    return [float(n) for n in range(math.ceil(low), math.floor(high) + 1)]


def round_ticks(most: int) -> list[int]:
    """Zero and some round whole numbers up to the most."""
    step = 1
    while most // step > 5:
        first_digit = int(str(step)[0])
        step = step * 5 // 2 if first_digit == 2 else step * 2
    return list(range(0, most + 1, step))
