"""What many rounds of dropping rare users and items cost ``prepare``.

Two logs of as many rows and users, of which the same rows stay. One loses the others in
one round; the other holds chains that lose nothing but their ends in a round (see
``make_log.py``), so that a script that counts and drops in turns needs hundreds. How
many is counted here. ::

    python benchmarks/prepare_k_core.py --rows 5000000
"""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

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

# In a process of its own: nothing heavy runs beside what is measured.
COUNT = """
import sys
import make_log
links = int(sys.argv[1])
for edges in (make_log.pair_edges(links // 2), make_log.chain_edges(1, links)):
    print(*make_log.count_rounds(*edges))
"""


def rounds_of(links: int) -> dict[str, int]:
    """Rounds to peel a chain of so many links, and pairs; they are alike and apart.

    Raises:
        SystemExit: Something stays.
    """
    done = subprocess.run(
        [sys.executable, "-c", COUNT, str(links)],
        cwd=HERE,
        check=True,
        capture_output=True,
        text=True,
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    if any(left != "0" for _, left in lines):
        raise SystemExit("Chains and pairs must peel off wholly")
    return {
        kind: int(rounds)
        for kind, (rounds, _) in zip(("pairs", "chains"), lines, strict=True)
    }


def main() -> None:
    """Runs the benchmark."""
    parser = benchmark_parser(__doc__, runs=3)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--items", type=int, default=12_500)
    parser.add_argument("--links", type=int, default=1_000, help="of a chain")
    given = parser.parse_args()
    rounds = rounds_of(given.links)
    with scratch_directory(given.directory) as directory:

        def prepare(log: Path, run: int) -> Measurement:
            return measure_prepare(log, directory / f"out-{run}")

        jobs = {}
        for kind in rounds:
            log = directory / f"{kind}.csv"
            sizes = {key: getattr(given, key) for key in ("rows", "users", "items")}
            make_log(log, kind=kind, links=given.links, **sizes)
            jobs[kind] = functools.partial(prepare, log)
        summaries = summarise(in_turns(jobs, given.runs))
    kept = {name: s.runs[0].result["fingerprint"] for name, s in summaries.items()}
    if len(set(kept.values())) != 1:
        raise SystemExit(f"The same rows must stay of both logs. Received: {kept}")
    first = summaries["pairs"]
    report(
        f"{given.rows:,} rows, the same rows stay, medians of {given.runs}",
        [
            "log",
            "rounds",
            "rows kept",
            "s without imports",
            "ratio",
            "peak GiB",
        ],
        [
            [
                name,
                str(rounds[name]),
                f"{summary.runs[0].result['counts']['kept']:,}",
                f"{summary.seconds:.2f}",
                f"{summary.seconds / first.seconds:.2f}",
                f"{summary.peak_gib:.2f}",
            ]
            for name, summary in summaries.items()
        ],
        summaries,
        given.json,
    )


if __name__ == "__main__":
    main()
