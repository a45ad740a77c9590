"""The demonstration: what it runs, and what it says when it cannot."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adaptiverec.common import cli
from adaptiverec.common import demo as demo_module
from adaptiverec.common.demo import demo
from adaptiverec.common.errors import (
    InvalidValueError,
    NotFoundError,
    OutputExistsError,
    StageError,
)


def report(model: float, followers: float, popularity: float) -> dict[str, Any]:
    names = ("AdaptiveRec", "last item's followers", "popularity")
    figures = dict(zip(names, (model, followers, popularity), strict=True))
    return {
        "results": [
            {"system": name, "seen_items": seen, "ndcg@10": figure * factor}
            # With the seen items out everything is better, and does not count.
            for seen, factor in (("kept", 1.0), ("removed", 5.0))
            for name, figure in figures.items()
        ]
    }


@pytest.fixture
def stages(monkeypatch):
    """Every stage's command, none of which is run; all are taken to succeed."""
    commands: list[list[str]] = []

    @contextlib.contextmanager
    def server(models: Path) -> Iterator[str]:
        yield "127.0.0.1:1"

    monkeypatch.setattr(demo_module, "_stage", lambda _, line: commands.append(line))
    monkeypatch.setattr(demo_module, "_server", server)
    monkeypatch.setattr(
        demo_module, "_somebody", lambda _: (["a,b", 'c"d', "e f"], "next")
    )
    monkeypatch.setattr(demo_module, "read_json", lambda _: report(0.5, 0.2, 0.1))
    return commands


def parsed(line: list[str]) -> dict[str, Any]:
    _, bound, _ = cli.app.parse_args(line, print_error=False, exit_on_error=False)
    return bound.arguments


def test_it_runs_the_commands_that_a_user_would_type(stages, tmp_path, capsys) -> None:
    demo(output=str(tmp_path / "demo"), epochs=3)
    assert [line[0] for line in stages] == [
        "prepare",
        "train",
        "evaluate",
        "export",
        "recommend",
    ]
    prepare, train, evaluate, export, recommend = map(parsed, stages)
    log = tmp_path / "demo" / "log.csv"
    assert log.read_text().startswith("user_id,item_id,timestamp\n")
    assert prepare["input"] == [str(log)]
    assert prepare["user_column"] == "user_id"
    assert train["epochs"] == 3
    # Each takes what the one before it made.
    assert prepare["output"] == train["data"] == evaluate["data"]
    assert train["output"] == evaluate["run"] == export["run"]
    assert recommend["history"] == '"a,b","c""d",e f'
    err = capsys.readouterr().err
    assert "0.5000 of AdaptiveRec, 0.2000 of the better baseline (last item's" in err
    assert ": 2.5 times as good." in err


def test_a_log_of_ones_own_is_read_as_it_is_written(stages, tmp_path) -> None:
    log = tmp_path / "u.data"
    log.write_text("196\t242\t3\t881250949\n186\t302\t3\t891717742\n")
    demo(output=str(tmp_path / "demo"), log=str(log))
    prepare = parsed(stages[0])
    assert prepare["header"] is False
    assert prepare["delimiter"] == "\\t"
    columns = [prepare[f"{name}_column"] for name in ("user", "item", "time")]
    assert columns == ["0", "1", "3"]
    # No other log is made up.
    assert not (tmp_path / "demo" / "log.csv").exists()


def test_what_is_said_goes_before_what_is_guessed(stages, tmp_path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(
        "reviewerID,asin,title,unixReviewTime\nAX,B00,item of the year,1365379200\n"
    )
    demo(output=str(tmp_path / "demo"), log=str(log), item_column="title")
    assert parsed(stages[0])["item_column"] == "title"
    assert parsed(stages[0])["user_column"] == "reviewerID"


@pytest.mark.parametrize(
    ("text", "options"),
    [
        # No column looks like an item.
        ("user,what,time\na,b,1700000000\n", {"item_column": "what"}),
        # The first column that looks like a time is one for people.
        (
            'user,item,reviewTime,unixReviewTime\na,b,"04 8, 2013",1365379200\n',
            {"time_column": "unixReviewTime"},
        ),
    ],
    ids=["item", "time"],
)
def test_what_cannot_be_guessed_can_be_said(stages, tmp_path, text, options) -> None:
    log = tmp_path / "log.csv"
    log.write_text(text)
    with pytest.raises(InvalidValueError):
        demo(output=str(tmp_path / "demo"), log=str(log))
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]
    demo(output=str(tmp_path / "demo"), log=str(log), **options)
    prepare = parsed(stages[0])
    assert {name: prepare[name] for name in options} == options
    assert prepare["time_format"] == "s"


@pytest.mark.parametrize(
    ("figures", "enough"),
    [((0.36, 0.30, 0.1), True), ((0.35, 0.30, 0.1), False), ((0.36, 0.1, 0.31), False)],
)
def test_the_model_must_clearly_beat_the_better_baseline(
    stages, tmp_path, monkeypatch, figures, enough
) -> None:
    monkeypatch.setattr(demo_module, "read_json", lambda _: report(*figures))
    if enough:
        demo(output=str(tmp_path / "demo"))
        return
    with pytest.raises(
        StageError, match=r"by a factor of 1\.2.*Received: NDCG@10 0\.3"
    ):
        demo(output=str(tmp_path / "demo"))
    # The answer is given all the same, and the verdict last.
    assert stages[-1][0] == "recommend"


def test_a_log_that_is_not_there_leaves_nothing(stages, tmp_path) -> None:
    with pytest.raises(NotFoundError, match="must be a file. Received: "):
        demo(output=str(tmp_path / "demo"), log=str(tmp_path / "none.csv"))
    assert stages == []
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_there(stages, tmp_path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(OutputExistsError, match=f"Received: {tmp_path}"):
        demo(output=str(tmp_path))
    assert stages == []
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_stage_that_fails_ends_it(tmp_path, capfd) -> None:
    log = tmp_path / "log.csv"
    log.write_text("user,item,time\na,b,1700000000\n")
    with pytest.raises(StageError) as caught:
        demo(output=str(tmp_path / "demo"), log=str(log))
    assert str(caught.value) == (
        "Every stage must succeed. Received: exit code 1 of `adaptiverec prepare`, which "
        "said why above"
    )
    err = capfd.readouterr().err
    # The command that failed, and what it said.
    assert f"$ adaptiverec prepare --input {log} --output " in err
    assert "adaptiverec: error: At least one interaction must be left to write" in err
