"""`adaptiverec demo`: the whole line, from a raw log to an answer over gRPC."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from adaptiverec.common.errors import StageError
from adaptiverec.common.files import check_output_is_free, read_json
from adaptiverec.common.guess_columns import LogFormat, guess_log_format
from adaptiverec.common.progress import say
from adaptiverec.common.synthetic_log import write_synthetic_log

__all__ = ["demo"]

# NDCG@10 of the model over that of the better baseline.
_CLEARLY = 1.2
# Small and quick: a demonstration, not the settings to get the best out of a log.
_TRAINING = {
    "batch-size": "512",
    "max-length": "16",
    "num-blocks": "1",
    "num-heads": "1",
    "inner-dim": "64",
    "dropout": "0.1",
    "learning-rate": "0.003",
}


def demo(
    *,
    output: str = ".demo",
    log: str | None = None,
    user_column: str | None = None,
    item_column: str | None = None,
    time_column: str | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    time_format: Literal["s", "ms", "us", "iso8601"] | None = None,
    epochs: int = 4,
) -> None:
    """Runs every stage once: prepare, train, evaluate, export, serve, recommend.

    Each is the command that you would type, and is shown. Without a log of your own, one
    of some 200,000 rows is made up, with a structure to be found and with dirt.

    Args:
        output: Directory to make, for all that comes of it.
        log: A log of your own, CSV or TSV, plain or gzip'd. How it is written is guessed
            from its first lines where the following options do not say so.
        user_column: Name or 0-based position of the column with user ids.
        item_column: Likewise, item ids.
        time_column: Likewise, times.
        delimiter: The character between fields.
        header: Whether the first line names the columns.
        time_format: Seconds, milliseconds, microseconds since 1970, or ISO 8601.
        epochs: Of training. Few, for speed; a log of your own may need more.

    Raises:
        InvalidValueError: The log's format cannot be guessed.
        OutputExistsError: The output exists.
        StageError: A stage failed, or the model does not clearly beat both baselines.
    """
    directory = Path(output)
    check_output_is_free(directory)
    started = time.monotonic()
    given: dict[str, Any] = {
        "user_column": user_column,
        "item_column": item_column,
        "time_column": time_column,
        "delimiter": delimiter,
        "header": header,
        "time_format": time_format,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if log is not None:
        path = Path(log)
        form = guess_log_format(path, **given)
    directory.mkdir(parents=True, exist_ok=True)
    if log is None:
        path = directory / "log.csv"
        made = write_synthetic_log(path)
        say(
            f"Made up {path}: {made.rows:,} rows, of them {made.bad_rows} bad and "
            f"{made.duplicates} duplicates."
        )
        form = LogFormat("user_id", "item_id", "timestamp", ",", True, "s")
    data, run, models = directory / "data", directory / "run", directory / "models"

    prepare = ["prepare", "--input", str(path), "--output", str(data)]
    for name in ("user_column", "item_column", "time_column", "time_format"):
        prepare += [f"--{name.replace('_', '-')}", getattr(form, name)]
    prepare += ["--delimiter", "\\t" if form.delimiter == "\t" else form.delimiter]
    prepare += [] if form.header else ["--no-header"]
    _stage("Prepare", prepare)
    train = ["train", "--data", str(data), "--output", str(run)]
    train += ["--epochs", str(epochs)]
    for option, value in _TRAINING.items():
        train += [f"--{option}", value]
    _stage("Train", train)
    _stage("Evaluate", ["evaluate", "--run", str(run), "--data", str(data)])
    _stage("Export", ["export", "--run", str(run), "--output", str(models)])
    history, next_item = _somebody(data)
    with _server(models) as address:
        recommend = ["recommend", "--server", address, "--model", "demo"]
        recommend += ["--history", _comma_separated(history), "-k", "10"]
        _stage("Recommend", recommend)
    say(f"\nWhat this user really took next: {next_item}")
    say(f"\nPrepared data   {data}")
    say(f"Run             {run}  (tensorboard --logdir {run / 'tensorboard'})")
    say(f"Served model    {models}")
    say(f"Done in {time.monotonic() - started:.0f} s.")
    # Last, so that a log on which the brief training does not do has its answer too.
    say(_check_beats_baselines(read_json(run / "evaluation.json")))


def _command(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "adaptiverec.common", *arguments]


def _stage(name: str, arguments: list[str]) -> None:
    say(f"\n== {name}\n$ adaptiverec {shlex.join(arguments)}")
    code = subprocess.run(_command(arguments), check=False).returncode
    if code != 0:
        raise StageError(
            f"Every stage must succeed. Received: exit code {code} of "
            f"`adaptiverec {arguments[0]}`, which said why above"
        )


def _check_beats_baselines(report: dict[str, Any]) -> str:
    ndcg = {
        row["system"]: row["ndcg@10"]
        for row in report["results"]
        if row["seen_items"] == "kept"
    }
    (model, own), *baselines = ndcg.items()
    name, best = max(baselines, key=lambda item: item[1])
    comparison = (
        f"NDCG@10 {own:.4f} of {model}, {best:.4f} of the better baseline ({name})"
    )
    if own < _CLEARLY * best:
        raise StageError(
            f"The model must beat both baselines by a factor of {_CLEARLY}; a log of your "
            f"own may need more --epochs. Received: {comparison}"
        )
    return f"{comparison}: {own / best:.1f} times as good."


def _somebody(data: Path) -> tuple[list[str], str]:
    """The history and the test item of the first user who has one."""
    from adaptiverec.model.instances import Instances
    from adaptiverec.model.prepared_data import PreparedData

    prepared = PreparedData.open(str(data))
    blocks = ((block, Instances.of(block, "test")) for block in prepared.blocks())
    sequences, instances = next(found for found in blocks if len(found[1]))
    start, target = instances.starts[0], instances.targets[0]
    items = [prepared.vocabulary[i - 1] for i in sequences.items[start : target + 1]]
    return items[-13:-1], items[-1]


def _comma_separated(history: list[str]) -> str:
    import csv
    import io

    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(history)
    return text.getvalue()


@contextlib.contextmanager
def _server(models: Path) -> Iterator[str]:
    """Serves while the block runs; gives the address."""
    arguments = ["serve", "--model_name", "demo", "--model_base_path", str(models)]
    arguments += ["--port", "0"]
    say(f"\n== Serve\n$ adaptiverec {shlex.join(arguments)}")
    server = subprocess.Popen(_command(arguments), stderr=subprocess.PIPE, text=True)
    try:
        address = None
        # Ends, too, when the server does.
        for line in server.stderr or ():
            say(line.rstrip())
            if line.startswith("Serving "):
                address = line.split()[-1]
                break
        if address is None:
            raise StageError("The server must come up. Received: the lines above")
        yield address
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=10)
        server.kill()
