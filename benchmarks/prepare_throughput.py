"""How fast ``prepare`` is beside honest rivals: whole processes, run in turns.

The rivals are the scripts in ``rivals/``: they follow the same rules and write the same
records, which is checked here after the first round. The floor is a process in which
pyarrow only reads the three columns, on all cores. ::

    python benchmarks/prepare_throughput.py --rows 10000000 --runs 3
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from measure import (
    HERE,
    Measurement,
    Summary,
    benchmark_parser,
    compare_outputs,
    delete_output,
    in_turns,
    make_log,
    measure,
    measure_prepare,
    prepare_command,
    report,
    scratch_directory,
    summarise,
)

FLOOR, OURS = "floor: pyarrow reads", "prepare, no report"
# What it does by default; no rival draws a report.
WITH_REPORT = "prepare"
RIVALS = {
    "polars-tuned": "polars_prepare.py",
    "polars-usual": "polars_usual.py",
    "pandas": "pandas_prepare.py",
}
READ = """
import json, sys, time
import pyarrow.csv
begin = time.perf_counter()
rows = pyarrow.csv.read_csv(sys.argv[1]).num_rows
print(json.dumps({"seconds": time.perf_counter() - begin, "rows": rows}))
"""


class Jobs:
    """The jobs, each a whole process that reads the log.

    Args:
        log: The log.
        directory: Where to write outputs.
    """

    def __init__(self, log: Path, directory: Path) -> None:
        self._log = log
        self._directory = directory
        self._expected = directory / "expected"
        self.verdicts: dict[str, str] = {}

    def floor(self, _: int) -> Measurement:
        """Reads and does nothing."""
        return measure([sys.executable, "-c", READ, str(self._log)])

    def with_report(self, _: int) -> Measurement:
        """Prepares, and draws the report."""
        return measure_prepare(self._log, self._directory / "ours")

    def ours(self, run: int) -> Measurement:
        """Prepares; what the first run wrote is what rivals have to write."""
        output = self._directory / "ours" if run else self._expected
        measurement = measure(prepare_command(self._log, output, report=False))
        if run:
            delete_output(output)
        return measurement

    def rival(self, name: str, run: int) -> Measurement:
        """Runs a rival; compares its first output."""
        output = self._directory / name
        script = str(HERE / "rivals" / RIVALS[name])
        measurement = measure([sys.executable, script, str(self._log), str(output)])
        if not run:
            self.verdicts[name] = compare_outputs(self._expected, output)
        delete_output(output)
        return measurement


def main() -> None:
    """Runs the benchmark."""
    parser = benchmark_parser(__doc__, runs=3)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--log", type=Path, help="use this CSV, or make it there")
    parser.add_argument(
        "--rivals", nargs="*", choices=[*RIVALS], default=[*RIVALS], help="default: all"
    )
    given = parser.parse_args()
    with scratch_directory(given.directory) as directory:
        log = given.log or directory / "log.csv"
        make_log(log, rows=given.rows, users=given.users, items=given.items)
        jobs = Jobs(log, directory)
        results = in_turns(
            {
                FLOOR: jobs.floor,
                WITH_REPORT: jobs.with_report,
                OURS: jobs.ours,
                **{name: functools.partial(jobs.rival, name) for name in given.rivals},
            },
            given.runs,
        )
        size = f"{log.stat().st_size / 1e6:,.0f} MB"
    summaries = summarise(results)
    rows = results[FLOOR][0].result["rows"]
    report(
        f"{rows:,} rows, {size}, medians of {given.runs}",
        [
            "job",
            "s",
            "s without imports",
            "rows/s without imports",
            "peak GiB",
            "prepare, no report: of its time",
            "without imports",
            "output",
        ],
        [_row(s, summaries[OURS], rows, jobs.verdicts) for s in summaries.values()],
        summaries,
        given.json,
    )


def _row(
    summary: Summary, ours: Summary, rows: int, verdicts: dict[str, str]
) -> list[str]:
    return [
        summary.name,
        f"{summary.wall_seconds:.2f}",
        f"{summary.seconds:.2f}",
        f"{rows / summary.seconds / 1e6:.2f} M",
        f"{summary.peak_gib:.2f}",
        f"{ours.wall_seconds / summary.wall_seconds:.2f}",
        f"{ours.seconds / summary.seconds:.2f}",
        verdicts.get(summary.name, ""),
    ]


if __name__ == "__main__":
    main()
