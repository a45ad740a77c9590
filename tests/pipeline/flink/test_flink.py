"""The job on a real Flink cluster; needs Java 17 and Maven, and fetches the rest once."""

from __future__ import annotations

import gzip
import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adaptiverec.common import errors
from adaptiverec.pipeline import prepare

pytestmark = pytest.mark.flink

Contents = Callable[[Path], dict[str, Any]]

COLUMNS = {"user_column": "user", "item_column": "item", "time_column": "time"}


@pytest.fixture
def dirty_log(tmp_path: Path) -> list[str]:
    """Two files with a core within, ties in time, duplicates and bad rows."""
    rng = random.Random(7)
    rows = []
    for user in range(400):
        # The later ones are rare, and what they read is rare for it.
        for _ in range(12 if user < 300 else 3):
            item = int(rng.paretovariate(0.7)) % (200 if user < 300 else 2000)
            rows.append(f"u{user},i{item},{rng.randrange(1000)}")
    rows += rows[:50]
    rows += [",i1,5", "u1,,5", "u1,i1,soon", "u1,i1", "u2,i2,3,more", "u\x01,i1,4"]
    rng.shuffle(rows)
    half = len(rows) // 2
    plain = tmp_path / "first.csv"
    plain.write_text("\n".join(["user,item,time", *rows[:half], ""]))
    packed = tmp_path / "second.csv.gz"
    packed.write_bytes(
        gzip.compress("\n".join(["item,time,user", *map(_turn, rows[half:])]).encode())
    )
    return [str(plain), str(packed)]


def _turn(row: str) -> str:
    user, *others = row.split(",")
    return ",".join([*others, user])


@pytest.fixture(name="contents")
def contents_of_prepared(contents: Contents) -> Contents:
    """Gives the files of a prepared directory, but for what depends on the runner."""

    def contents_of(output: Path) -> dict[str, Any]:
        files = contents(output)
        del files["report.html"]
        # Which worker sets a row aside, and so in which file, is the runner's choice.
        rejected = [
            files.pop(name) for name in list(files) if name.startswith("rejected/")
        ]
        lines = sorted(line for data in rejected for line in data.splitlines())
        return {**files, "rejected": lines}

    return contents_of


@pytest.mark.parametrize(
    "options",
    [
        {"split": "time", "num_shards": 4},
        {"split": "leave-one-out", "num_shards": 1, "min_user_interactions": 7},
    ],
)
def test_the_same_bytes_as_on_the_local_runner(
    cluster, contents, dirty_log, tmp_path, options
):
    prepare(input=dirty_log, output=str(tmp_path / "local"), **COLUMNS, **options)
    prepare(
        input=dirty_log,
        output=str(tmp_path / "flink"),
        beam_options=cluster.beam_options(),
        **COLUMNS,
        **options,
    )
    expected = contents(tmp_path / "local")
    counts = expected["metadata"]["counts"]
    assert counts["rejected"] == 6
    assert counts["duplicates"] >= 50
    assert counts["below_min_interactions"] > 100
    assert counts["kept"] > 1000
    assert contents(tmp_path / "flink") == expected
    job = cluster.jobs()[0]
    assert job["state"] == "FINISHED"
    assert cluster.task_managers_of(job["jid"]) == {"task-manager-1", "task-manager-2"}
    # And Python ran beside both.
    for number in (1, 2):
        assert b"Starting worker" in (cluster.logs / f"pool-{number}.log").read_bytes()


def test_beams_own_name_for_flink(cluster, contents, dirty_log, tmp_path):
    """As a user has it: Beam starts the job server itself."""
    flags = [
        "--runner=FlinkRunner",
        f"--flink_master={cluster.master}",
        f"--flink_job_server_jar={cluster.home / 'job-server.jar'}",
        *cluster.environment(),
    ]
    for name, beam_options in (("local", None), ("flink", flags)):
        prepare(
            input=dirty_log,
            output=str(tmp_path / name),
            beam_options=beam_options,
            **COLUMNS,
        )
    assert contents(tmp_path / "flink") == contents(tmp_path / "local")


