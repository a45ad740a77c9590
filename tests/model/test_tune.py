"""The search: what is tried, what is kept, and how it goes on."""

import importlib.util
import json
from pathlib import Path

import pytest
import yaml

from adaptiverec.common.errors import (
    ContractError,
    InvalidValueError,
    NotFoundError,
    OutputExistsError,
    StageError,
)
from adaptiverec.model.run import SCHEMA_VERSION
from adaptiverec.model.tune import print_trials, tune

pytestmark = [
    # Not imported here: that takes seconds, in every process that collects tests.
    pytest.mark.skipif(
        importlib.util.find_spec("keras_tuner") is None,
        reason="KerasTuner, of the extra [tune], is not installed",
    ),
    pytest.mark.filterwarnings(
        # KerasTuner asks for the thread by a name that Python has given up.
        "ignore:currentThread:DeprecationWarning",
        "ignore:getName:DeprecationWarning",
    ),
]

RANGES = """
dropout: {min: 0.0, max: 0.9, step: 0.1}
views: [un, us_x]
epochs: 3
"""


@pytest.fixture
def trained(monkeypatch) -> list[dict]:
    """A training that costs nothing, and is best at dropout .3 and views us_x."""
    from adaptiverec.model import search

    calls: list[dict] = []

    def train(*, data, output, resume, **options) -> dict:
        calls.append({**options, "resume": resume, "output": output})
        if options["dropout"] > 0.85:
            raise StageError("The loss must stay finite. Received: inf")
        value = 0.5 - (options["dropout"] - 0.3) ** 2 - 0.1 * (options["views"] == "un")
        record = {
            "schema_version": SCHEMA_VERSION,
            "status": "complete",
            "configuration": {"seed": 0, **options},
            "best": {"val_ndcg@10": value},
            "best_epoch": 2,
            "epochs": 3,
        }
        path = Path(output)
        path.mkdir(exist_ok=True)
        (path / "model.keras").write_bytes(b"")
        (path / "run.json").write_text(json.dumps(record))
        return record

    monkeypatch.setattr(search, "train", train)
    # There is no session to clear, and it takes a while in a process with TensorFlow.
    monkeypatch.setattr(search.keras.backend, "clear_session", lambda: None)
    return calls


@pytest.fixture
def arguments(prepared_path, tmp_path) -> dict:
    ranges = tmp_path / "ranges.yaml"
    ranges.write_text(RANGES)
    return {
        "data": str(prepared_path),
        "ranges": str(ranges),
        "output": str(tmp_path / "search"),
    }


def test_a_grid_tries_everything_and_keeps_the_best(trained, arguments, capsys) -> None:
    result = tune(**arguments, method="grid", trials=50)
    tried = {(call["dropout"], call["views"]) for call in trained}
    assert len(trained) == len(tried) == 20
    assert all(call["epochs"] == 3 and not call["resume"] for call in trained)
    output = Path(arguments["output"])
    assert json.loads((output / "trials.json").read_text()) == result
    best = yaml.safe_load((output / "best.yaml").read_text())
    assert best["dropout"] == 0.3
    assert best["views"] == "us_x"
    assert best["epochs"] == 3
    # Those that diverged are in the table, with the reason.
    failed = [trial for trial in result["trials"] if trial["status"] == "failed"]
    assert {trial["values"]["dropout"] for trial in failed} == {0.9}
    assert "must stay finite" in failed[0]["message"]
    print_trials(result)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[2].split()[0] == str(result["best"])
    assert "0.5000" in lines[2]
    assert lines[-1].split()[-1] == "failed"


@pytest.mark.parametrize("method", ["random", "bayesian"])
def test_equal_seeds_try_the_same(trained, arguments, tmp_path, method) -> None:
    for seed, name in ((4, "a"), (4, "b"), (5, "c")):
        output = str(tmp_path / name)
        tune(**{**arguments, "output": output}, method=method, seed=seed, trials=4)
    tried = [(call["dropout"], call["views"]) for call in trained]
    assert tried[:4] == tried[4:8] != tried[8:]


def test_a_search_that_was_killed_goes_on_with_its_run(
    trained, arguments, monkeypatch, tmp_path
) -> None:
    from adaptiverec.model import search

    straight = {**arguments, "output": str(tmp_path / "straight")}
    expected = tune(**straight, method="random", trials=6)
    before, train = len(trained), search.train

    def killed_in_the_third(**options) -> dict:
        if len(trained) - before == 2:
            Path(options["output"]).mkdir()
            Path(options["output"], "run.json").write_text("{}")
            raise KeyboardInterrupt
        return train(**options)

    with monkeypatch.context() as patch:
        patch.setattr(search, "train", killed_in_the_third)
        with pytest.raises(KeyboardInterrupt):
            tune(**arguments, method="random", trials=6)
    with pytest.raises(OutputExistsError, match="goes on with --resume. Received"):
        tune(**arguments, method="random", trials=6)
    result = tune(**arguments, method="random", trials=6, resume=True)
    again = trained[before:]
    assert [call["resume"] for call in again] == [False] * 2 + [True] + [False] * 3
    assert again[2]["output"].endswith("0003")
    assert result["best"] == expected["best"]
    assert [trial["values"] for trial in result["trials"]] == [
        trial["values"] for trial in expected["trials"]
    ]
    # And further, with the same beginning.
    longer = tune(**arguments, method="random", trials=8, resume=True)
    assert longer["trials"][:6] == result["trials"]
    assert len(longer["trials"]) == 8


