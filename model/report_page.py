"""What the page of a training run says, put together from the run and its data."""

from __future__ import annotations

from typing import Any

import numpy as np

from adaptiverec.common.errors import ContractError, NotFoundError
from adaptiverec.common.files import read_json
from adaptiverec.common.progress import Steps
from adaptiverec.common.report_page import render_page
from adaptiverec.common.report_text import value, visible
from adaptiverec.model import report_curves as curves
from adaptiverec.model import run as run_contract
from adaptiverec.model.adaptive_rec import AdaptiveRec
from adaptiverec.model.callbacks import Checkpoint, SaveCheckpoint
from adaptiverec.model.diagnostics import read_diagnostics
from adaptiverec.model.prepared_data import PreparedData
from adaptiverec.model.report_ranking import ranking_sections
from adaptiverec.model.report_vectors import vectors_section
from adaptiverec.model.run import MONITOR, Run, system_name

__all__ = ["make_page"]


def make_page(run: Run, data: str | None, part: str, steps: Steps) -> str:
    """Makes the page.

    Args:
        run: The run, complete or not.
        data: The prepared data; None for that of the training, if it is still there.
        part: Which targets to rank, `"validation"` or `"test"`.
        steps: Where to show progress.

    Returns:
        An HTML page.

    Raises:
        NotFoundError: `data` is given and not there.
        ContractError: `data` is given and not that of the training; or the run's files
            are not whole.
    """
    prepared, data_note = _data(run, data)
    history = _history(run)
    diagnostics = read_diagnostics(run.path / run_contract.DIAGNOSTICS, len(history))
    best_epoch = None
    if history and MONITOR in history[0]:
        best_epoch = int(np.argmax([epoch[MONITOR] for epoch in history])) + 1
    model = _model(run)
    no_targets = False
    sections: dict[str, Any] = {
        "losses": None,
        "contrast": None,
        "measures": None,
        "thresholds": None,
        "similarities": None,
        "geometry": None,
        "epochs": None,
        "vectors": None,
        "ranking": None,
    }
    if history:
        sections |= {
            "losses": curves.loss_section(
                history, best_epoch, trained_loss=_trained_loss(run.configuration)
            ),
            "contrast": curves.contrast_section(history),
            "measures": curves.measures_section(history, best_epoch),
            "thresholds": curves.threshold_section(history, diagnostics),
            "similarities": curves.similarity_section(diagnostics),
            "geometry": curves.geometry_section(diagnostics),
            "epochs": curves.epochs_table(history, diagnostics, best_epoch),
        }
    if model is not None:
        sections["vectors"] = vectors_section(
            model, run.popularity(), prepared, seed=run.configuration["seed"]
        )
        if prepared is not None:
            sections["ranking"] = ranking_sections(model, run, prepared, part, steps)
            no_targets = sections["ranking"] is None
    return render_page(
        "model/report.html.j2",
        run=run.record,
        name=visible(run.path.resolve().name),
        status=run.record["status"],
        headline=_headline(run, history, diagnostics, best_epoch),
        data_note=data_note,
        no_targets=no_targets,
        part=part,
        evaluation=_evaluation(run),
        configuration=[
            (name, "\u2013" if given is None else value(given))
            for name, given in run.configuration.items()
        ],
        data=_data_rows(run),
        **sections,
    )


def _trained_loss(configuration: dict[str, Any]) -> str | None:
    """What the next-item loss of training is, where it is no softmax over all items."""
    kind = configuration.get("next_item", "softmax")
    if kind != "softmax":
        name = {"sampled_softmax": "sampled softmax", "gbce": "gBCE"}[kind]
        return f"{name}, {configuration['num_negatives']:,} negatives"
    if configuration.get("next_item_candidates", "all") == "unseen":
        return "softmax over unseen items"
    return None


def _data(run: Run, data: str | None) -> tuple[PreparedData | None, str]:
    """The data, and what to say where there is none."""
    path = data if data is not None else run.record["data"]["path"]
    try:
        prepared = PreparedData.open(path)
        run.check_data(prepared)
    except (NotFoundError, ContractError) as error:
        if data is not None:
            raise
        said = (
            "is no longer where it was"
            if isinstance(error, NotFoundError)
            else "has changed since"
        )
        return None, f"The data of the training {said}: {visible(str(path))}."
    return prepared, ""


def _history(run: Run) -> list[dict[str, float]]:
    """The metrics of every finished epoch."""
    directory = run.path / run_contract.CHECKPOINTS
    for last_try in (False, False, True):
        try:
            checkpoint = Checkpoint.latest(directory)
        except (OSError, ValueError) as error:
            # A training that is still running has just replaced it.
            if last_try:
                raise ContractError(
                    "The run's last checkpoint must be whole. Received: "
                    f"{directory} ({error})"
                ) from error
        else:
            return checkpoint.history if checkpoint else []
    return []


def _model(run: Run) -> AdaptiveRec | None:
    """The best epoch's model; None before the first epoch has ended."""
    for path in (
        run.path / run_contract.MODEL,
        run.path / run_contract.CHECKPOINTS / SaveCheckpoint.best_model,
    ):
        if path.is_file():
            return run.load_model(path)
    return None


def _headline(
    run: Run,
    history: list[dict[str, float]],
    diagnostics: list[dict[str, Any]],
    best_epoch: int | None,
) -> dict[str, Any]:
    seconds = sorted(figures["seconds"] for figures in diagnostics)
    best = history[best_epoch - 1] if best_epoch else {}
    return {
        "num_epochs": len(history),
        "most_epochs": run.configuration["epochs"],
        "best_epoch": best_epoch,
        "ndcg": f"{best['val_ndcg@10']:.4f}" if best else None,
        "recall": f"{best['val_recall@10']:.4f}" if "val_recall@10" in best else None,
        "seen": "removed" if run.configuration.get("exclude_seen") else "kept",
        "seconds": f"{seconds[len(seconds) // 2]:,.1f} s" if seconds else None,
        "hours": f"{sum(seconds) / 3600:,.2f} h" if seconds else None,
        "system": _system(run.configuration),
    }


def _system(configuration: dict[str, Any]) -> str:
    objective, views = configuration["objective"], configuration["views"]
    name = system_name(objective, views)
    if objective == "none":
        return f"{name}: the next item alone, no contrast"
    return f"{name}, views {views}"


def _data_rows(run: Run) -> list[tuple[str, str]]:
    data = run.record["data"]
    rows = [
        ("fingerprint", data["fingerprint"]),
        ("path", data["path"]),
        ("items", data["num_items"]),
        ("split", data["split"]["method"]),
        ("vocabulary, SHA-256", data["vocabulary_sha256"]),
        ("made by", run.record["producer"]),
    ]
    if (run.path / run_contract.MODEL).is_file():
        rows.append(("model, SHA-256", run.fingerprint))
    return [(name, value(given)) for name, given in rows]


def _evaluation(run: Run) -> dict[str, Any] | None:
    """What `adaptiverec evaluate` found of this very model; None if it has not."""
    path = run.path / run_contract.EVALUATION
    if not path.is_file() or not (run.path / run_contract.MODEL).is_file():
        return None
    report = read_json(path)
    if report.get("run_fingerprint") != run.fingerprint:
        return None
    measures = [key for key in report["results"][0] if "@" in key]
    return {
        "num_targets": report["protocol"]["num_targets"],
        "measures": measures,
        "rows": [
            (
                row["system"],
                row["seen_items"],
                [f"{row[measure]:.4f}" for measure in measures],
            )
            for row in report["results"]
        ],
    }