@pytest.fixture
def fails(cluster, tmp_path):
    """Runs ``prepare`` on the cluster; gives the message, and finds nothing written."""

    def run(error_class: type[Exception], output: Path, **options: Any) -> str:
        before = sorted(output.parent.iterdir())
        with pytest.raises(error_class) as caught:
            prepare(
                output=str(output),
                beam_options=cluster.beam_options(),
                **COLUMNS,
                **options,
            )
        assert type(caught.value) is error_class
        assert sorted(output.parent.iterdir()) == before
        return str(caught.value)

    return run


def test_a_damaged_file(fails, dirty_log, tmp_path):
    """Damaged so far behind its beginning that only a worker can find it."""
    rng = random.Random(3)
    text = "".join(f"u{n % 999},{rng.randbytes(20).hex()},{n}\n" for n in range(50_000))
    damaged = tmp_path / "third.csv.gz"
    damaged.write_bytes(gzip.compress(f"user,item,time\n{text}".encode())[:-50_000])
    message = fails(
        errors.StageError, tmp_path / "out", input=[*dirty_log, str(damaged)]
    )
    assert message.startswith("An input file must be readable to its end. Received: ")
    assert str(damaged) in message


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 16 KB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(directory)]
    if subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_a_full_disk(fails, dirty_log, small_disk):
    message = fails(errors.OutputError, small_disk / "out", input=dirty_log)
    assert message.startswith("There must be room beside the output")


class Background(threading.Thread):
    """A run of ``prepare`` beside the test."""

    def __init__(self, **options: Any) -> None:
        super().__init__(daemon=True)
        self._options = options
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            prepare(**self._options)
        except BaseException as error:
            self.error = error


def staged(directory: Path, name: str) -> Callable[[], bool]:
    """Whether a file of this name is in the staging directory of a run."""
    return lambda: any(directory.glob(f".out.incomplete-*/{name}"))


def test_a_task_manager_is_lost_for_good(
    cluster, contents, dirty_log, tmp_path, wait_until
):
    options = {"input": dirty_log, "output": str(tmp_path / "out"), **COLUMNS}
    background = Background(**options, beam_options=cluster.beam_options())
    wait_until(staged(tmp_path, "vocabulary.txt"), "the core to be found")
    cluster.kill_task_manager(1)
    try:
        background.join(120)
        assert isinstance(background.error, errors.StageError)
        assert "must bring the job to its end" in str(background.error)
        assert not (tmp_path / "out").exists()
        assert not list(tmp_path.glob(".out.incomplete-*"))
    finally:
        cluster.start_task_manager(1)
        cluster.wait_for_task_managers(2)
    prepare(**options, beam_options=cluster.beam_options())
    prepare(**{**options, "output": str(tmp_path / "local")})
    assert contents(tmp_path / "out") == contents(tmp_path / "local")


def test_a_task_manager_is_lost_and_replaced(
    cluster, contents, dirty_log, tmp_path, wait_until
):
    options = {"input": dirty_log, **COLUMNS, "num_shards": 4}
    prepare(**options, output=str(tmp_path / "local"))
    background = Background(
        **options,
        output=str(tmp_path / "out"),
        beam_options=[
            *cluster.beam_options(),
            # A flag of the job server's, not of Beam's: steps that are done stay done.
            "--execution_mode_for_batch=BATCH",
        ],
    )
    wait_until(staged(tmp_path, "vocabulary.txt"), "the core to be found")
    cluster.kill_task_manager(2)
    cluster.start_task_manager(2)
    background.join(180)
    assert background.error is None
    assert contents(tmp_path / "out") == contents(tmp_path / "local")
    job = cluster.jobs()[0]
    assert job["state"] == "FINISHED"
    config = cluster.get(f"/jobs/{job['jid']}/config")["execution-config"]
    assert config["execution-mode"] == "BATCH"
    # It failed once, and some of it was done twice.
    exceptions = cluster.get(f"/jobs/{job['jid']}/exceptions")
    assert exceptions["exceptionHistory"]["entries"]
