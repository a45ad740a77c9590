"""`adaptiverec evaluate`: a run's figures on the test targets, beside two baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["evaluate", "print_report"]


def evaluate(
    *, run: str, data: str, output: str | None = None, batch_size: int = 256
) -> dict[str, Any]:
    """Measures a trained run on the test split, next to two baselines.

    Recall, NDCG and MRR at 5 and 10, ranking the whole catalogue, with the items of the
    history kept as candidates (as published results do) and removed (as a recommender in
    use does). The baselines need no training: popularity, and the items that most often
    follow the last one. The data is streamed, several times; what is held is two ranks for
    each target, and a number for each pair of items that follow each other somewhere.

    Args:
        run: Directory of a complete run.
        data: The prepared directory that the run was trained on.
        output: JSON file to write, too; by default RUN/evaluation.json alone.
        batch_size: Targets a batch.

    Returns:
        The report that is written: the protocol and, for every system and treatment of
        seen items, the measures.

    Raises:
        NotFoundError: The run or the data does not exist.
        ContractError: The run is not complete, or was trained on other data.
        InvalidValueError: The data has no test target.
    """
    # TensorFlow takes seconds to import; `--help` and wrong options need not wait for it.
    from adaptiverec.common.errors import InvalidValueError, OutputError
    from adaptiverec.common.files import write_json
    from adaptiverec.common.progress import steps
    from adaptiverec.model import run as run_contract
    from adaptiverec.model.baselines import LastItemFollowers, Popularity
    from adaptiverec.model.evaluation import (
        SEEN_ITEMS,
        measures_of,
        rank_with_baseline,
        rank_with_model,
    )
    from adaptiverec.model.prepared_data import PreparedData
    from adaptiverec.model.streaming import streaming_evaluation_dataset

    trained = run_contract.Run.open_complete(run)
    prepared = PreparedData.open(data)
    trained.check_data(prepared)
    if output is not None and (
        Path(output).is_dir() or not Path(output).parent.is_dir()
    ):
        raise OutputError(
            f"The output must be a file, whose directory must exist. Received: {output}"
        )
    model = trained.load_model()
    dataset = streaming_evaluation_dataset(
        prepared, "test", max_length=model.max_length, batch_size=batch_size
    )
    if not int(dataset.cardinality()):
        raise InvalidValueError(
            "Evaluation needs test targets; prepare the log with --split leave-one-out "
            f"or time. Received: {data}, split {prepared.metadata['split']['method']!r}"
        )
    name = run_contract.system_name(model.objective, model.views)
    with steps() as progress:
        ranks = {
            name: rank_with_model(
                model, dataset, steps=progress, label=f"Ranking, {name}"
            )
        }
        for baseline_name, baseline in (
            ("last item's followers", LastItemFollowers(prepared, prepared.num_items)),
            ("popularity", Popularity(prepared, prepared.num_items)),
        ):
            ranks[baseline_name] = rank_with_baseline(
                baseline, dataset, steps=progress, label=f"Ranking, {baseline_name}"
            )
    report = {
        "schema_version": 1,
        "protocol": {
            "split": prepared.metadata["split"],
            "part": "test",
            "candidates": f"the whole catalogue, {prepared.num_items} items",
            "history": f"all interactions before the target, the last {model.max_length}",
            "ties": "the middle of the tied ranks",
            "num_targets": len(ranks[name]["kept"]),
        },
        "data_fingerprint": prepared.fingerprint,
        "run_fingerprint": trained.fingerprint,
        "results": [
            {"system": system, "seen_items": seen, **measures_of(ranks[system][seen])}
            for seen in SEEN_ITEMS
            for system in ranks
        ],
    }
    write_json(trained.path / run_contract.EVALUATION, report)
    if output is not None:
        write_json(Path(output), report)
    return report


def print_report(report: dict[str, Any]) -> None:
    """Prints a report of :func:`evaluate` as a table, the protocol beside each figure."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    protocol = report["protocol"]
    console = Console(highlight=False)
    console.print(
        f"{protocol['num_targets']:,} test targets, split: {protocol['split']['method']}; "
        f"candidates: {protocol['candidates']}; ties: {protocol['ties']}.",
        soft_wrap=True,
    )
    measures = [key for key in report["results"][0] if "@" in key]
    short = {"recall": "R", "ndcg": "N", "mrr": "MRR"}
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("system")
    table.add_column("seen items")
    for measure in measures:
        name, k = measure.split("@")
        table.add_column(f"{short[name]}@{k}", justify="right")
    for number, row in enumerate(report["results"], start=1):
        figures = [f"{row[measure]:.4f}" for measure in measures]
        last = number == len(report["results"]) // 2
        table.add_row(row["system"], row["seen_items"], *figures, end_section=last)
    console.print(table)
    console.print("R: recall (hit rate), N: NDCG, MRR: mean reciprocal rank.")
