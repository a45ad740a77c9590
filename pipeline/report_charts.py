"""The pictures of the data report, drawn by matplotlib.

They hold numbers and fixed words only, never text of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import FixedLocator, FuncFormatter

from adaptiverec.common.report_axes import (
    logarithmic,
    mark,
    place_across,
    report_axes,
    round_ticks,
    width_of_words,
)
from adaptiverec.common.report_svg import MARK, SERIES, SOFT, to_svg
from adaptiverec.common.report_text import compact
from adaptiverec.pipeline.report_statistics import Activity, Lengths, Popularity

__all__ = ["draw_activity", "draw_lengths", "draw_popularity"]

_SECONDS_PER_DAY = 86_400
# matplotlib's dates are Python's, with room for the margins.
_FIRST_DAY = datetime(2, 1, 1, tzinfo=UTC).timestamp() / _SECONDS_PER_DAY
_LAST_DAY = datetime(9990, 1, 1, tzinfo=UTC).timestamp() / _SECONDS_PER_DAY


def draw_lengths(lengths: Lengths, title: str, description: str) -> str:
    """The share of users with at least so many interactions, with three quantiles."""
    with report_axes() as (figure, axes):
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
        logarithmic(axes, "x", 1, max(high, round(lengths.quantiles[-1][1] ** 1.3)))
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
            fits = place_across(axes, length, share) + width_of_words(text) < 1
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
    with report_axes() as (figure, axes):
        x = [rank for rank, _ in popularity.curve]
        y = [interactions for _, interactions in popularity.curve]
        axes.plot(x, y, color=SERIES, linewidth=1.8, solid_capstyle="round")
        axes.plot(x[:1], y[:1], "o", color=SERIES, markersize=4.5)
        logarithmic(axes, "x", 1, x[-1])
        logarithmic(axes, "y", min(y), max(y))
        marks = [
            (
                f"top {percent} %: {100 * part / popularity.num_interactions:.0f} %",
                place_across(axes, items, y[0]),
            )
            for percent, items, part in popularity.top[:2]
            # Of a few items this would be the first one, and say nothing.
            if items > 1
        ]
        mark(axes, marks)
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
    with report_axes() as (figure, axes):
        days = [
            (activity.start + number * activity.span_seconds) / _SECONDS_PER_DAY
            for number in range(len(activity.counts) + 1)
        ]
        axes.stairs(activity.counts, days, fill=True, color=SOFT)
        axes.stairs(activity.counts, days, color=SERIES, linewidth=1.2)
        axes.set_xlim(days[0], days[-1])
        most = max(activity.counts)
        axes.set_ylim(0, most * 1.04)
        ticks = round_ticks(most)
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
        mark(axes, [mark for mark in places if 0 <= mark[1] <= 1])
        return to_svg(figure, "activity", title, description)
