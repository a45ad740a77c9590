"""The command line: what it takes, what it says where, and what it exits with."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from adaptiverec.common import cli, errors
from adaptiverec.common.demo import demo
from adaptiverec.model.evaluate import evaluate
from adaptiverec.model.report import report
from adaptiverec.model.train import train
from adaptiverec.model.tune import tune
from adaptiverec.pipeline import prepare
from adaptiverec.serving.batch_recommend import batch_recommend
from adaptiverec.serving.export import export
from adaptiverec.serving.load_test import loadtest
from adaptiverec.serving.recommend import recommend
from adaptiverec.serving.server import serve

README = Path(__file__).parents[2] / "README.md"
FUNCTIONS = {
    function.__name__.replace("_", "-"): function
    for function in (
        prepare,
        train,
        tune,
        report,
        evaluate,
        export,
        batch_recommend,
        serve,
        recommend,
        loadtest,
        demo,
    )
}
# Options of the commands, as scripts have them.
COMMAND_LINES = {
    "prepare": "--input a.csv b.csv --output out --user-column u --item-column i "
    "--time-column t --delimiter ; --no-header --min-user-interactions 2 "
    "--min-item-interactions 3 --split none",
    "train": "--data data --output run --epochs 3 --batch-size 8 --max-length 9 "
    "--objective none --views su --seed 7",
    "tune": "--data data --ranges ranges.yaml --output out --trials 3 --method random",
    "report": "run --data data --output page.html --part test",
    "evaluate": "--run run --data data --output report.json",
    "export": "--run run --output models",
    "batch-recommend": "--model models --data data --output out -k 3 --format tfrecord "
    "--no-exclude-history --allow-file allow.txt",
    "serve": "--model_name shop --model_base_path models --port 0",
    "recommend": "--server host:1 --model shop --history a,b -k 3 --json",
    "loadtest": "--server host:1 --model shop --data data --clients 8 --seconds 3 "
    "-k 3 --output report.json",
    "demo": "--output out --log log.csv",
}


def parse(*arguments: str) -> dict[str, Any]:
    """What a command would be called with, where the command line gives it."""
    _, bound, _ = cli.app.parse_args(
        list(arguments), print_error=False, exit_on_error=False
    )
    return bound.arguments


def options_of(name: str) -> dict[str, Any]:
    """The options of a command, by the name of the function's parameter."""
    # What the program as a whole says of options counts for its commands.
    with cli.app.app_stack([name]):
        arguments = cli.app[name].assemble_argument_collection()
    return {argument.field_info.name: argument for argument in arguments}


@pytest.fixture
def run(capsys):
    """Runs a command line; gives its exit code, standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            cli.main(list(arguments))
            code = 0
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run


def plain(boxed: str) -> str:
    """A message without the box around it and its line breaks."""
    return " ".join(re.sub(r"[^ -~]", " ", boxed).split())


IMPORTED = """
from adaptiverec.common import cli
cli._import_tensorflow_quietly()
import tensorflow as tf
# TensorFlow refuses it once its devices have got their threads.
tf.config.threading.set_intra_op_parallelism_threads(1)
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    assert session.run(tf.constant(1)) == 1
"""


def test_tensorflow_is_imported_quietly_and_its_threads_are_still_to_be_had() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


IN_ONE_PROCESS = """
import json, sys
from adaptiverec.common import cli
codes = {}
for name, line in json.loads(sys.argv[1]).items():
    try:
        cli.main([name, "--help"])
        codes[name] = 0
    except SystemExit as end:
        codes[name] = end.code
    cli.app.parse_args([name, *line.split()], exit_on_error=False)
