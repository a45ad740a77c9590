"""Fills a table of the quality benchmark, run by run, over as many sittings as it takes.

    python benchmarks/quality/fill.py --table beauty-poster --data PREPARED --work WORK

Runs that have a result are skipped; one that was stopped goes on after its last finished
epoch. So the command may be killed at any moment and given again. Several may work on one
WORK at a time: a run is taken by one of them. ``--list`` says what there is to do.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tables import TABLES, Job, jobs_of

HERE = Path(__file__).parent
RESULTS = HERE / "results"


@contextmanager
def taken(path: Path) -> Iterator[bool]:
    """Whether this process has the run; until the block ends, no other gets it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def result_path(results: Path, job: Job) -> Path:
    """Where the figures of a run are written."""
    return results / job.table / f"{job.name}.json"


def arguments_of(job: Job, data: Path, work: Path, results: Path) -> dict[str, Any]:
    """What `one_run.py` is told."""
    directory = work / job.table
    return {
        "table": job.table,
        "row": job.row,
        "seed": job.seed,
        "options": job.options,
        "data": str(data),
        "run": str(directory / "runs" / job.name),
        "result": str(result_path(results, job)),
    }


def fill(jobs: list[Job], *, data: Path, work: Path, results: Path) -> list[Job]:
    """Does all jobs that have no result.

    Args:
        jobs: What there is to do, in this order.
        data: The prepared directory.
        work: Where runs and logs are kept.
        results: Where figures and ranks are written.

    Returns:
        The jobs that failed; the log of each stands in WORK/TABLE/logs.
    """
    failed = []
    for job in jobs:
        result = result_path(results, job)
        directory = work / job.table
        with taken(directory / "locks" / job.name) as mine:
            if result.is_file() or not mine:
                continue
            for path in (result.parent, directory / "logs"):
                path.mkdir(parents=True, exist_ok=True)
            print(f"{job.table}: {job.row}, seed {job.seed}", flush=True)
            with (directory / "logs" / f"{job.name}.log").open("a") as log:
                arguments = json.dumps(arguments_of(job, data, work, results))
                done = subprocess.run(
                    [sys.executable, str(HERE / "one_run.py"), arguments],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    check=False,
                )
            if done.returncode:
                failed.append(job)
                print(f"  failed, see {log.name}", flush=True)
    return failed


def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", choices=sorted(TABLES), required=True)
    parser.add_argument("--data", type=Path, help="the prepared directory")
    parser.add_argument("--work", type=Path, help="where runs and logs are kept")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="default: %(default)s"
    )
    parser.add_argument("--rows", nargs="+", help="only rows of these names")
    parser.add_argument("--seeds", nargs="+", type=int, help="only these seeds")
    parser.add_argument("--list", action="store_true", help="only say what is open")
    given = parser.parse_args()
    jobs = [
        job
        for job in jobs_of(given.table)
        if (not given.rows or job.row in given.rows)
        and (given.seeds is None or job.seed in given.seeds)
    ]
    if given.list:
        for job in jobs:
            done = result_path(given.results, job).is_file()
            print(f"{'done' if done else 'open'}  {job.row}, seed {job.seed}")
        return
    if given.data is None or given.work is None:
        parser.error("--data and --work are needed")
    failed = fill(jobs, data=given.data, work=given.work, results=given.results)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
