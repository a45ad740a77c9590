"""The whole line by its command line, from a raw log to answers over gRPC.

And with it what counts as wrong, what is installed, and the README's own code.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from adaptiverec.common import cli
from adaptiverec.model.prepared_data import PreparedData
from adaptiverec.model.run import Run
from adaptiverec.serving import publish
from adaptiverec.serving.replay import replay

ROOT = Path(__file__).parents[1]
COLUMNS = ["--user-column", "user_id", "--item-column", "item_id"]
COLUMNS += ["--time-column", "timestamp"]


class Done(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


def command(*arguments: str | Path) -> Done:
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code or 0
    return Done(code, out.getvalue(), err.getvalue())


class Line(NamedTuple):
    """The directories of one pass, and what each command said."""

    data: Path
    run: Path
    models: Path
    said: dict[str, Done]


@pytest.fixture(scope="module")
def line(raw_log, tiny_training, tmp_path_factory) -> Line:
    """Prepared, trained, evaluated and exported by the command line."""
    base = tmp_path_factory.mktemp("line")
    data, run, models = base / "data", base / "run", base / "models" / "shop"
    small = [
        part
        for name, value in tiny_training.items()
        for part in (f"--{name.replace('_', '-')}", str(value))
    ]
    commands = {
        "prepare": ["--input", raw_log, "--output", data, *COLUMNS],
        "train": ["--data", data, "--output", run, "--epochs", "2", *small],
        "evaluate": ["--run", run, "--data", data],
        "export": ["--run", run, "--output", models],
    }
    said = {}
    for name, arguments in commands.items():
        said[name] = command(name, *arguments)
        assert said[name].code == 0, said[name].err
    return Line(data, run, models, said)


class Server:
    """`adaptiverec serve` in a process of its own."""

    def __init__(self, models: Path) -> None:
        arguments = ["serve", "--model_name", "shop", "--model_base_path", str(models)]
        arguments += ["--port", "0", "--file_system_poll_wait_seconds", "0.2"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "adaptiverec.common", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        ready = wait_for(lambda: [line for line in self.lines if "Serving" in line])
        match = re.fullmatch(
            r"Serving shop version (\d+) on (127\.0\.0\.1:\d+)", ready[0]
        )
        assert match, ready
        self.version, self.address = int(match[1]), match[2]
        self.channel = grpc.insecure_channel(self.address)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for text in self.process.stderr:
            self.lines.append(text.rstrip("\n"))

    def predict(
        self, history: list[list[str]], k: list[int], model: str = "shop"
    ) -> predict_pb2.PredictResponse:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        rows = tf.reshape(tf.constant(history, tf.string), [len(history), -1])
        request.inputs["history"].CopyFrom(tf.make_tensor_proto(rows))
        request.inputs["k"].CopyFrom(tf.make_tensor_proto(k, tf.int32))
        stub = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        return stub.Predict(request, timeout=30)

    def states(self) -> dict[int, int]:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "shop"
        stub = model_service_pb2_grpc.ModelServiceStub(self.channel)
        statuses = stub.GetModelStatus(request, timeout=30).model_version_status
        return {status.version: status.state for status in statuses}

    def close(self) -> None:
        self.channel.close()
        self.process.kill()
        self._reader.join()
        self.process.communicate()


def wait_for(condition: Callable[[], object], seconds: float = 60) -> object:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)
    return result


@pytest.fixture(scope="module")
def server(line) -> Iterator[Server]:
    with contextlib.closing(Server(line.models)) as started:
        yield started


@pytest.fixture(scope="module")
def vocabulary(line) -> list[str]:
    return (line.data / "vocabulary.txt").read_text("utf-8").split("\n")[:-1]


@pytest.fixture(scope="module")
def expected(line, vocabulary) -> Callable[[list[str], int], list[tuple[str, float]]]:
    """What the trained model itself recommends."""
    model = Run.open_complete(line.run).load_model()

    def recommend(history: list[str], k: int) -> list[tuple[str, float]]:
        ids = [vocabulary.index(item) + 1 for item in history]
        recent = ids[-model.max_length :]
        padded = recent + [0] * (model.max_length - len(recent))
        inputs = {"item_ids": np.array([padded]), "seen_item_ids": np.array([ids])}
        best, scores = map(np.asarray, model.recommend(inputs, k))
        return [
            (vocabulary[item_id - 1], score)
            for item_id, score in zip(best[0], scores[0].tolist(), strict=True)
        ]

    return recommend


# The line


def test_prepare_counts_every_row(line, raw_log) -> None:
    with raw_log.open(newline="") as file:
        _, *rows = map(tuple, csv.reader(file))
    good = [row for row in rows if len(row) == 3 and all(row) and row[2].isdecimal()]
    metadata = json.loads((line.data / "metadata.json").read_text())
    assert metadata["num_interactions"] == len(set(good))
    out, err = line.said["prepare"][1:]
    assert out == ""
    assert (
        f"{len(rows):,} rows: {len(rows) - len(good)} rejected, "
        f"{len(good) - len(set(good))} duplicates" in err
    )


def test_results_go_to_standard_output_and_progress_to_standard_error(line) -> None:
    for name in ("prepare", "train", "export"):
        assert line.said[name].out == ""
    assert "Run complete: best epoch" in line.said["train"].err
    assert f"Published version 1: {line.models / '1'}\n" in line.said["export"].err
    assert "200 test targets" in line.said["evaluate"].out
    for done in line.said.values():
        # Neither a control character of a bar nor a start-up note of a library.
        assert "\x1b" not in done.err
        assert "Traceback" not in done.err + done.out


def test_the_run_can_be_made_again_from_its_own_configuration(line) -> None:
    options = [
        "--data",
        "d",
        "--output",
        "o",
        "--config",
        str(line.run / "config.yaml"),
    ]
    _, bound, _ = cli.app.parse_args(
        ["train", *options], print_error=False, exit_on_error=False
    )
    given = bound.arguments
    for name, value in Run.open(line.run).configuration.items():
        assert given.get(name) == value


def test_recommend_prints_what_the_model_recommends(
    line, server, vocabulary, expected
) -> None:
    base = ["recommend", "--server", server.address, "--model", "shop"]
    base += ["--timeout", "30"]
    for history in (vocabulary[:1], vocabulary[3:7], vocabulary[40:60]):
        best = expected(history, 5)
        arguments = [*base, "--history", ",".join(history), "-k", "5"]

        done = command(*arguments, "--json")
        assert (done.code, done.err) == (0, "")
        answer = json.loads(done.out)
        assert answer["model"] == "shop"
        assert answer["unknown_items"] == 0
        assert answer["version"] == max(server.states())
        assert [row["item"] for row in answer["items"]] == [item for item, _ in best]
        scores = [score for _, score in best]
        assert [row["score"] for row in answer["items"]] == pytest.approx(
            scores, abs=1e-5
        )

        done = command(*arguments)
        assert (done.code, done.err) == (0, "")
        rows = [row.split() for row in done.out.splitlines() if row.strip()]
        assert rows[0] == ["rank", "item", "score"]
        assert [row[:2] for row in rows[-5:]] == [
            [str(rank), item] for rank, (item, _) in enumerate(best, start=1)
        ]
        printed = [float(row[2]) for row in rows[-5:]]
        assert printed == pytest.approx(scores, abs=1e-4)


def test_recommend_says_which_part_it_does_not_know(server, vocabulary) -> None:
    done = command(
        *("recommend", "--server", server.address, "--model", "shop"),
        *("--history", f"new,{vocabulary[0]}", "--timeout", "30", "--json"),
    )
    assert done.code == 0
    assert json.loads(done.out)["unknown_items"] == 1
    assert done.err.startswith("warning: 1 of 2 history items is not in the model's")


@pytest.mark.parametrize(
    ("history", "k", "model", "code", "message"),
    [
        (["known"], 0, "shop", "INVALID_ARGUMENT", "k must be at least 1. Received:"),
        (["known"], -1, "shop", "INVALID_ARGUMENT", "k must be at least 1. Received:"),
        (["known"], 3, "other", "NOT_FOUND", "other"),
    ],
)
def test_what_the_server_refuses(
    server, vocabulary, history, k, model, code, message
) -> None:
    history = [vocabulary[0] if item == "known" else item for item in history]
    with pytest.raises(grpc.RpcError) as caught:
        server.predict([history], [k], model)
    assert caught.value.code().name == code
    assert message in " ".join(caught.value.details().split())


def test_a_history_that_is_known_in_part_is_answered(
    server, vocabulary, expected
) -> None:
    response = server.predict([["new", vocabulary[5]]], [3])
    items = [item.decode() for item in response.outputs["items"].string_val]
    assert items == [item for item, _ in expected([vocabulary[5]], 3)]
    assert list(response.outputs["unknown_items"].int_val) == [1]
    assert response.model_spec.name == "shop"
    assert response.model_spec.version.value == max(server.states())


@pytest.mark.parametrize("history", [[], [""], ["new", "newer"]])
def test_where_a_history_tells_nothing_popularity_recommends(
    line, server, vocabulary, history
) -> None:
    response = server.predict([history], [3])
    items = [item.decode() for item in response.outputs["items"].string_val]
    # Of these the model's own popularity counts the training part alone; so does this.
    prepared = PreparedData.open(str(line.data)).sequences()
    counts = np.zeros(len(vocabulary) + 1, int)
    for start, end in zip(prepared.starts, prepared.train_ends, strict=False):
        np.add.at(counts, prepared.items[start:end], 1)
    scores = list(response.outputs["scores"].float_val)
    assert scores == sorted(counts, reverse=True)[:3]
    assert [counts[vocabulary.index(item) + 1] for item in items] == scores
    assert list(response.outputs["fallback"].bool_val) == [True]
    unknown = sum(item != "" for item in history)
    assert list(response.outputs["unknown_items"].int_val) == [unknown]


def test_recommend_tells_the_servers_refusal(server) -> None:
    base = ["recommend", "--server", server.address, "--timeout", "30"]
    done = command(*base, "--model", "other", "--history", "new")
    assert (done.code, done.out) == (1, "")
    assert "Received: NOT_FOUND from" in done.err


# Last of those with the server, whose life it ends.
@pytest.mark.slow
def test_a_new_version_takes_over_and_sigterm_ends_it(
    line, server, vocabulary, expected, monkeypatch
) -> None:
    # The first export has been replayed in a process of its own.
    monkeypatch.setattr(publish, "replay_in_clean_process", replay)
    assert server.states() == {1: get_model_status_pb2.ModelVersionStatus.AVAILABLE}
    done = command("export", "--run", line.run, "--output", line.models)
    assert done.code == 0
    assert f"Published version 2: {line.models / '2'}\n" in done.err

    def version_2_answers() -> bool:
        response = server.predict([vocabulary[:2]], [3])
        items = [item.decode() for item in response.outputs["items"].string_val]
        assert items == [item for item, _ in expected(vocabulary[:2], 3)]
        return response.model_spec.version.value == 2

    wait_for(version_2_answers)
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    wait_for(lambda: server.states()[2] == available)
    wait_for(lambda: server.states().get(1) != available)
    assert f"Serving shop version 2 on {server.address}" in server.lines

    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=60) == 0
    wait_for(lambda: any("Stopping" in text for text in server.lines))
    assert not any("Traceback" in text for text in server.lines)
    assert server.process.stdout.read() == ""


# What counts as wrong


def snapshot(path: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(each.relative_to(path)): (
            each.lstat().st_mode,
            each.read_bytes() if each.is_file() else b"",
        )
        for each in path.rglob("*")
    }


def with_schema_version(data: Path, to: Path, schema_version: int) -> None:
    """A prepared directory of another release: whole, and other."""
    shutil.copytree(data, to)
    metadata = json.loads((to / "metadata.json").read_text())
    text = json.dumps({**metadata, "schema_version": schema_version}).encode()
    (to / "metadata.json").write_bytes(text)
    (to / "_SUCCESS").write_text(hashlib.sha256(text).hexdigest() + "\n")


HEADER = "user_id,item_id,timestamp\n"
# The command line, its exit code, and what it says. {here} is an empty directory but for
# what the test puts there.
WRONG = {
    "an empty input file": (
        "prepare --input {here}/empty.csv --output {here}/out {columns}",
        1,
        "At least one interaction must be left to write. Received: rows read 0",
    ),
    "an input file with a header alone": (
        "prepare --input {here}/header.csv --output {here}/out {columns}",
        1,
        "At least one interaction must be left to write. Received: rows read 0",
    ),
    "a column that is not there": (
        "prepare --input {log} --output {here}/out --user-column who "
        "--item-column item_id --time-column timestamp",
        1,
        "'user_id', 'item_id', 'timestamp'. Received: 'who', which is not there",
    ),
    "a pattern that matches nothing": (
        "prepare --input {here}/none*.csv --output {here}/out {columns}",
        1,
        "`input` must match at least one file. Received: '{here}/none*.csv'",
    ),
    "a prepare output that cannot be written": (
        "prepare --input {log} --output {here}/header.csv/out {columns}",
        1,
        "The output must be a path that can be written. Received: {here}/header.csv/out",
    ),
    "a prepare output that is there": (
        "prepare --input {log} --output {here}/mine {columns}",
        1,
        "The output must not exist yet, since nothing is ever overwritten. Received: "
        "{here}/mine",
    ),
    "a train output that is there": (
        "train --data {data} --output {here}/mine",
        1,
        "The output must not exist yet, since nothing is ever overwritten. Received: "
        "{here}/mine",
    ),
    "a train output that is a complete run": (
        "train --data {data} --output {run}",
        1,
        "--resume. Received: {run}",
    ),
    "a train output that cannot be written": (
        "train --data {data} --output {here}/header.csv/out",
        1,
        "The output must be a path that can be written. Received: {here}/header.csv/out",
    ),
    "data that is not prepared": (
        "train --data {here}/mine --output {here}/out",
        1,
        "A prepared directory must be whole: `adaptiverec prepare` writes metadata.json "
        "and, last of all, _SUCCESS. Received: {here}/mine, which has no metadata.json",
    ),
    "data of another schema version": (
        "train --data {here}/old --output {here}/out",
        1,
        "The prepared data must have schema_version 2; run `adaptiverec prepare` of this "
        "release again. Received: 0 in {here}/old/metadata.json",
    ),
    "a seed below 0": (
        "train --data {data} --output {here}/out --seed -1",
        2,
        "Received: -1",
    ),
    "a seed of more than 32 bits": (
        "train --data {data} --output {here}/out --seed 4294967296",
        2,
        "Received: 4294967296",
    ),
    "no epoch": (
        "train --data {data} --output {here}/out --epochs 0",
        2,
        "epochs must be at least 1. Received: 0",
    ),
    "data that a run was not trained on": (
        "evaluate --run {run} --data {other}",
        1,
        "The prepared data must be what the run was trained on, by its fingerprint",
    ),
    "an evaluation into a directory": (
        "evaluate --run {run} --data {data} --output {here}/mine",
        1,
        "Received: {here}/mine",
    ),
    "no run to evaluate": (
        "evaluate --run {here}/none --data {data}",
        1,
        "Received: {here}/none",
    ),
    "no run to export": (
        "export --run {here}/none --output {here}/models",
        1,
        "Received: {here}/none",
    ),
    "an export into a file": (
        "export --run {run} --output {here}/header.csv",
        1,
        "The base path must be a directory, or not exist yet. Received: "
        "{here}/header.csv",
    ),
    "a base path that is not there": (
        "serve --model_base_path {here}/none --port 0 --fail_if_no_model_versions_found",
        1,
        "The model base path must be a directory that can be read. Received: "
        "{here}/none",
    ),
    "a base path without a version": (
        "serve --model_base_path {here}/mine --port 0 --fail_if_no_model_versions_found",
        1,
        "must hold at least one version, a directory with a number for its name, such "
        "as {here}/mine/1. Received: {here}/mine",
    ),
    "a port that is none": (
        "serve --model_base_path {models} --port 65536",
        2,
        "port must be from 0 to 65535. Received: port=65536",
    ),
    "k below 1": (
        "recommend --server 127.0.0.1:1 --history a -k 0",
        2,
        "k must be a whole number from 1 to 2147483647. Received: k=0",
    ),
    "an empty history": (
        "recommend --server 127.0.0.1:1 --history=",
        2,
        "history must be item ids separated by commas, none of them empty. Received: "
        "history=''",
    ),
    "a server that is not there": (
        "recommend --server 127.0.0.1:1 --history a",
        1,
        "Received: UNAVAILABLE from 127.0.0.1:1",
    ),
}


@pytest.fixture(scope="module")
def other_data(raw_log, tmp_path_factory) -> Path:
    """The same log, prepared otherwise."""
    path = tmp_path_factory.mktemp("other") / "data"
    done = command(
        *("prepare", "--input", raw_log, "--output", path, *COLUMNS),
        *("--min-user-interactions", "12"),
    )
    assert done.code == 0
    return path


@pytest.mark.parametrize("wrong", WRONG)
def test_what_counts_as_wrong(line, raw_log, other_data, tmp_path, wrong) -> None:
    here = tmp_path / "here"
    (here / "mine").mkdir(parents=True)
    (here / "mine" / "file").write_text("mine")
    (here / "empty.csv").touch()
    (here / "header.csv").write_text(HEADER)
    with_schema_version(line.data, here / "old", 0)
    text, code, message = WRONG[wrong]
    places = {
        "here": here,
        "log": raw_log,
        "data": line.data,
        "run": line.run,
        "models": line.models,
        "other": other_data,
        "columns": " ".join(COLUMNS),
    }
    before = snapshot(here), snapshot(line.run), snapshot(line.models)
    done = command(*text.format(**places).split(" "))
    assert (done.code, done.out) == (code, "")
    error = done.err.splitlines()[-1]
    assert error.startswith("adaptiverec: error: ")
    assert message.format(**places) in error
    assert "Received: " in error
    assert "Traceback" not in done.err
    assert (snapshot(here), snapshot(line.run), snapshot(line.models)) == before


# What is installed


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel of the tree as it is, built away from it."""
    if int(version("setuptools").partition(".")[0]) < 77:
        pytest.skip("building needs setuptools 77, as pyproject.toml says")
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("git does not know which files are of the tree")
    base = tmp_path_factory.mktemp("wheel")
    for name in filter(None, listed.split("\0")):
        target = base / "tree" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # A file that git knows may have been removed since.
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(ROOT / name, target, follow_symlinks=False)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    done = subprocess.run(
        [*build, "--outdir", str(base / "dist"), str(base / "tree")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (base / "dist").iterdir()
    return built


def test_the_wheel_has_the_packages_and_nothing_else(wheel) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    code = {name for name in names if ".dist-info/" not in name}
    expected_files = set()
    for folder in ("common", "pipeline", "model", "serving"):
        expected_files |= {
            f"adaptiverec/{folder}/{path.name}"
            for path in (ROOT / folder).iterdir()
            if path.suffix in (".py", ".pyi", ".proto", ".typed", ".j2")
        }
    expected_files |= {
        f"adaptiverec/serving/deploy/{path.name}"
        for path in (ROOT / "serving" / "deploy").iterdir()
    }
    assert code == expected_files
    assert "adaptiverec/serving/deploy/models.config" in code
    assert "adaptiverec/serving/predict.proto" in code
    for folder in ("common", "pipeline", "model", "serving"):
        assert f"adaptiverec/{folder}/py.typed" in code
    # A namespace package, beside which others may install theirs.
    assert "adaptiverec/__init__.py" not in code
    (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
    with zipfile.ZipFile(wheel) as file:
        assert (
            "adaptiverec = adaptiverec.common.cli:main"
            in file.read(entry_points).decode()
        )


IMPORT_ELSEWHERE = """
import adaptiverec.common, adaptiverec.pipeline, adaptiverec.model.run
import adaptiverec.pipeline.contract as contract
print(contract.__file__, contract.SCHEMA_VERSION)
"""


def test_what_is_installed_is_imported_anywhere(wheel, tmp_path) -> None:
    installed = tmp_path / "installed"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    install += ["--no-index", "--disable-pip-version-check"]
    subprocess.run([*install, "--target", installed, wheel], check=True)
    (tmp_path / "elsewhere").mkdir()
    # Without site-packages: neither the checkout that may be installed there nor any
    # library. The contract needs none.
    done = subprocess.run(
        [sys.executable, "-S", "-c", IMPORT_ELSEWHERE],
        cwd=tmp_path / "elsewhere",
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    contract = installed / "adaptiverec" / "pipeline" / "contract.py"
    assert done.stdout == f"{contract} 2\n"


# What is promised


@pytest.mark.slow
# Keras remarks that a dataset shuffles itself, whatever fit() is told.
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning:keras")
def test_the_code_in_the_readme_runs_as_it_stands(
    line, tmp_path, monkeypatch, capsys
) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    found = re.search(
        r"<!-- tested: plain Keras -->\n+```python\n(.*?)```", readme, re.DOTALL
    )
    if not found:
        pytest.skip("README.md has no code block after <!-- tested: plain Keras -->")
    shutil.copytree(line.data, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    exec(compile(found[1], "README.md", "exec"), names)
    assert "ndcg@10" in capsys.readouterr().out
