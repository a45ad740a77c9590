"""Whole processes, measured from outside: wall time, own time, peak memory.

Peak memory is sampled from /proc: what ``wait4`` gives is of one process alone, and on
Linux never less than the peak of the process that started it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = [
    "HERE",
    "Measurement",
    "Summary",
    "benchmark_parser",
    "compare_outputs",
    "delete_output",
    "in_turns",
    "machine",
    "make_log",
    "markdown_table",
    "measure",
    "measure_prepare",
    "prepare_command",
    "report",
    "scratch_directory",
    "summarise",
]

HERE = Path(__file__).parent
_GIB_IN_KIB = 2**20
# Short enough to catch the peak, long enough not to disturb.
_SAMPLING_SECONDS = 0.05
_COLUMNS = ("user", "item", "time")


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One process from start to end.

    Attributes:
        wall_seconds: From its start to its end.
        seconds: What it says itself: the work without the imports.
        peak_gib: Peak resident memory, of the process and its children together.
        result: All that it said.
    """

    wall_seconds: float
    seconds: float
    peak_gib: float
    result: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Summary:
    """Medians of several runs of one job, and all the runs."""

    name: str
    wall_seconds: float
    seconds: float
    peak_gib: float
    runs: list[Measurement]


def measure(command: Sequence[str]) -> Measurement:
    """Runs a command whose last line of output is JSON with the key ``seconds``.

    Raises:
        SystemExit: The command failed; with the end of what it printed.
    """
    # What the last run left to be written to disk must not slow this one.
    os.sync()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err)
        with _sampled_memory(process.pid) as sampled:
            _, status, usage = os.wait4(process.pid, 0)
            wall_seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    if process.returncode:
        raise SystemExit(
            f"{' '.join(command)} failed with status {process.returncode}:\n"
            f"{texts[1][-4000:]}"
        )
    result = json.loads(texts[0].splitlines()[-1])
    # Where there is no /proc, what there is.
    peak_kib = sampled[0] or usage.ru_maxrss
    return Measurement(wall_seconds, result["seconds"], peak_kib / _GIB_IN_KIB, result)


@contextmanager
def _sampled_memory(pid: int) -> Iterator[list[int]]:
    """Gives a list whose one element becomes the peak in KiB of a tree of processes."""
    peak, done = [0], threading.Event()

    def sample() -> None:
        while True:
            # The first process' own peak is known exactly up to its last sample.
            peak[0] = max(peak[0], _memory_kib(pid, "VmRSS"), _own_kib(pid, "VmHWM"))
            if done.wait(_SAMPLING_SECONDS):
                return

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def _memory_kib(pid: int, key: str) -> int:
    """Memory of a process and all below it."""
    try:
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        # Ended meanwhile.
        children = []
    return _own_kib(pid, key) + sum(_memory_kib(child, key) for child in children)


def _own_kib(pid: int, key: str) -> int:
    """Memory of a process by one of the keys of /proc; 0 where it is not there."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def prepare_command(log: Path, output: Path, **options: Any) -> list[str]:
    """The command that prepares a log and says how long it took without imports.

    Args:
        log: Of the columns ``user``, ``item`` and ``time``.
        output: Directory to write.
        **options: Of ``prepare``, in addition.
    """
    columns = {f"{name}_column": name for name in _COLUMNS}
    arguments = {"input": [str(log)], "output": str(output), **columns, **options}
    script = str(HERE / "timed_prepare.py")
    return [sys.executable, script, json.dumps(arguments)]


def measure_prepare(log: Path, output: Path, **options: Any) -> Measurement:
    """Measures ``prepare`` of a log; the output is deleted. Arguments as above."""
    measurement = measure(prepare_command(log, output, **options))
    delete_output(output)
    return measurement


def delete_output(output: Path) -> None:
    """Deletes an output directory of two levels at most."""
    for path in sorted(output.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    output.rmdir()


def in_turns(
    jobs: Mapping[str, Callable[[int], Measurement]], runs: int
) -> dict[str, list[Measurement]]:
    """Runs all jobs, then all again, and so on, so that a busy minute hits them alike.

    Args:
        jobs: By name; each is called with the number of the run, from 0.
        runs: How many times.
    """
    results: dict[str, list[Measurement]] = {name: [] for name in jobs}
    for run in range(runs):
        for name, job in jobs.items():
            measurement = job(run)
            results[name].append(measurement)
            print(
                f"{name:24} {measurement.wall_seconds:7.2f} s, without imports "
                f"{measurement.seconds:7.2f} s, {measurement.peak_gib:5.2f} GiB",
                file=sys.stderr,
                flush=True,
            )
    return results


def summarise(results: dict[str, list[Measurement]]) -> dict[str, Summary]:
    """Medians of each job."""

    def median(runs: list[Measurement], field: str) -> float:
        return statistics.median(getattr(run, field) for run in runs)

    return {
        name: Summary(
            name,
            median(runs, "wall_seconds"),
            median(runs, "seconds"),
            median(runs, "peak_gib"),
            runs,
        )
        for name, runs in results.items()
    }


def make_log(path: Path, **options: Any) -> None:
    """Makes a log, in a process of its own, unless it is there already.

    Args:
        path: The file.
        **options: The options of ``make_log.py``.
    """
    if path.exists():
        return
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [sys.executable, str(HERE / "make_log.py"), str(path), *flags]
    subprocess.run(command, check=True)


def compare_outputs(expected: Path, actual: Path) -> str:
    """Compares two outputs, in a process of its own.

    Returns:
        How equal they are, in words.

    Raises:
        SystemExit: They are not.
    """
    script = str(HERE / "compare_outputs.py")
    command = [sys.executable, script, str(expected), str(actual)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{actual} differs from {expected}: {done.stderr[-2000:]}")
    return done.stdout.strip()


def machine() -> str:
    """Cores and memory."""
    gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, {gib:.0f} GiB, Python {sys.version.split()[0]}"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table: the first column to the left, all others to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def benchmark_parser(doc: str | None, *, runs: int) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks have.

    Args:
        doc: The docstring of the script.
        runs: How many runs the medians are of, unless told.
    """
    parser = argparse.ArgumentParser(description=(doc or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=runs, help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="write all measurements there")
    parser.add_argument(
        "--directory", type=Path, help="work below it; default: the system's own"
    )
    return parser


@contextmanager
def scratch_directory(parent: Path | None) -> Iterator[Path]:
    """A directory for logs and outputs that is deleted in the end."""
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=parent) as directory:
        yield Path(directory)


def report(
    title: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    summaries: dict[str, Summary],
    json_path: Path | None,
) -> None:
    """Prints the table, and writes all measurements where that is asked for.

    Args:
        title: What was measured.
        head: The head of the table.
        rows: Its rows.
        summaries: All measurements.
        json_path: Where to write them, or None.
    """
    print(f"{title}; {machine()}\n")
    print(markdown_table(head, rows))
    if json_path is not None:
        content = {
            "title": title,
            "machine": machine(),
            "medians_and_runs": [dataclasses.asdict(s) for s in summaries.values()],
        }
        json_path.write_text(json.dumps(content, indent=2) + "\n")
