"""`adaptiverec tune`: a search for options of `train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

__all__ = ["print_trials", "tune"]


def tune(
    *,
    data: str,
    ranges: str,
    output: str,
    trials: int = 20,
    method: Literal["bayesian", "random", "grid"] = "bayesian",
    seed: int = 0,
    resume: bool = False,
) -> dict[str, Any]:
    """Searches the options of train by the validation targets.

    Each trial is a run of its own; the best is that with the highest NDCG@10 of the
    validation targets in its best epoch. Test targets are never looked at. KerasTuner
    chooses what is tried.

    The output holds best.yaml, which `train --config` takes, trials.json with every trial,
    and the runs themselves in trials/.

    Args:
        data: A prepared directory, with validation targets.
        ranges: YAML file of options of train, named with underscores: a list is choices,
            {min, max} a range (with step, or with sampling: log), anything else what every
            trial has.
        output: The directory to make.
        trials: How many runs at most, those before a resumption counted.
        method: bayesian (a Gaussian process), random, or grid (every combination; a range
            without a step gives ten values).
        seed: Of the search. The runs have that of the ranges, or 0.
        resume: Go on with the search in `output`, with the run that was cut off; data,
            ranges, method and seed must be the same.

    Returns:
        What trials.json has: the trials in their order, and the best one's number.

    Raises:
        NotFoundError: The data or the ranges do not exist, or there is no search to resume.
        OutputExistsError: The output exists and `resume` is not set.
        ContractError: The data is not whole, or not that of the search to resume.
        InvalidValueError: An argument or a range is outside its rule, or the data has no
            validation targets.
        StageError: No trial came to its end.
    """
    # TensorFlow takes seconds to import; `--help` and wrong options need not wait for it.
    from adaptiverec.model.search import run_search

    return run_search(
        data=data,
        ranges=Path(ranges),
        output=Path(output),
        trials=trials,
        method=method,
        seed=seed,
        resume=resume,
    )


def print_trials(result: dict[str, Any]) -> None:
    """Prints the trials of :func:`tune` as a table, the best first."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    names = result["searched"]
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("trial", justify="right")
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("NDCG@10, validation", justify="right")
    table.add_column("best epoch", justify="right")
    # Failed ones last.
    ordered = sorted(result["trials"], key=lambda trial: -(trial["ndcg@10"] or -1.0))
    for trial in ordered:
        values = [_shown(trial["values"][name]) for name in names]
        if trial["ndcg@10"] is None:
            figures = [trial["status"], ""]
        else:
            figures = [f"{trial['ndcg@10']:.4f}", str(trial["best_epoch"])]
        style = "bold" if trial["trial"] == result["best"] else None
        table.add_row(str(trial["trial"]), *values, *figures, style=style)
    Console(highlight=False).print(table)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