heavy = {"tensorflow", "keras", "tf_keras", "apache_beam", "pyarrow", "numpy", "grpc"}
json.dump([codes, sorted(heavy & set(sys.modules))], sys.stderr)
"""


def test_help_and_wrong_options_wait_for_no_library() -> None:
    lines = {name: line.replace("-k 3", "") for name, line in COMMAND_LINES.items()}
    done = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS, json.dumps(lines)],
        capture_output=True,
        text=True,
        check=True,
    )
    codes, imported = json.loads(done.stderr)
    assert codes == dict.fromkeys(FUNCTIONS, 0)
    assert imported == []
    for name in FUNCTIONS:
        assert f"Usage: adaptiverec {name} " in done.stdout


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_command_is_the_function(name) -> None:
    signature = inspect.signature(FUNCTIONS[name])
    options = options_of(name)
    extra = {"config"} if name in ("prepare", "train") else set()
    assert set(options) == set(signature.parameters) | extra
    for parameter in signature.parameters.values():
        option = options[parameter.name]
        required = parameter.default is inspect.Parameter.empty
        assert option.required == required
        if not required:
            assert option.field_info.default == parameter.default
        # The help of each is in the function's docstring.
        assert re.search(rf"\n +{parameter.name}: \S", FUNCTIONS[name].__doc__ or "")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_options_have_no_other_names_than_these(name) -> None:
    for variable, argument in options_of(name).items():
        option = variable if name == "serve" else variable.replace("_", "-")
        allowed = {f"--{option}"}
        if argument.hint is bool or argument.hint == (bool | None):
            allowed.add(f"--no-{option}")
        if len(variable) == 1:
            allowed.add(f"-{variable}")
        assert set(argument.names) <= allowed


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "prepare",
            {
                "input": ["a.csv", "b.csv"],
                "output": "out",
                "user_column": "u",
                "item_column": "i",
                "time_column": "t",
                "delimiter": ";",
                "header": False,
                "min_user_interactions": 2,
                "min_item_interactions": 3,
                "split": "none",
            },
        ),
        (
            "train",
            {
                "data": "data",
                "output": "run",
                "epochs": 3,
                "batch_size": 8,
                "max_length": 9,
                "objective": "none",
                "views": "su",
                "seed": 7,
            },
        ),
        (
            "tune",
            {
                "data": "data",
                "ranges": "ranges.yaml",
                "output": "out",
                "trials": 3,
                "method": "random",
            },
        ),
        (
            "report",
            {"run": "run", "data": "data", "output": "page.html", "part": "test"},
        ),
        ("evaluate", {"run": "run", "data": "data", "output": "report.json"}),
        ("export", {"run": "run", "output": "models"}),
        (
            "batch-recommend",
            {
                "model": "models",
                "data": "data",
                "output": "out",
                "k": 3,
                "format": "tfrecord",
                "exclude_history": False,
                "allow_file": "allow.txt",
            },
        ),
        ("serve", {"model_name": "shop", "model_base_path": "models", "port": 0}),
        (
            "recommend",
            {
                "server": "host:1",
                "model": "shop",
                "history": "a,b",
                "k": 3,
                "json": True,
            },
        ),
        (
            "loadtest",
            {
                "server": "host:1",
                "model": "shop",
                "data": "data",
                "clients": 8,
                "seconds": 3.0,
                "k": 3,
                "output": "report.json",
            },
        ),
        ("demo", {"output": "out", "log": "log.csv"}),
    ],
)
def test_options_that_scripts_rely_on(name, expected) -> None:
    assert parse(name, *COMMAND_LINES[name].split()) == expected


@pytest.mark.parametrize(
    "inputs",
    [
        ["--input", "a", "b", "c"],
        ["--input", "a", "--input", "b", "--input", "c"],
        ["--input", "a", "b", "--input", "c"],
        ["--input=a", "--input=b", "--input=c"],
    ],
)
def test_several_inputs(inputs) -> None:
    rest = "--output out --user-column u --item-column i --time-column t"
    for line in ([*inputs, *rest.split()], [*rest.split(), *inputs]):
        assert parse("prepare", *line)["input"] == ["a", "b", "c"]


def test_flags_of_beam_go_through_as_they_are() -> None:
    rest = "--input a --output o --user-column u --item-column i --time-column t"
    flags = ["--beam-options=--runner=FlinkRunner", "--beam-options=--flink_master=h:1"]
    assert parse("prepare", *rest.split(), *flags)["beam_options"] == [
        "--runner=FlinkRunner",
        "--flink_master=h:1",
    ]


def test_values_that_look_like_options_come_after_an_equals_sign() -> None:
    assert parse("recommend", "--server", "h:1", "--history=-a,b")["history"] == "-a,b"


def commands_of_the_readme() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    commands = [line for line in lines if line.startswith("adaptiverec ")]
    return commands or ["adaptiverec --help"]


@pytest.mark.parametrize(
    "command",
    commands_of_the_readme(),
    ids=lambda line: " ".join(shlex.split(line)[:3]),
)
def test_the_commands_of_the_readme_are_commands(command) -> None:
    parse(*shlex.split(command, comments=True)[1:])


def options_of_the_page_on_training() -> list[str]:
    page = README.parent / "docs" / "train.md"
    # As they stand in its text, with or without a value.
    return re.findall(r"`(--[^`]+)`", page.read_text("utf-8"))


@pytest.mark.parametrize("options", options_of_the_page_on_training())
def test_the_options_of_the_page_on_training_are_options(options) -> None:
    names = re.findall(r"--([a-z0-9-]+)", options)
    known = inspect.signature(train).parameters
    assert [name for name in names if name.replace("-", "_") not in known] == []
    if " " in options:
        parsed = parse("train", "--data=data", "--output=run", *shlex.split(options))
        assert len(parsed) == 2 + len(names)


def test_version(run) -> None:
    assert run("--version") == (0, version("adaptiverec") + "\n", "")


def test_without_a_command_there_is_help(run) -> None:
    code, out, err = run()
    assert (code, err) == (0, "")
    for name in FUNCTIONS:
        assert re.search(rf"^\W*{name} +[A-Z]", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nothing", 'Unknown command "nothing"'),
        ("export --run run --output o --nothing", "Unknown option: --nothing."),
        ("export --run run", "--output requires an argument"),
        ("export --run run --output", "--output requires an argument"),
        ("export run o", "requires an argument"),
        ("export --run run --run run --output o", "specified multiple times"),
        ("train --data d --output o --epochs many", 'convert "many" into int'),
        ("train --data d --output o --objective bpr", 'Invalid value "bpr"'),
    ],
)
def test_a_command_line_that_is_wrong_exits_with_2(
    run, tmp_path, monkeypatch, line, message
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*line.split())
    assert (code, out) == (2, "")
    assert message in plain(err)
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidValueError("k must be 1. Received: 0"), 2),
        (errors.NotFoundError("It must be there. Received: [red]x"), 1),
        (errors.OutputExistsError("It must not be there. Received: x"), 1),
        (errors.OutputError("It must be writable. Received: x"), 1),
        (errors.ContractError("It must be whole. Received: half"), 1),
        (errors.StageError("It must succeed. Received: failure"), 1),
    ],
)
def test_an_error_that_a_user_can_mend_is_one_line(
    run, monkeypatch, error, code
) -> None:
    def fail(_: list[str]) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    assert run("anything") == (code, "", f"adaptiverec: error: {error}\n")


def test_any_other_error_is_a_bug_and_keeps_its_traceback(monkeypatch) -> None:
    def fail(_: list[str]) -> None:
        raise ValueError("bug")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(ValueError, match="^bug$"):
        cli.main(["anything"])


def test_a_package_that_is_not_installed_names_the_extras(run, monkeypatch) -> None:
    def without(*_: object) -> None:
        import a_package_of_an_extra  # noqa: F401

    monkeypatch.setattr(cli, "app", without)
    code, _, err = run("evaluate")
    assert code == 1
    assert "adaptiverec[pipeline]" in err
    assert "Received: no module 'a_package_of_an_extra'" in err
    assert "Traceback" not in err


def test_ctrl_c(run, monkeypatch) -> None:
    def interrupted(_: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    assert run("anything") == (130, "", "adaptiverec: interrupted\n")


def test_a_stages_own_error_comes_through(run, tmp_path) -> None:
    code, out, err = run("recommend", "--server", "127.0.0.1:1", "--history", "a,,b")
    assert (code, out) == (2, "")
    assert err == (
        "adaptiverec: error: history must be item ids separated by commas, none of "
        "them empty. Received: history='a,,b'\n"
    )


@pytest.fixture
def config(tmp_path):
    """Writes a YAML file and gives the option that names it."""

    def write(values: Any) -> list[str]:
        path = tmp_path / "options.yaml"
        text = values if isinstance(values, str) else yaml.safe_dump(values)
        path.write_text(text, encoding="utf-8")
        return ["--config", str(path)]

    return write


TRAIN = ["train", "--data", "data", "--output", "run"]


def test_options_from_a_file_and_the_command_line_before_it(config) -> None:
    options = config(
        {"epochs": 7, "learning_rate": 0.25, "views": "su", "exclude_seen": True}
    )
    expected = {"data": "data", "output": "run", "config": options[1]}
    expected |= {"epochs": 7, "learning_rate": 0.25, "views": "su"}
    assert parse(*TRAIN, *options) == {**expected, "exclude_seen": True}
    over = ["--epochs", "2", "--views=un", "--no-exclude-seen"]
    for line in ([*options, *over], [*over, *options]):
        assert parse(*TRAIN, *line) == {
            **expected,
            "epochs": 2,
            "views": "un",
            "exclude_seen": False,
        }


def test_required_options_may_be_in_the_file(config) -> None:
    options = config({"data": "there", "output": "run"})
    assert parse("train", *options)["data"] == "there"


def test_every_option_can_be_in_the_file_as_a_run_writes_it(config) -> None:
    parameters = inspect.signature(train).parameters.values()
    values = {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.name not in ("data", "output", "resume")
    }
    # A null is the default of an option that has none.
    assert values["similarity"] is None
    given = parse(*TRAIN, *config(values))
    for name, value in values.items():
        assert given.get(name) == value


def test_options_of_prepare_come_from_a_file_too(config) -> None:
    values = {
        "input": ["a.csv", "b.csv.gz"],
        "output": "out",
        "user_column": "user",
        "item_column": "item",
        "time_column": "when",
        "time_format": "%d/%m/%Y",
        "event_types": ["buy", "cart"],
        "min_rating": 3.5,
        "delimiter": "\t",
        "quote": "",
        "header": False,
        "base_vocabulary": None,
        "beam_options": ["--runner=FlinkRunner"],
    }
    given = parse("prepare", *config(values), "--output", "elsewhere")
    expected = {**values, "output": "elsewhere"}
    assert {name: given.get(name) for name in expected} == expected


def test_an_empty_file_says_nothing(config) -> None:
    options = config("")
    assert parse(*TRAIN, *options) == {
        "data": "data",
        "output": "run",
        "config": options[1],
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 3, "batch_siz": 8}, "batch_siz"),
        ({"epochs": "many"}, 'convert "many" into int'),
        ({"objective": "bpr"}, 'Invalid value "bpr"'),
        ("- epochs\n", "must be a mapping"),
        ("epochs: [1\n", "while parsing"),
    ],
)
def test_a_file_that_is_wrong(
    run, config, tmp_path, monkeypatch, values, message
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*TRAIN, *config(values))
    assert (code, out) == (2, "")
    assert message in plain(err)
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["options.yaml"]


def test_a_file_that_is_not_there(run, tmp_path) -> None:
    for path in (tmp_path, tmp_path / "none.yaml"):
        code, out, err = run(*TRAIN, "--config", str(path))
        assert (code, out) == (1, "")
        assert err == (
            f"adaptiverec: error: --config must name a file. Received: {path}\n"
        )
