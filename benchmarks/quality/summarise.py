"""Makes the Markdown table of what `fill.py` has measured so far.

    python benchmarks/quality/summarise.py --table beauty-poster

Systems are also compared user by user, by a paired test over users and seeds.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fill import RESULTS
from paired import Difference, Variance, compare, gains_of_seeds, variance_of_seeds
from tables import TABLES, Table

from adaptiverec.common.files import read_json

# Columns of the main table: protocol and measure, those of the poster's table first.
_COLUMNS = [
    *(("kept", f"{m}@{k}") for m in ("ndcg", "mrr", "recall") for k in (5, 10)),
    *(("removed", m) for m in ("ndcg@10", "recall@10")),
    *((p, "ndcg@10") for p in ("popular", "random")),
]
# Of the paired test.
_PAIRED = [(p, m) for p in ("kept", "removed") for m in ("ndcg@10", "recall@10")]
# A variance of fewer degrees of freedom is anything, and next to nothing now and then.
_MIN_DEGREES = 5
_GEOMETRY = [
    "item_alignment",
    "item_uniformity",
    "sequence_alignment",
    "sequence_uniformity",
]


def read_results(directory: Path, table: Table) -> dict[str, list[dict[str, Any]]]:
    """The results of each row, by seed; rows without any are left out."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(directory.glob("*.json")):
        # Ranks have the name of the result.
        result = {**read_json(path), "ranks": path.with_suffix(".npz")}
        found.setdefault(result["row"], []).append(result)
    for results in found.values():
        results.sort(key=lambda result: result["seed"])
    names = [row.name for row in table.rows if row.name in found]
    return {name: found[name] for name in names}


def spread(values: Iterable[float], digits: int = 4) -> str:
    """`mean ± standard deviation`, the latter where there are several; a dash for none."""
    values = list(values)
    if not values:
        return "\u2013"
    text = _number(statistics.fmean(values), digits)
    if len(values) > 1:
        text += f" ± {_number(statistics.stdev(values), digits)}"
    return text


def _number(value: float, digits: int) -> str:
    # As papers write shares: .0427
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def main_table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """One line a row: the measures under each protocol."""
    columns = [
        (protocol, measure)
        for protocol, measure in _COLUMNS
        if any(
            protocol in result["test"] for found in rows.values() for result in found
        )
    ]
    header = ["system", "seeds", "best epoch"]
    header += [f"{measure} {protocol}" for protocol, measure in columns]
    lines = []
    for name, results in rows.items():
        epochs = statistics.fmean(result["best_epoch"] for result in results)
        cells = [name, str(len(results)), f"{epochs:.0f}"]
        cells += [
            spread(
                result["test"][protocol][measure]
                for result in results
                if protocol in result["test"]
            )
            for protocol, measure in columns
        ]
        lines.append(cells)
    return _markdown(header, lines)


def geometry_table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """One line a row: alignment and uniformity."""
    lines = [
        [name, *(spread((r["geometry"][key] for r in found), 3) for key in _GEOMETRY)]
        for name, found in rows.items()
    ]
    return _markdown(["system", *(k.replace("_", " ") for k in _GEOMETRY)], lines)


def paired_table(comparisons: list[dict[str, Any]]) -> str:
    """One line a pair of systems; bold is what chance does not explain.

    That takes seeds: where their chance is not known, a difference of two trained models
    is none of two systems, and is starred instead.
    """
    lines = []
    for pair in comparisons:
        cells = [f"{pair['row']} - {pair['against']}"]
        cells.append(f"{pair['seeds'][0]} and {pair['seeds'][1]}")
        cells += map(_difference, pair["differences"])
        lines.append(cells)
    columns = [f"{measure} {protocol}" for protocol, measure in _PAIRED]
    return _markdown(["difference", "seeds", *columns], lines)


def _difference(found: Difference) -> str:
    text = f"{found.mean:+.4f} ± {_number(found.reach, 4)}"
    if found.p >= 0.05:
        return text
    return f"**{text}**" if found.over_seeds else f"{text} *"


def _markdown(header: list[str], lines: list[list[str]]) -> str:
    rules = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, rules, *lines])


def pairs_of(table: Table, names: Collection[str]) -> list[tuple[str, str]]:
    """The systems to compare, each with another, of those that have a result."""
    pairs: list[tuple[str, str]] = []
    for against in table.against:
        # A pair of two of these has had its line.
        pairs += [
            (row.name, against)
            for row in table.rows
            if row.name != against and (against, row.name) not in pairs
        ]
    pairs += table.pairs
    return [pair for pair in pairs if set(pair) <= set(names)]


def variances_of_seeds(results: Path, data: str) -> list[Variance | None]:
    """How much a row's mean varies by its seed, in the columns of the paired table.

    It is pooled over the rows with several seeds of all tables of these data; None where
    those are too few.
    """
    systems = [
        found
        for name, table in TABLES.items()
        if table.data == data
        for found in read_results(results / name, table).values()
        if len(found) > 1
    ]
    pooled = [
        variance_of_seeds(_gains(found, column) for found in systems)
        for column in _PAIRED
    ]
    return [
        found if found is not None and found.degrees >= _MIN_DEGREES else None
        for found in pooled
    ]


def _gains(results: list[dict[str, Any]], column: tuple[str, str]) -> np.ndarray:
    return gains_of_seeds([result["ranks"] for result in results], *column)


def compare_rows(
    table: Table,
    rows: dict[str, list[dict[str, Any]]],
    of_seeds: Sequence[Variance | None],
) -> list[dict[str, Any]]:
    """The table's pairs of systems, user by user, in the columns of the paired table."""
    gains = {
        name: [_gains(results, column) for column in _PAIRED]
        for name, results in rows.items()
    }
    return [
        {
            "row": row,
            "against": against,
            "seeds": [len(rows[row]), len(rows[against])],
            "differences": [
                compare(*columns)
                for columns in zip(gains[row], gains[against], of_seeds, strict=True)
            ],
        }
        for row, against in pairs_of(table, rows)
    ]


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", choices=sorted(TABLES), required=True)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    directory = given.results / given.table
    table = TABLES[given.table]
    rows = read_results(directory, table)
    if not rows:
        parser.error(f"there is no result in {directory} yet")
    print(f"{table.title}\n\n{main_table(rows)}\n\n{geometry_table(rows)}")
    of_seeds = variances_of_seeds(given.results, table.data)
    comparisons = compare_rows(table, rows, of_seeds)
    if comparisons:
        print(f"\n{paired_table(comparisons)}")


if __name__ == "__main__":
    main()
