"""How time and memory of ``prepare`` grow with the log, and what one hot user costs.

Every user has 50 rows on average, so that a longer log has more users. Time should grow
with the rows, and peak memory hardly. The hot log has half of its rows from one user,
and stands beside an even log of its size. ::

    python benchmarks/prepare_growth.py --rows 1000000 10000000 40000000
"""

from __future__ import annotations

import functools
from pathlib import Path

from measure import (
    Measurement,
    benchmark_parser,
    in_turns,
    make_log,
    measure_prepare,
    report,
    scratch_directory,
    summarise,
)

ROWS_OF_A_USER = 50


def main() -> None:
    """Runs the benchmark."""
    parser = benchmark_parser(__doc__, runs=3)
    parser.add_argument(
        "--rows", type=int, nargs="*", default=[1_000_000, 10_000_000, 40_000_000]
    )
    parser.add_argument("--hot-rows", type=int, default=2_000_000, help="0: no hot log")
    parser.add_argument("--items", type=int, default=50_000)
    given = parser.parse_args()
    logs = {f"even, {rows:,} rows": ("even", rows) for rows in given.rows}
    if given.hot_rows:
        logs[f"even, {given.hot_rows:,} rows"] = ("even", given.hot_rows)
        logs[f"hot, {given.hot_rows:,} rows"] = ("hot", given.hot_rows)
    with scratch_directory(given.directory) as directory:

        def prepare(log: Path, run: int) -> Measurement:
            return measure_prepare(log, directory / f"out-{run}")

        jobs = {}
        for name, (kind, rows) in logs.items():
            log = directory / f"{kind}-{rows}.csv"
            users = max(rows // ROWS_OF_A_USER, 1)
            make_log(log, kind=kind, rows=rows, users=users, items=given.items)
            jobs[name] = functools.partial(prepare, log)
        summaries = summarise(in_turns(jobs, given.runs))
    report(
        f"Growth, medians of {given.runs}",
        ["log", "s", "s without imports", "rows/s without imports", "peak GiB"],
        [
            [
                name,
                f"{summary.wall_seconds:.2f}",
                f"{summary.seconds:.2f}",
                f"{logs[name][1] / summary.seconds / 1e6:.2f} M",
                f"{summary.peak_gib:.2f}",
            ]
            for name, summary in summaries.items()
        ],
        summaries,
        given.json,
    )


if __name__ == "__main__":
    main()
