"""What a training step costs as the catalogue grows, by the whole softmax and by samples.

SASRec, batch 1024, 64 dimensions, 2 blocks, length 50; the whole softmax beside the sampled
one with its 2,048 negatives, on made-up sequences. ::

    python benchmarks/catalogue_size.py
"""

from __future__ import annotations

import functools
import json
import statistics
import sys

from measure import (
    HERE,
    Measurement,
    Summary,
    benchmark_parser,
    in_turns,
    measure,
    report,
    summarise,
)

BATCH_SIZE = 1024
# A batch's scores of a million items, and what is made of them, are a dozen GiB.
SIZES = {
    "softmax": (10_000, 100_000),
    "sampled_softmax": (10_000, 100_000, 1_000_000),
}


def train(num_items: int, next_item: str, steps: int, _: int) -> Measurement:
    """One process that trains."""
    arguments = {"num_items": num_items, "next_item": next_item, "steps": steps}
    script = str(HERE / "timed_catalogue.py")
    return measure([sys.executable, script, json.dumps(arguments)])


def row(name: str, summary: Summary) -> list[str]:
    """A row of the table."""

    def median(key: str) -> float:
        return statistics.median(run.result[key] for run in summary.runs)

    step = median("step_seconds")
    return [
        name,
        f"{1000 * step:.0f}",
        f"{BATCH_SIZE / step:,.0f}",
        f"{1000 * median('target_seconds'):.2f}",
        f"{summary.peak_gib:.2f}",
    ]


def main() -> None:
    """Runs the benchmark."""
    parser = benchmark_parser(__doc__, runs=3)
    parser.add_argument("--steps", type=int, default=10, help="default: %(default)s")
    given = parser.parse_args()
    jobs = {
        f"{next_item}, {num_items:,} items": functools.partial(
            train, num_items, next_item, given.steps
        )
        for next_item, sizes in SIZES.items()
        for num_items in sizes
    }
    summaries = summarise(in_turns(jobs, given.runs))
    report(
        f"Training at batch {BATCH_SIZE} by size of the catalogue, medians of {given.runs}",
        ["loss", "ms a step", "sequences/s", "ms to rank a target", "peak GiB"],
        [row(name, summary) for name, summary in summaries.items()],
        summaries,
        given.json,
    )


if __name__ == "__main__":
    main()
