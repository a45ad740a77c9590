"""Runs: what a training leaves behind, and how it goes on."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml

from adaptiverec.common.errors import (
    ContractError,
    InvalidValueError,
    NotFoundError,
    OutputExistsError,
    StageError,
)
from adaptiverec.model import training_loop
from adaptiverec.model.report import report
from adaptiverec.model.run import Run
from adaptiverec.model.train import train


def test_a_run_is_all_there(run_path, prepared_path) -> None:
    run = Run.open_complete(run_path)
    metadata = json.loads((prepared_path / "metadata.json").read_text())
    assert run.record["data"]["fingerprint"] == metadata["fingerprint"]
    assert run.record["data"]["path"] == str(prepared_path)
    history = json.loads((run_path / "history.json").read_text())
    assert len(history) == run.record["epochs"] == 2
    best = max(range(2), key=lambda epoch: history[epoch]["val_ndcg@10"])
    assert run.record["best_epoch"] == best + 1
    assert list((run_path / "tensorboard" / "train").iterdir())
    assert yaml.safe_load((run_path / "config.yaml").read_text()) == run.configuration
    vocabulary = (prepared_path / "vocabulary.txt").read_text().splitlines()
    assert run.vocabulary() == vocabulary
    assert not list(run_path.glob("**/.*"))


def test_the_model_kept_is_the_best_epochs(run_path, prepared_path) -> None:
    from adaptiverec.model.instances import evaluation_dataset
    from adaptiverec.model.prepared_data import PreparedData

    run = Run.open_complete(run_path)
    model = run.load_model()
    sequences = PreparedData.open(str(prepared_path)).sequences()
    data = evaluation_dataset(sequences, "validation", max_length=model.max_length)
    result = model.evaluate(data, return_dict=True, verbose=0)
    best = run.record["best"]["val_ndcg@10"]
    assert result["ndcg@10"] == pytest.approx(best, abs=1e-6)


# Users are fewer than their prefixes: smaller batches.
ALL_POSITIONS = {
    "instances": "sequences",
    "batch_size": 64,
    "low_pass_share": 0.7,
    "positions_from": "end",
    "schedule": "cosine",
    "warmup_epochs": 1.0,
    "weight_decay": 0.1,
}


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({}, id="defaults"),
        pytest.param(ALL_POSITIONS, id="options", marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_equals_one_that_was_never_stopped(
    run_path, prepared_path, tmp_path, tiny_training, monkeypatch, more
) -> None:
    options = {"data": str(prepared_path), "epochs": 2, **tiny_training, **more}
    straight = run_path
    if more:
        straight = tmp_path / "straight"
        train(output=str(straight), **options)

    class KilledInMidEpoch(training_loop.StopOnNaN):
        def on_epoch_begin(self, epoch, logs=None) -> None:
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None) -> None:
            # Some steps of the second epoch have moved the weights already.
            if self.epoch == 1 and batch == 1:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training_loop, "StopOnNaN", KilledInMidEpoch)
        with pytest.raises(KeyboardInterrupt):
            train(output=str(tmp_path / "stopped"), **options)
    with pytest.raises(ContractError, match="must be complete.*'training'"):
        Run.open_complete(tmp_path / "stopped")
    train(output=str(tmp_path / "stopped"), resume=True, **options)

    runs = (straight, tmp_path / "stopped")
    expected, found = (json.loads((run / "history.json").read_text()) for run in runs)
    for epoch, resumed in zip(expected, found, strict=True):
        assert resumed == epoch
    models = [Run.open_complete(run).load_model() for run in runs]
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_longer_run_goes_on_from_a_complete_one(
    run_path, prepared_path, tmp_path, tiny_training
) -> None:
    copy = Path(shutil.copytree(run_path, tmp_path / "run"))
    options = {"data": str(prepared_path), "output": str(copy), **tiny_training}
    record = train(epochs=3, resume=True, **options)
    assert record["epochs"] == 3
    # What `--config` would repeat.
    assert yaml.safe_load((copy / "config.yaml").read_text())["epochs"] == 3
    with pytest.raises(ContractError, match=r"Received: seed=1 \(was 0\)"):
        train(epochs=3, seed=1, resume=True, **options)


def test_a_schedule_that_ends_with_the_epochs_holds_them(
    prepared_path, tmp_path, tiny_training
) -> None:
    options = {"data": str(prepared_path), "output": str(tmp_path / "run")}
    options |= {**tiny_training, "objective": "none"}
    train(epochs=1, schedule="cosine", **options)
    message = r"but for patience. Received: epochs=2 \(was 1\)"
    with pytest.raises(ContractError, match=message):
        train(epochs=2, schedule="cosine", resume=True, **options)


def test_early_stopping_counts_the_epochs_before(tmp_path) -> None:
    from adaptiverec.model.callbacks import ReplayedEarlyStopping

    past = [{"m": 0.1}, {"m": 0.5}, {"m": 0.4}]
    stopping = ReplayedEarlyStopping(past, monitor="m", mode="max", patience=2)
    model = keras.Sequential()
    stopping.set_model(model)
    stopping.on_train_begin()
    assert stopping.wait == 1
    stopping.on_epoch_end(3, {"m": 0.45})
    assert model.stop_training


def test_a_smaller_patience_does_not_stop_where_the_past_has_gone_on() -> None:
    from adaptiverec.model.callbacks import ReplayedEarlyStopping

    past = [{"m": value} for value in (0.1, 0.5, 0.4, 0.4, 0.6)]
    stopping = ReplayedEarlyStopping(past, monitor="m", mode="max", patience=2)
    model = keras.Sequential()
    stopping.set_model(model)
    stopping.on_train_begin()
    assert not model.stop_training
    stopping.on_epoch_end(5, {"m": 0.5})
    assert not model.stop_training
    stopping.on_epoch_end(6, {"m": 0.5})
    assert model.stop_training


def test_without_validation_the_last_epoch_is_kept(
    prepare_log, tmp_path, tiny_training
) -> None:
    data = prepare_log(tmp_path / "data", split="none")
    options = {**tiny_training, "objective": "none", "epochs": 2}
    record = train(data=data, output=str(tmp_path / "run"), **options)
    assert record["best_epoch"] == record["epochs"] == 2
    page = Path(report(str(tmp_path / "run"))).read_text()
    assert "no validation targets" in page
    assert "The data has no validation targets." in page
    assert "Losses and measures by epoch" in page
    assert "Measures of the validation targets" not in page


def test_what_options_do_not_do_is_said(
    prepare_log, tmp_path, tiny_training, capsys
) -> None:
    base = tmp_path / "base.txt"
    base.write_text("an old item\n")
    data = prepare_log(tmp_path / "data", base_vocabulary=str(base), report=False)
    options = {**tiny_training, "objective": "none", "next_item": "sampled_softmax"}
    options |= {"epochs": 1, "temperature": 0.05, "num_negatives": 50}
    train(data=data, output=str(tmp_path / "run"), **options)
    said = capsys.readouterr().err
    assert "Without effect: temperature (with objective none).\n" in said
    assert "new items are drawn as seldom as the rarest" in said


def test_a_loss_that_explodes_stops_the_run(
    prepared_path, tmp_path, tiny_training
) -> None:
    options = {**tiny_training, "objective": "none", "learning_rate": 1e30}
    with pytest.raises(
        StageError,
        match=r"must stay finite.*next_item_loss.* not finite at step \d+ of epoch 1$",
    ):
        train(data=str(prepared_path), output=str(tmp_path / "run"), **options)


@pytest.mark.slow
def test_a_run_that_is_killed_in_mid_epoch_resumes_to_the_same_numbers(
    prepared_path, tmp_path, tiny_training
) -> None:
    options = {"data": str(prepared_path), "epochs": 4, **tiny_training}
    train(output=str(tmp_path / "straight"), **options)
    # The process ends in the middle of a step, with nobody told.
    code = (
        "import os, signal\n"
        "from adaptiverec.model import training_loop\n"
        "from adaptiverec.model.train import train\n"
        "class Kill(training_loop.StopOnNaN):\n"
        "    def on_train_batch_end(self, batch, logs=None):\n"
        "        if self._epoch == 2 and batch == 1:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "training_loop.StopOnNaN = Kill\n"
        f"train(output={str(tmp_path / 'killed')!r}, **{options!r})\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    train(output=str(tmp_path / "killed"), resume=True, **options)
    straight, resumed = (
        json.loads((tmp_path / name / "history.json").read_text())
        for name in ("straight", "killed")
    )
    for epoch, again in zip(straight, resumed, strict=True):
        assert again == pytest.approx(epoch, rel=1e-4)
    one, other = (
        Run.open_complete(tmp_path / name).load_model().get_weights()
        for name in ("straight", "killed")
    )
    for weight, again in zip(one, other, strict=True):
        np.testing.assert_allclose(weight, again, rtol=1e-3, atol=1e-5)


def test_output_exists(run_path, prepared_path, tmp_path) -> None:
    before = sorted(run_path.rglob("*"))
    with pytest.raises(OutputExistsError, match=r"--resume. Received: .*'complete'"):
        train(data=str(prepared_path), output=str(run_path))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputExistsError, match="must not exist yet"):
        train(data=str(prepared_path), output=str(tmp_path / "file"))
    assert sorted(run_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1. Received: 0"),
        ({"batch_size": 0}, "batch_size must be at least 1. Received: 0"),
        ({"learning_rate": -1.0}, "learning_rate must be above 0. Received: -1.0"),
        ({"objective": "bpr"}, "objective must be one of"),
        ({"max_length": 0}, "max_length must be at least 1. Received: 0"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0. Received: -1.0"),
        ({"instances": "all"}, "instances must be one of 'prefixes', 'sequences'"),
    ],
)
def test_bad_arguments_leave_nothing(prepared_path, tmp_path, options, message) -> None:
    with pytest.raises(InvalidValueError, match=message):
        train(data=str(prepared_path), output=str(tmp_path / "run"), **options)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_resume(prepared_path, tmp_path) -> None:
    with pytest.raises(
        NotFoundError, match="must be a directory made by `adaptiverec train`"
    ):
        train(data=str(prepared_path), output=str(tmp_path / "run"), resume=True)


def test_a_run_of_another_schema_version(run_path, tmp_path) -> None:
    copy = Path(shutil.copytree(run_path, tmp_path / "run"))
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**record, "schema_version": 0}))
    with pytest.raises(ContractError, match="must have schema_version 1.*Received: 0"):
        Run.open(copy)


def test_a_run_with_another_vocabulary(run_path, tmp_path) -> None:
    copy = Path(shutil.copytree(run_path, tmp_path / "run"))
    (copy / "vocabulary.txt").write_text("other\n")
    with pytest.raises(
        ContractError, match="vocabulary must be the one of its training"
    ):
        Run.open(copy).vocabulary()
