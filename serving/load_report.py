"""What a load test measured: totals, windows of time, and a table of them.

Percentiles are exact: every latency is kept, and the p-th percentile is the smallest one
that at least p % do not exceed (nearest rank).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import grpc

from adaptiverec.serving.load_worker import OK, Samples

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "PERCENTILES",
    "in_milliseconds",
    "percentile",
    "print_load_report",
    "summarize",
]

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)

_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of sorted numbers, of which there is at least one."""
    # 99.9 % of 1000 is 999.0000000000001 in floating point.
    rank = math.ceil(round(len(ordered) * percent / 100, 6))
    return ordered[max(rank, 1) - 1]


def summarize(samples: Samples, seconds: float, window: float) -> dict[str, Any]:
    """Totals and windows.

    Requests, errors and latencies are those of requests that were due within the time;
    requests a second counts answers that came within it. Latencies are of answered
    requests; those that failed are counted by their status.

    Args:
        samples: All requests.
        seconds: How long the test was.
        window: How long each window is; the last one may be shorter.

    Returns:
        ``total``, ``messages`` (one of each status) and ``windows``, for JSON.
    """
    count = max(1, math.ceil(round(seconds / window, 6)))
    due: list[list[int]] = [[] for _ in range(count)]
    answers = [0] * count
    for n, (at, latency, code) in enumerate(
        zip(samples.due, samples.latency, samples.code, strict=True)
    ):
        due[min(int(at / window), count - 1)].append(n)
        if code == OK and at + latency < seconds:
            answers[min(int((at + latency) / window), count - 1)] += 1
    windows = []
    for number in range(count):
        start = number * window
        length = min(window, seconds - start)
        part = _part(samples, due[number], answers[number], length)
        windows.append({"start": round(start, 6), **part})
    total = _part(samples, range(len(samples.due)), sum(answers), seconds)
    messages = {
        _CODES.get(code, str(code)): samples.messages[code]
        for code in sorted(samples.messages)
    }
    return {"total": total, "messages": messages, "windows": windows}


def _part(
    samples: Samples, numbers: Iterable[int], answers: int, seconds: float
) -> dict[str, Any]:
    latencies, errors, versions = [], Counter[str](), Counter[int]()
    for n in numbers:
        code = samples.code[n]
        if code == OK:
            latencies.append(samples.latency[n])
            versions[samples.version[n]] += 1
        else:
            errors[_CODES.get(code, str(code))] += 1
    return {
        "seconds": round(seconds, 6),
        "requests": len(latencies) + errors.total(),
        "errors": dict(sorted(errors.items())),
        "requests_per_second": round(answers / seconds, 3),
        "latency_ms": in_milliseconds(latencies),
        "versions": {str(version): versions[version] for version in sorted(versions)},
    }


def in_milliseconds(numbers: Iterable[float]) -> dict[str, float] | None:
    """Mean, percentiles and the most of seconds; None of none."""
    ordered = sorted(numbers)
    if not ordered:
        return None
    figures = {"mean": math.fsum(ordered) / len(ordered)}
    figures |= {f"p{p:g}": percentile(ordered, p) for p in PERCENTILES}
    figures["max"] = ordered[-1]
    return {name: round(1e3 * seconds, 4) for name, seconds in figures.items()}


def print_load_report(report: dict[str, Any]) -> None:
    """Prints a report of :func:`~adaptiverec.serving.load_test.loadtest` as tables."""
    from rich.console import Console

    generator = report["generator"]
    loop = (
        f"closed loop, {report['clients']} clients"
        if report["loop"] == "closed"
        else f"open loop, {report['rate']:g} requests/s due"
    )
    console = Console()
    console.print(
        f"{loop}, {report['seconds']:g} s, {report['batch_size']} histories a request; "
        "latencies in ms",
        highlight=False,
    )
    table = _table()
    for part in report["windows"]:
        _add_row(table, f"{part['start']:g}", part)
    table.add_section()
    _add_row(table, "all", report["total"])
    console.print(table)
    for code, count in report["total"]["errors"].items():
        message = report["messages"].get(code, "")
        # Not markup, whatever a server says.
        console.print(f"{count:,} {code}, such as: {message}", markup=False)
    late = generator["late_ms"]
    text = f"; requests sent late by {late['p99']:.1f} ms at p99" if late else ""
    console.print(
        f"the generator: {generator['processes']} process(es), the busiest at "
        f"{generator['busiest']:.0%} of a core{text}",
        highlight=False,
    )


def _table() -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    names = ["from s", "requests", "ok/s", *(f"p{p:g}" for p in PERCENTILES), "max"]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("errors", justify="right", no_wrap=True)
    table.add_column("version")
    return table


def _add_row(table: Table, name: str, part: dict[str, Any]) -> None:
    latency = part["latency_ms"]
    names = [*(f"p{p:g}" for p in PERCENTILES), "max"]
    table.add_row(
        name,
        f"{part['requests']:,}",
        f"{part['requests_per_second']:,.0f}",
        *(_shown(latency[name]) if latency else "" for name in names),
        f"{sum(part['errors'].values()):,}",
        ", ".join(part["versions"]),
    )


def _shown(milliseconds: float) -> str:
    return f"{milliseconds:.1f}" if milliseconds < 1000 else f"{milliseconds:,.0f}"
