"""The pictures of the data report, drawn by matplotlib.

They hold numbers and fixed words only, never text of the data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from adaptiverec.pipeline.report_statistics import Activity, Lengths, Popularity
from adaptiverec.pipeline.report_svg import GRID, INK, MARK, MUTED, SERIES, SOFT, to_svg
from adaptiverec.pipeline.report_text import compact

__all__ = ["draw_activity", "draw_lengths", "draw_popularity"]

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
_SECONDS_PER_DAY = 86_400
# matplotlib's dates are Python's, with room for the margins.
_FIRST_DAY = datetime(2, 1, 1, tzinfo=UTC).timestamp() / _SECONDS_PER_DAY
_LAST_DAY = datetime(9990, 1, 1, tzinfo=UTC).timestamp() / _SECONDS_PER_DAY


def draw_lengths(lengths: Lengths, title: str, description: str) -> str:
    """The share of users with at least so many interactions, with three quantiles."""
    with _axes() as (figure, axes):
        x = [length for length, _ in lengths.curve]
        y = [100 * users / lengths.num_users for _, users in lengths.curve]
        # "At least n" falls behind n, and to nothing behind the longest.
        low, high = x[0], x[-1]
        axes.step(
            [min(1, low), *x], [100, *y], where="pre", color=SERIES, linewidth=1.8
        )
        axes.vlines(high, 0, y[-1], color=SERIES, linewidth=1.8)
        axes.set_ylim(0, 104)
        axes.yaxis.set_major_locator(FixedLocator([0, 25, 50, 75, 100]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
        # Room for the words beside the last of the marked lengths.
        _logarithmic(axes, "x", 1, max(high, round(lengths.quantiles[-1][1] ** 1.3)))
        named: dict[int, list[int]] = {}
        for percent, length in lengths.quantiles:
            if percent in (50, 90, 99):
                named.setdefault(length, []).append(percent)
        for length, percents in named.items():
            share = 100 - percents[0]
            axes.plot([length], [share], "o", color=MARK, markersize=4.5, clip_on=False)
            words = [
                "median" if percent == 50 else f"{percent} %" for percent in percents
            ]
            text = f"{', '.join(words)}: {length:,}"
            fits = _place(axes, length, share) + _width(text) < 1
            axes.annotate(
                text,
                (length, share),
                (6 if fits else -6, 4),
                textcoords="offset points",
                horizontalalignment="left" if fits else "right",
            )
        axes.set_xlabel("interactions of a user, at least")
        return to_svg(figure, "lengths", title, description)


def draw_popularity(popularity: Popularity, title: str, description: str) -> str:
    """Interactions of each item by its rank, with the shares of the first ones."""
    with _axes() as (figure, axes):
        x = [rank for rank, _ in popularity.curve]
        y = [interactions for _, interactions in popularity.curve]
        axes.plot(x, y, color=SERIES, linewidth=1.8, solid_capstyle="round")
        axes.plot(x[:1], y[:1], "o", color=SERIES, markersize=4.5)
        _logarithmic(axes, "x", 1, x[-1])
        _logarithmic(axes, "y", min(y), max(y))
        marks = [
            (
                f"top {percent} %: {100 * part / popularity.num_interactions:.0f} %",
                _place(axes, items, y[0]),
            )
            for percent, items, part in popularity.top[:2]
            # Of a few items this would be the first one, and say nothing.
            if items > 1
        ]
        _mark(axes, marks)
        axes.set_xlabel("rank of the item")
        return to_svg(figure, "popularity", title, description)


def draw_activity(
    activity: Activity, marks: Sequence[tuple[str, int]], title: str, description: str
) -> str:
    """Interactions over time.

    Args:
        activity: What to draw.
        marks: A word and its point in time, in seconds since 1970-01-01 UTC.
        title: What the picture is called.
        description: What it shows, for who cannot see it.
    """
    with _axes() as (figure, axes):
        days = [
            (activity.start + number * activity.span_seconds) / _SECONDS_PER_DAY
            for number in range(len(activity.counts) + 1)
        ]
        axes.stairs(activity.counts, days, fill=True, color=SOFT)
        axes.stairs(activity.counts, days, color=SERIES, linewidth=1.2)
        axes.set_xlim(days[0], days[-1])
        most = max(activity.counts)
        axes.set_ylim(0, most * 1.04)
        ticks = _round_ticks(most)
        axes.yaxis.set_major_locator(FixedLocator(ticks))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
        axes.xaxis.grid(visible=False)
        if days[0] > _FIRST_DAY and days[-1] < _LAST_DAY:
            # With fewer ticks at most, it has no spacing for some ranges, and warns.
            locator = AutoDateLocator(minticks=3, maxticks=7)
            axes.xaxis.set_major_locator(locator)
            axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
            axes.set_xlabel("UTC")
        else:
            axes.xaxis.set_major_locator(FixedLocator([days[0], days[-1]]))
            axes.xaxis.set_major_formatter(
                FuncFormatter(lambda value, _: f"{value / 365.2425 + 1970:.0f}")
            )
            axes.set_xlabel("year, about")
        places = [
            (word, (seconds / _SECONDS_PER_DAY - days[0]) / (days[-1] - days[0]))
            for word, seconds in marks
        ]
        _mark(axes, [mark for mark in places if 0 <= mark[1] <= 1])
        return to_svg(figure, "activity", title, description)


def _mark(axes: Axes, marks: list[tuple[str, float]]) -> None:
    """Vertical lines with words above them.

    Args:
        axes: Where to draw.
        marks: At most two, each with its place from 0 to 1 across the picture, ascending.
    """
    # Of two, the first's words go to its left and the second's to its right. Where there
    # is no room for that, what lies above keeps lines and words from crossing.
    height = _HEIGHT - _TOP - _BOTTOM
    two = len(marks) == 2
    crowded = two and marks[0][1] < _width(marks[0][0])
    for number, (words, place) in enumerate(marks):
        is_first = number == 0
        to_right = crowded if two and is_first else place + _width(words) < 1
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


def _place(axes: Axes, x: float, y: float) -> float:
    """Where a point is across the picture, from 0 to 1."""
    return float(axes.transLimits.transform(axes.transScale.transform((x, y)))[0])


def _width(words: str) -> float:
    """How wide words are at most, the picture being 1."""
    # A letter is about half as wide as its size.
    return len(words) * _PHONE_FONT_SIZE / 2 / (_WIDTH - _LEFT - _RIGHT)


@contextmanager
def _axes() -> Iterator[tuple[Figure, Axes]]:
    """An empty picture, whatever style the process or its user has chosen."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=(_WIDTH / 72, _HEIGHT / 72))
        figure.patch.set_visible(False)
        axes = figure.add_axes(
            (
                _LEFT / _WIDTH,
                _BOTTOM / _HEIGHT,
                1 - (_LEFT + _RIGHT) / _WIDTH,
                1 - (_BOTTOM + _TOP) / _HEIGHT,
            )
        )
        axes.patch.set_visible(False)
        yield figure, axes


def _logarithmic(axes: Axes, name: str, low: float, high: float) -> None:
    """Makes an axis logarithmic, with a few round ticks, however short it is."""
    axis = axes.xaxis if name == "x" else axes.yaxis
    # A single value gets room around it.
    low, high = low / 1.08, max(high * 1.08, low * 1.6)
    if name == "x":
        axes.set_xscale("log")
        axes.set_xlim(low, high)
    else:
        axes.set_yscale("log")
        axes.set_ylim(low, high)
    axis.set_major_locator(FixedLocator(_logarithmic_ticks(low, high)))
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


def _round_ticks(most: int) -> list[int]:
    """Zero and some round whole numbers up to the most."""
    step = 1
    while most // step > 5:
        first_digit = int(str(step)[0])
        step = step * 5 // 2 if first_digit == 2 else step * 2
    return list(range(0, most + 1, step))
