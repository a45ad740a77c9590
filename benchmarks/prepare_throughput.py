"""How fast ``prepare`` is, as users run it: a whole process from start to end.

Writes a made-up log, prepares it a few times in fresh processes, and prints each run's
wall time and peak memory beside a floor: a process in which pyarrow only reads the
three columns of the same file, on all cores. ::

    python benchmarks/prepare_throughput.py --rows 10000000 --runs 3
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

SCHEMA = pa.schema([("user", pa.string()), ("item", pa.string()), ("time", pa.int64())])
FLOOR = """
import sys
import pyarrow.csv
print(pyarrow.csv.read_csv(sys.argv[1]).num_rows)
"""
PREPARE = """
import sys
from adaptiverec.pipeline import prepare
prepare(input=[sys.argv[1]], output=sys.argv[2], user_column="user",
        item_column="item", time_column="time")
"""


def write_log(
    path: Path, rows: int, users: int, items: int, chunk: int = 1 << 20
) -> None:
    """Writes a log whose items have the long tail of real ones."""
    rng = np.random.default_rng(0)
    with pyarrow.csv.CSVWriter(
        path,
        SCHEMA,
        write_options=pyarrow.csv.WriteOptions(quoting_style="none"),
    ) as writer:
        for start in range(0, rows, chunk):
            n = min(chunk, rows - start)
            item = (items * rng.random(n) ** 2).astype(np.int64)
            columns = [
                pa.array(np.char.add("u", rng.integers(0, users, n).astype(str))),
                pa.array(np.char.add("i", item.astype(str))),
                pa.array(rng.integers(1_300_000_000, 1_700_000_000, n)),
            ]
            writer.write_batch(pa.record_batch(columns, SCHEMA))


def measure(code: str, *arguments: str) -> tuple[float, float]:
    """Runs Python code in a fresh process.

    Returns:
        Wall seconds, and peak resident memory in GiB.
    """
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"The run failed with status {status}")
    return time.perf_counter() - begin, usage.ru_maxrss / 2**20


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--log", type=Path, help="use this CSV, or make it there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        log = arguments.log or Path(directory) / "log.csv"
        if not log.exists():
            write_log(log, arguments.rows, arguments.users, arguments.items)
        print(f"{arguments.rows:,} rows, {log.stat().st_size / 1e6:,.0f} MB")
        floor, prepared = [], []
        for run in range(arguments.runs):
            floor.append(measure(FLOOR, str(log)))
            prepared.append(measure(PREPARE, str(log), f"{directory}/out-{run}"))
            for name, (seconds, memory) in (
                ("floor", floor[-1]),
                ("prepare", prepared[-1]),
            ):
                rate = arguments.rows / seconds
                print(
                    f"{name:8} {seconds:6.2f} s {rate:12,.0f} rows/s {memory:5.2f} GiB"
                )
        medians = [statistics.median(s for s, _ in runs) for runs in (floor, prepared)]
        print(
            f"median: floor {medians[0]:.2f} s, prepare {medians[1]:.2f} s, "
            f"ratio {medians[1] / medians[0]:.1f}"
        )


if __name__ == "__main__":
    main()
