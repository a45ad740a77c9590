"""How fast ``prepare`` is with the same rows in each format that it reads.

CSV and other text is cut into ranges that all cores read; one core reads a compressed
file, and an Avro file. The output must be the same from all. ::

    python benchmarks/prepare_formats.py --rows 2000000
"""

from __future__ import annotations

import functools
import subprocess
import sys
from typing import Any

from measure import (
    HERE,
    Measurement,
    benchmark_parser,
    in_turns,
    make_log,
    measure_prepare,
    report,
    scratch_directory,
    summarise,
)

# By the extension of the file: what it is, and what `prepare` has to be told.
BY_POSITION = {"user_column": "0", "item_column": "1", "time_column": "2"}
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "csv": ("CSV", {}),
    "csv.gz": ("CSV, gzip", {}),
    "csv.zst": ("CSV, zstd", {}),
    "dat": ("text with `::`", {"delimiter": "::", "header": False, **BY_POSITION}),
    "jsonl": ("JSON lines", {}),
    "parquet": ("Parquet", {}),
    "avro": ("Avro", {}),
}


def main() -> None:
    """Runs the benchmark."""
    parser = benchmark_parser(__doc__, runs=3)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--users", type=int, default=40_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--formats", nargs="*", choices=[*FORMATS], default=[*FORMATS])
    given = parser.parse_args()
    with scratch_directory(given.directory) as directory:
        source = directory / "log.csv"
        make_log(source, rows=given.rows, users=given.users, items=given.items)

        def prepare(extension: str, run: int) -> Measurement:
            log, output = directory / f"log.{extension}", directory / f"out-{run}"
            return measure_prepare(log, output, **FORMATS[extension][1])

        sizes, jobs = {}, {}
        for extension in given.formats:
            log = directory / f"log.{extension}"
            if extension != "csv":
                script = str(HERE / "convert_log.py")
                subprocess.run([sys.executable, script, source, log], check=True)
            name = FORMATS[extension][0]
            sizes[name] = log.stat().st_size
            jobs[name] = functools.partial(prepare, extension)
        summaries = summarise(in_turns(jobs, given.runs))
    outputs = {name: s.runs[0].result["fingerprint"] for name, s in summaries.items()}
    report(
        f"{given.rows:,} rows, medians of {given.runs}",
        ["format", "MB", "s without imports", "rows/s without imports", "peak GiB"],
        [
            [
                name,
                f"{sizes[name] / 1e6:,.0f}",
                f"{summary.seconds:.2f}",
                f"{given.rows / summary.seconds / 1e6:.2f} M",
                f"{summary.peak_gib:.2f}",
            ]
            for name, summary in summaries.items()
        ],
        summaries,
        given.json,
    )
    if len(set(outputs.values())) > 1:
        raise SystemExit(f"All formats must give the same output. Received: {outputs}")


if __name__ == "__main__":
    main()
