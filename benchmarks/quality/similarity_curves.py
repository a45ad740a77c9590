"""Draws how alike the sequences of a batch are, epoch by epoch, runs side by side.

    python benchmarks/quality/similarity_curves.py WORK/beauty-poster/runs/* \
        --output similarity_curves.png

As the poster's figure: the cosines of all pairs of N, sorted, a curve an epoch, green early
and red late. They are what each run noted of the same 512 training instances, without
dropout.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from adaptiverec.common.files import read_json
from adaptiverec.model import run as run_contract
from adaptiverec.model.diagnostics import QUANTILES
from adaptiverec.model.report_charts import epoch_colour

__all__ = ["curves_of", "draw_curves"]

Curve = tuple[int, list[float]]


def curves_of(run: Path) -> list[Curve]:
    """Each epoch of a run, with the similarities at :data:`QUANTILES`."""
    noted = [
        read_json(path)
        for path in sorted((run / run_contract.DIAGNOSTICS).glob("epoch-*.json"))
    ]
    return [(epoch["epoch"], epoch["similarity_quantiles"]) for epoch in noted]


def draw_curves(runs: dict[str, list[Curve]]) -> Figure:
    """One panel a run, by its name."""
    with mpl.rc_context({"font.size": 8, "axes.spines.right": False}):
        figure = Figure(figsize=(2.9 * len(runs), 2.9), layout="constrained")
        panels = figure.subplots(1, len(runs), sharey=True, squeeze=False)[0]
        for axes, (name, curves) in zip(panels, runs.items(), strict=True):
            last = max(epoch for epoch, _ in curves)
            for epoch, values in curves:
                colour = epoch_colour(epoch, last)
                axes.plot(100 * QUANTILES, values, color=colour, linewidth=0.8)
            axes.set(title=f"{name}\n{last} epochs", xlim=(0, 100), ylim=(-1, 1))
            axes.set_xlabel("% of the pairs of N, sorted")
            axes.grid(linewidth=0.3)
        panels[0].set_ylabel("cosine")
    return figure


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="directories of runs")
    parser.add_argument("--output", type=Path, required=True, help="a PNG or SVG file")
    given = parser.parse_args()
    found = {run.name: curves_of(run) for run in given.runs}
    empty = [name for name, curves in found.items() if not curves]
    if empty:
        parser.error(f"runs without a finished epoch: {', '.join(empty)}")
    draw_curves(found).savefig(given.output, dpi=150)


if __name__ == "__main__":
    main()
