"""How fast the model trains and evaluates, and how near that is to the machine's floor.

AdaptiveRec, views us_x, batch 1024, 64 dimensions, 2 blocks, length 50, through ``fit`` and
``evaluate`` on prepared data, beside the same model made of Keras' own layers. ::

    python benchmarks/training_speed.py --data PREPARED

Without ``--data``, a log of the size of Amazon Beauty is made; its histories are shorter.
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
    benchmark_parser,
    in_turns,
    make_log,
    measure,
    prepare_command,
    report,
    scratch_directory,
    summarise,
)

BATCH_SIZE = 1024
# Too slow for as many.
RIVAL_SHARE = 0.25


def median(runs: list[Measurement], key: str) -> float:
    """The median of what the runs said."""
    return statistics.median(run.result[key] for run in runs)


def row(name: str, runs: list[Measurement], peak_gib: float) -> list[str]:
    """A row of the table."""
    step = median(runs, "step_seconds")
    achieved = median(runs, "step_gflop") / step
    return [
        name,
        f"{1000 * step:.0f}",
        f"{1000 * median(runs, 'step_processor_seconds'):.0f}",
        f"{BATCH_SIZE / step:,.0f}",
        f"{achieved:.0f}",
        f"{achieved / median(runs, 'gemm_gflops_per_second'):.2f}",
        f"{median(runs, 'evaluation_seconds'):.2f}",
        f"{peak_gib:.2f}",
    ]


def main() -> None:
    """Runs the benchmark."""
    parser = benchmark_parser(__doc__, runs=3)
    parser.add_argument("--data", type=Path, help="a prepared directory")
    parser.add_argument("--steps", type=int, default=60, help="default: %(default)s")
    parser.add_argument("--warm-up", type=int, default=8, help="default: %(default)s")
    given = parser.parse_args()
    with scratch_directory(given.directory) as directory:
        data = given.data
        if data is None:
            log, data = directory / "log.csv", directory / "data"
            make_log(log, kind="even", rows=200_000, users=22_000, items=12_000)
            measure(prepare_command(log, data))

        def train(kind: str, steps: int, side_by_side: bool, _: int) -> Measurement:
            arguments = {
                "data": str(data),
                "kind": kind,
                "side_by_side": side_by_side,
                "steps": steps,
                "warm_up": given.warm_up,
            }
            script = str(HERE / "timed_training.py")
            return measure([sys.executable, script, json.dumps(arguments)])

        jobs = {
            "adaptiverec": functools.partial(train, "fast", given.steps, True),
            "with TensorFlow's default threads": functools.partial(
                train, "fast", given.steps, False
            ),
            "Keras' own layers": functools.partial(
                train, "plain", max(round(given.steps * RIVAL_SHARE), 3), False
            ),
        }
        summaries = summarise(in_turns(jobs, given.runs))
    evaluated = summaries["adaptiverec"].runs[0].result["evaluated"]
    report(
        f"Training at batch {BATCH_SIZE}, evaluation of {evaluated:,} users, "
        f"medians of {given.runs}",
        [
            "model",
            "ms a step",
            "processor ms",
            "sequences/s",
            "GFLOP/s",
            "of a large product's",
            "s evaluation",
            "peak GiB",
        ],
        [row(name, s.runs, s.peak_gib) for name, s in summaries.items()],
        summaries,
        given.json,
    )


if __name__ == "__main__":
    main()
