"""What `adaptiverec train` does: a `fit` whose every epoch is kept and can be resumed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import keras
import yaml

from adaptiverec.common.checks import check_at_least, check_at_most
from adaptiverec.common.errors import (
    ContractError,
    OutputExistsError,
)
from adaptiverec.common.files import (
    check_output_is_free,
    staged_directory,
    write_json,
    write_text,
)
from adaptiverec.common.progress import say, steps
from adaptiverec.model import run as run_contract
from adaptiverec.model.adaptive_rec import AdaptiveRec
from adaptiverec.model.baselines import Popularity
from adaptiverec.model.callbacks import (
    Checkpoint,
    ReplayedEarlyStopping,
    ReportProgress,
    ReseedEveryEpoch,
    SaveCheckpoint,
    StopOnNaN,
)
from adaptiverec.model.diagnostics import DiagnosticSample, RecordDiagnostics
from adaptiverec.model.idle_options import idle_options
from adaptiverec.model.optimization import make_optimizer
from adaptiverec.model.prepared_data import PreparedData
from adaptiverec.model.run import MONITOR, Run
from adaptiverec.model.run_data import RunData, naming_damaged_shards, run_data
from adaptiverec.model.sequences import SequenceSource
from adaptiverec.model.threads import give_each_operation_one_thread
from adaptiverec.model.views import SUPERVISED_VIEWS, num_passes

__all__ = ["build_model", "run_training"]

# Arguments of the training; the others are the model's.
_TRAINING_KEYS = (
    "epochs",
    "batch_size",
    "instances",
    "stream",
    "seed",
    "learning_rate",
    "schedule",
    "warmup_epochs",
    "weight_decay",
    "patience",
    "validation_users",
)
# What a resumed run may change: only how long it goes on.
_RESUMABLE_KEYS = ("epochs", "patience")


def build_model(num_items: int, configuration: dict[str, Any]) -> AdaptiveRec:
    """Builds the model of a configuration."""
    arguments = {
        name: value
        for name, value in configuration.items()
        if name not in _TRAINING_KEYS
    }
    return AdaptiveRec(num_items, **arguments)


def run_training(
    *, data: str, output: Path, resume: bool, configuration: dict[str, Any]
) -> dict[str, Any]:
    """Trains; see :func:`adaptiverec.model.train.train`."""
    for name in ("epochs", "batch_size", "patience"):
        check_at_least(name, configuration[name], 1)
    if configuration["validation_users"] is not None:
        check_at_least("validation_users", configuration["validation_users"], 1)
    check_at_least("seed", configuration["seed"], 0)
    check_at_most("seed", configuration["seed"], 2**32 - 1)
    optimization = {
        name: configuration[name]
        for name in ("learning_rate", "weight_decay", "schedule", "warmup_epochs")
    }
    views = configuration["views"] if configuration["objective"] != "none" else None
    # Before the optimizer, which makes variables.
    give_each_operation_one_thread(num_passes=num_passes(views))
    # What can be wrong with these is known before anything is read.
    make_optimizer(**optimization, epochs=configuration["epochs"])
    prepared = PreparedData.open(data)
    if resume:
        run = _open_to_resume(output, prepared, configuration)
    else:
        _check_new(output)
    idle = list(idle_options(configuration))
    if idle:
        say(f"Without effect: {', '.join(idle)}.")
    if configuration["next_item"] == "sampled_softmax" and (
        "base" in prepared.metadata["vocabulary"]
    ):
        say(
            "The vocabulary begins with another one's: new items are drawn as seldom as "
            "the rarest, however often they occur."
        )
    keras.utils.set_random_seed(configuration["seed"])
    model = build_model(prepared.num_items, configuration)
    checkpoint = (
        Checkpoint.latest(output / run_contract.CHECKPOINTS) if resume else None
    )
    data_of_run = run_data(
        prepared,
        configuration,
        same_target=model.views in SUPERVISED_VIEWS,
        initial_epoch=checkpoint.epoch if checkpoint else 0,
    )
    model.compile(
        make_optimizer(
            **optimization,
            epochs=configuration["epochs"],
            steps_per_epoch=int(data_of_run.training.cardinality()),
        )
    )
    sample = DiagnosticSample.draw(
        data_of_run.source,
        num_items=prepared.num_items,
        max_length=configuration["max_length"],
        seed=configuration["seed"],
    )
    if not resume:
        # Nothing is written before all that can be wrong with the arguments is known.
        run = _create(output, configuration, prepared, data_of_run.source)
    if checkpoint:
        checkpoint.restore(model)
        say(f"Going on after epoch {checkpoint.epoch}.")
    with naming_damaged_shards(data_of_run.source):
        history = _fit(
            run,
            model,
            data_of_run,
            checkpoint.history if checkpoint else [],
            sample,
        )
    return _complete(run, history)


def _fit(
    run: Run,
    model: AdaptiveRec,
    data: RunData,
    past: list[dict[str, float]],
    sample: DiagnosticSample,
) -> SaveCheckpoint:
    configuration = run.configuration
    monitor = MONITOR if int(data.validation.cardinality()) else None
    saved = SaveCheckpoint(
        run.path / run_contract.CHECKPOINTS, history=list(past), monitor=monitor
    )
    callbacks: list[keras.callbacks.Callback] = [
        StopOnNaN(),
        ReseedEveryEpoch(configuration["seed"]),
        # Before the checkpoint, so that every epoch that counts as finished has them.
        RecordDiagnostics(run.path / run_contract.DIAGNOSTICS, sample),
        saved,
        keras.callbacks.TensorBoard(
            run.path / run_contract.TENSORBOARD, write_graph=False
        ),
    ]
    stopping = None
    if monitor is not None:
        stopping = ReplayedEarlyStopping(
            past, monitor=monitor, mode="max", patience=configuration["patience"]
        )
        callbacks.append(stopping)
    initial_epoch = len(past)
    if stopping is not None and _stopped_already(past, configuration["patience"]):
        return saved
    with steps() as progress:
        callbacks.append(ReportProgress(progress, configuration["epochs"], monitor))
        model.fit(
            data.training,
            epochs=configuration["epochs"],
            initial_epoch=initial_epoch,
            validation_data=data.validation if monitor else None,
            callbacks=callbacks,
            verbose=0,
            shuffle=False,
        )
    return saved


def _stopped_already(past: list[dict[str, float]], patience: int) -> bool:
    values = [epoch[MONITOR] for epoch in past]
    return bool(values) and len(values) - 1 - values.index(max(values)) >= patience


def _check_new(output: Path) -> None:
    if (output / run_contract.RECORD).is_file():
        status = Run.open(output).record["status"]
        raise OutputExistsError(
            "The output must not exist yet, since nothing is ever overwritten; a run that "
            f"was stopped goes on with --resume. Received: {output}, a run whose status "
            f"is {status!r}"
        )
    check_output_is_free(output)


def _create(
    output: Path,
    configuration: dict[str, Any],
    data: PreparedData,
    source: SequenceSource,
) -> Run:
    # What is recommended where a history tells nothing is what evaluation compares with.
    popularity = Popularity(source, data.num_items).counts
    with staged_directory(output) as staging:
        (staging / run_contract.CHECKPOINTS).mkdir()
        _write_configuration(staging, configuration)
        Run.create(staging, configuration, data, popularity)
    return Run.open(output)


def _open_to_resume(
    output: Path, data: PreparedData, configuration: dict[str, Any]
) -> Run:
    run = Run.open(output)
    run.check_data(data)
    # A schedule that ends with the last epoch is another one for more epochs.
    may_change: tuple[str, ...] = _RESUMABLE_KEYS
    if configuration["schedule"] != "constant":
        may_change = tuple(name for name in may_change if name != "epochs")
    changed = [
        f"{name}={configuration[name]!r} (was {run.configuration.get(name)!r})"
        for name in configuration
        if name not in may_change and configuration[name] != run.configuration.get(name)
    ]
    if changed:
        raise ContractError(
            "A resumed run must have the configuration it began with, but for "
            f"{' and '.join(may_change)}. Received: {', '.join(changed)}"
        )
    _write_configuration(output, configuration)
    run.record["configuration"] = configuration
    run.record["status"] = "training"
    run.save()
    return run


def _write_configuration(directory: Path, configuration: dict[str, Any]) -> None:
    text = yaml.safe_dump(configuration, sort_keys=False)
    write_text(directory / run_contract.CONFIGURATION, text)


def _complete(run: Run, saved: SaveCheckpoint) -> dict[str, Any]:
    best = run.path / run_contract.CHECKPOINTS / saved.best_model
    model_path = run.path / run_contract.MODEL
    temporary = model_path.with_name(f".{model_path.name}.tmp")
    temporary.write_bytes(best.read_bytes())
    temporary.replace(model_path)
    write_json(run.path / run_contract.HISTORY, saved.history)
    run.record |= {
        "status": "complete",
        "epochs": len(saved.history),
        "best_epoch": saved.best_epoch + 1,
        "best": saved.history[saved.best_epoch],
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    run.save()
    say(f"Run complete: best epoch {saved.best_epoch + 1} of {len(saved.history)}.")
    return run.record
