"""`train --stream`, and what is done with its run, without all sequences in memory."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from adaptiverec.common.errors import ContractError
from adaptiverec.model import training_loop
from adaptiverec.model.evaluate import evaluate
from adaptiverec.model.instances import evaluation_dataset
from adaptiverec.model.prepared_data import PreparedData
from adaptiverec.model.report import report
from adaptiverec.model.run import Run
from adaptiverec.model.train import train


@pytest.fixture(scope="module")
def options(prepared_path, tiny_training) -> dict:
    return {"data": str(prepared_path), "epochs": 3, "stream": True, **tiny_training}


@pytest.fixture(scope="module")
def streamed(options, tmp_path_factory) -> Path:
    """A streamed run, made, measured and shown while nothing may read all sequences."""
    path = tmp_path_factory.mktemp("streamed") / "run"

    def refused(self) -> None:
        raise AssertionError("all sequences were read into memory")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PreparedData, "sequences", refused)
        train(output=str(path), **options)
        evaluate(run=str(path), data=options["data"])
        report(str(path))
    return path


def test_the_run_says_so_and_is_whole(streamed, run_path) -> None:
    run, held = Run.open_complete(streamed), Run.open_complete(run_path)
    assert run.configuration["stream"] is True
    assert held.configuration["stream"] is False
    assert "stream: true" in (streamed / "config.yaml").read_text()
    np.testing.assert_array_equal(run.popularity(), held.popularity())
    # The page has the sections that need the data.
    page = (streamed / "report.html").read_text()
    assert "Some users" in page
    assert "Measures of the validation targets" in page
    results = json.loads((streamed / "evaluation.json").read_text())["results"]
    assert {row["system"] for row in results} >= {"AdaptiveRec", "popularity"}


def test_validation_is_that_of_memory(streamed, prepared_path) -> None:
    run = Run.open_complete(streamed)
    model = run.load_model()
    sequences = PreparedData.open(str(prepared_path)).sequences()
    data = evaluation_dataset(sequences, "validation", max_length=model.max_length)
    result = model.evaluate(data, return_dict=True, verbose=0)
    best = run.record["best"]["val_ndcg@10"]
    assert result["ndcg@10"] == pytest.approx(best, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("instances", ["prefixes", "sequences"])
def test_a_resumed_run_equals_one_that_was_never_stopped(
    streamed, options, tmp_path, monkeypatch, instances
) -> None:
    options = {**options, "epochs": 2, "instances": instances, "batch_size": 64}
    train(output=str(tmp_path / "straight"), **options)

    class KilledInMidEpoch(training_loop.StopOnNaN):
        def on_train_batch_end(self, batch, logs=None) -> None:
            if self._epoch == 1 and batch == 1:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training_loop, "StopOnNaN", KilledInMidEpoch)
        with pytest.raises(KeyboardInterrupt):
            train(output=str(tmp_path / "stopped"), **options)
    message = r"Received: stream=False \(was True\)"
    with pytest.raises(ContractError, match=message):
        train(
            output=str(tmp_path / "stopped"), resume=True, **options | {"stream": False}
        )
    train(output=str(tmp_path / "stopped"), resume=True, **options)
    straight, stopped = (
        Run.open_complete(tmp_path / name) for name in ("straight", "stopped")
    )
    one, other = (run.load_model().get_weights() for run in (straight, stopped))
    for weight, again in zip(one, other, strict=True):
        np.testing.assert_allclose(weight, again, rtol=1e-3, atol=1e-5)
    histories = [
        json.loads((run.path / "history.json").read_text())
        for run in (straight, stopped)
    ]
    for epoch, again in zip(*histories, strict=True):
        assert again == pytest.approx(epoch, rel=1e-4)


def test_a_damaged_shard_leaves_no_run(prepared_path, options, tmp_path) -> None:
    copy = Path(shutil.copytree(prepared_path, tmp_path / "copy"))
    shard = next(copy.glob("*.tfrecord"))
    shard.write_bytes(shard.read_bytes()[:-7])
    with pytest.raises(ContractError, match=rf"Received: .*{shard.name}"):
        train(output=str(tmp_path / "run"), **options | {"data": str(copy)})
    assert not (tmp_path / "run").exists()


def test_a_shard_damaged_while_training_is_named(
    prepared_path, options, tmp_path, monkeypatch
) -> None:
    copy = Path(shutil.copytree(prepared_path, tmp_path / "copy"))
    shard = next(copy.glob("*.tfrecord"))

    class Damaging(training_loop.StopOnNaN):
        def on_epoch_begin(self, epoch, logs=None) -> None:
            shard.write_bytes(shard.read_bytes()[:-7])

    monkeypatch.setattr(training_loop, "StopOnNaN", Damaging)
    with pytest.raises(ContractError, match=rf"Received: .*{shard.name}"):
        train(output=str(tmp_path / "run"), **options | {"data": str(copy)})
