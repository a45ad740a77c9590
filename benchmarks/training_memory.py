"""Memory and speed of training batches, from sequences in memory and streamed from shards.

Batches of 1,024 of length 50 with sequences of the same target, nothing trained; so the
memory is that of the data alone, beside a process that only imports what is needed. ::

    python benchmarks/training_memory.py --rows 2000000 20000000
"""

from __future__ import annotations

import functools
import json
import statistics
import sys
from pathlib import Path

from measure import (
    HERE,
    Measurement,
    Summary,
    benchmark_parser,
    in_turns,
    make_log,
    measure,
    prepare_command,
    report,
    scratch_directory,
    summarise,
)

_ROWS_A_USER = 20


def batches(data: Path, kind: str, most: int, _: int) -> Measurement:
    """One process that makes batches."""
    arguments = {"data": str(data), "kind": kind, "batches": most}
    return measure(
        [sys.executable, str(HERE / "timed_batches.py"), json.dumps(arguments)]
    )


def row(name: str, summary: Summary, floor_gib: float) -> list[str]:
    """A row of the table."""

    def median(key: str) -> float:
        return statistics.median(run.result[key] for run in summary.runs)

    return [
        name,
        f"{median('train_instances'):,.0f}",
        f"{median('first_batch_seconds'):.1f}",
        f"{median('instances_per_second'):,.0f}",
        f"{median('processor_seconds_per_million'):.1f}",
        f"{summary.peak_gib:.2f}",
        f"{summary.peak_gib - floor_gib:.2f}",
    ]


def main() -> None:
    """Runs the benchmark."""
    parser = benchmark_parser(__doc__, runs=3)
    parser.add_argument(
        "--rows",
        type=int,
        nargs="+",
        default=[2_000_000, 20_000_000],
        help="of the logs",
    )
    parser.add_argument(
        "--items", type=int, default=50_000, help="default: %(default)s"
    )
    parser.add_argument(
        "--batches", type=int, default=1_000, help="at most; default: %(default)s"
    )
    given = parser.parse_args()
    with scratch_directory(given.directory) as directory:
        jobs = {}
        for rows in given.rows:
            log, data = directory / f"log-{rows}.csv", directory / f"data-{rows}"
            users = rows // _ROWS_A_USER
            make_log(log, kind="even", rows=rows, users=users, items=given.items)
            measure(prepare_command(log, data))
            log.unlink()
            jobs |= {
                f"{words}, {rows:,} rows": functools.partial(
                    batches, data, kind, given.batches
                )
                for kind, words in (("memory", "in memory"), ("stream", "streamed"))
            }
        floor = functools.partial(batches, data, "nothing", 0)
        summaries = summarise(in_turns({**jobs, "imports": floor}, given.runs))
    floor_gib = summaries["imports"].peak_gib
    report(
        f"Training batches, {given.items:,} items, medians of {given.runs}",
        [
            "sequences",
            "instances",
            "s to the first batch",
            "instances/s",
            "processor s a million",
            "peak GiB",
            f"above the imports' {floor_gib:.2f}",
        ],
        [row(name, summaries[name], floor_gib) for name in jobs],
        summaries,
        given.json,
    )


if __name__ == "__main__":
    main()