def test_another_search_is_not_resumed(trained, arguments) -> None:
    with pytest.raises(NotFoundError, match="search to resume must be a directory"):
        tune(**arguments, resume=True)
    tune(**arguments, method="random", trials=2)
    with pytest.raises(ContractError, match="Received: another method than in"):
        tune(**arguments, method="grid", resume=True)
    with pytest.raises(ContractError, match="Received: another seed than in"):
        tune(**arguments, method="random", seed=1, resume=True)
    Path(arguments["ranges"]).write_text("dropout: [0.1, 0.2]")
    with pytest.raises(ContractError, match="another given, searched than in"):
        tune(**arguments, method="random", resume=True)


def test_failures_in_a_row_do_not_lose_what_was_found(trained, arguments) -> None:
    Path(arguments["ranges"]).write_text(
        "{dropout: [0.3, 0.86, 0.88, 0.9, 0.92, 0.4], views: [us_x]}"
    )
    result = tune(**arguments, method="grid")
    assert [trial["status"] for trial in result["trials"]].count("failed") == 4
    assert result["trials"][result["best"] - 1]["values"]["dropout"] == 0.3


def test_trials_that_all_fail(trained, arguments) -> None:
    Path(arguments["ranges"]).write_text("{dropout: [0.9, 0.95], views: [un, us_x]}")
    with pytest.raises(StageError, match="At least one trial.*Received: 4 that failed"):
        tune(**arguments, method="grid")
    trials = json.loads((Path(arguments["output"]) / "trials.json").read_text())
    assert all("must stay finite" in trial["message"] for trial in trials["trials"])


@pytest.mark.parametrize("method", ["grid", "random", "bayesian"])
def test_choices_keep_their_types(trained, arguments, method) -> None:
    Path(arguments["ranges"]).write_text(
        "{dropout: [0.1], views: [us_x], stream: [true, false], num_blocks: [1, 2]}"
    )
    result = tune(**arguments, method=method, trials=4)
    values = trained + [trial["values"] for trial in result["trials"]]
    assert {type(value["stream"]) for value in values} == {bool}
    assert {type(value["num_blocks"]) for value in values} == {int}
    assert {type(value["dropout"]) for value in values} == {float}


def test_what_no_other_options_would_mend_ends_the_search(
    arguments, monkeypatch
) -> None:
    from adaptiverec.model import search

    def train(**options) -> dict:
        raise OutputExistsError("The disk is full. Received: nothing")

    monkeypatch.setattr(search, "train", train)
    with pytest.raises(OutputExistsError, match="The disk is full"):
        tune(**arguments, method="random", trials=2)


def test_bad_arguments_leave_nothing(arguments, tmp_path) -> None:
    for options, message in (
        ({"trials": 0}, "trials must be at least 1. Received: 0"),
        ({"method": "guess"}, "method must be one of 'bayesian'.*Received: 'guess'"),
        ({"seed": -1}, "seed must be at least 0. Received: -1"),
    ):
        with pytest.raises(InvalidValueError, match=message):
            tune(**arguments, **options)
    assert not Path(arguments["output"]).exists()


def command(*arguments: str) -> None:
    from adaptiverec.common.cli import app

    app(list(arguments), result_action="return_value")


@pytest.mark.slow
def test_real_trials_end_in_options_that_train_takes(
    prepared_path, tmp_path, tiny_training, capsys
) -> None:
    given = {**tiny_training, "epochs": 2, "learning_rate": [0.0001, 0.01]}
    (tmp_path / "ranges.yaml").write_text(yaml.safe_dump(given))
    search = tmp_path / "search"
    command(
        "tune",
        f"--data={prepared_path}",
        f"--ranges={tmp_path / 'ranges.yaml'}",
        f"--output={search}",
        "--method=grid",
    )
    assert "NDCG@10" in capsys.readouterr().out
    trials = json.loads((search / "trials.json").read_text())
    values = {
        trial["values"]["learning_rate"]: trial["ndcg@10"] for trial in trials["trials"]
    }
    assert set(values) == {0.0001, 0.01}
    best = yaml.safe_load((search / "best.yaml").read_text())
    assert values[best["learning_rate"]] == max(values.values())
    # The same options give the same run.
    command(
        "train",
        f"--data={prepared_path}",
        f"--output={tmp_path / 'run'}",
        f"--config={search / 'best.yaml'}",
    )
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["best"]["val_ndcg@10"] == pytest.approx(
        max(values.values()), rel=1e-4
    )
