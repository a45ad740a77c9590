"""Killed at any moment, a run leaves nothing that looks whole, and the next succeeds."""

import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adaptiverec.common import errors
from adaptiverec.pipeline import contract, prepare

HERE = Path(__file__).parent
COLUMNS = {"user_column": "user", "item_column": "item", "time_column": "time"}
GOOD = "user,item,time\n" + "".join(f"u{n % 7},i{n % 5},{n}\n" for n in range(100))


def is_whole(directory):
    """Whether a reader takes the output for whole; if so, it had better be."""
    try:
        metadata = contract.check_whole(
            *(
                path.read_bytes() if path.is_file() else None
                for path in (directory / "metadata.json", directory / "_SUCCESS")
            ),
            where=str(directory),
        )
    except errors.ContractError:
        return False
    described = [metadata["vocabulary"], metadata["popularity"], *metadata["shards"]]
    for entry in described:
        data = (directory / entry["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
    lines = [path.read_bytes() for path in directory.glob("rejected/*")]
    assert b"".join(lines).count(b"\n") == metadata["rejected"]
    return True


def contents(directory):
    files = {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }
    # Where the same log and the same options were found and given.
    for name in ("metadata.json", "_SUCCESS", "report.html"):
        files.pop(name, None)
    return files


at_some_steps_or_all = pytest.mark.parametrize(
    "every", [41, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"]
)


@pytest.fixture
def kill_at_every_step(tmp_path):
    """Gives the steps, after it has looked at what each run left behind."""

    def run(options, directory, *, every, store=None):
        request = {
            "options": options,
            "watched": str(directory.parent),
            "store": store and str(store),
            "every": every,
        }
        died_of = []
        said = tmp_path / "said.txt"
        with (
            said.open("w") as stderr,
            subprocess.Popen(
                [sys.executable, str(HERE / "run_and_kill.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            ) as process,
        ):
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                step = json.loads(line)
                if step is None:
                    break
                died_of.append(step)
                if is_whole(directory):
                    # As a user who was lucky.
                    shutil.rmtree(directory)
                elif store is None:
                    assert not directory.exists()
                process.stdin.write("\n")
                process.stdin.flush()
        assert process.returncode == 0, said.read_text()
        return died_of

    return run


@at_some_steps_or_all
def test_killed_at_every_step(log, tmp_path, kill_at_every_step, every):
    options = {"input": [log(GOOD + ",x,1\n")], **COLUMNS, "report": False}
    prepare(**options, output=str(tmp_path / "expected"))
    place = tmp_path / "place" / "out"
    place.parent.mkdir()
    died_of = kill_at_every_step({**options, "output": str(place)}, place, every=every)
    if every == 1:
        text = " ".join(died_of)
        # While reading, sorting, finding the core, writing and publishing.
        for step in ("rows-", "sequences-", "graph-", "rename unfinished-"):
            assert step in text
        assert "os.rename .out.incomplete-" in text
    assert is_whole(place)
    assert contents(place) == contents(tmp_path / "expected")


@at_some_steps_or_all
def test_killed_at_every_step_on_a_store(log, tmp_path, kill_at_every_step, every):
    """Where there is no rename of a directory, and so a moment of half an output."""
    options = {"input": [log(GOOD + ",x,1\n")], **COLUMNS, "report": False}
    prepare(**options, output=str(tmp_path / "expected"))
    bucket = tmp_path / "store" / "bucket"
    bucket.mkdir(parents=True)
    kill_at_every_step(
        {**options, "output": "teststore://bucket/out"},
        bucket / "out",
        every=every,
        store=bucket.parent,
    )
    assert is_whole(bucket / "out")
    assert contents(bucket / "out") == contents(tmp_path / "expected")


PREPARE = """
import json, resource, signal, sys
from adaptiverec.pipeline import prepare
# As in a terminal; a shell's background jobs, and what they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
resource.setrlimit(resource.RLIMIT_FSIZE, [int(sys.argv[2])] * 2)
print("started", flush=True)
prepare(**json.loads(sys.argv[1]))
"""


def start(options, file_size=resource.RLIM_INFINITY):
    """``prepare`` in a process group of its own, past its first imports."""
    process = subprocess.Popen(
        [sys.executable, "-c", PREPARE, json.dumps(options), str(file_size)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout.readline() == b"started\n"
    return process


def leftovers(directory):
    return list(directory.glob(".out.incomplete-*"))


def wait_for(holds, process):
    """Waits until something holds, or the process has ended."""
    deadline = time.monotonic() + 60
    while not holds() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def large_log(log):
    """So large that workers are at work for a second or more."""
    rng = random.Random(5)
    return log(
        "user,item,time\n"
        + "".join(
            f"u{rng.randrange(20_000)},i{rng.randrange(3000)},{n}\n"
            for n in range(300_000)
        )
    )


@pytest.mark.slow
def test_a_run_is_killed_with_its_workers(large_log, tmp_path, capsys):
    """While several processes write, all of them are killed at once."""
    options = {"input": [large_log], **COLUMNS, "num_shards": 8, "report": False}
    processes = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    out = tmp_path / "out"
    process = start({**options, "output": str(out), "beam_options": processes})
    with process:
        wait_for(lambda: list(tmp_path.glob(".out.*/sequences-*-of-*")), process)
        os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    (leftover,) = leftovers(tmp_path)
    assert list(leftover.glob("sequences-*"))
    prepare(**options, output=str(out))
    assert f"Note: {leftover} was left by a run" in capsys.readouterr().err
    prepare(**options, output=str(tmp_path / "expected"))
    assert is_whole(out)
    assert contents(out) == contents(tmp_path / "expected")


@pytest.mark.slow
def test_killed_at_random_times(large_log, tmp_path):
    options = {"input": [large_log], **COLUMNS, "num_shards": 8, "report": False}
    prepare(**options, output=str(tmp_path / "expected"))
    out = tmp_path / "out"
    rng = random.Random(6)
    killed = 0
    for _ in range(20):
        with start({**options, "output": str(out)}) as process:
            wait_for(lambda: leftovers(tmp_path), process)
            time.sleep(rng.uniform(0, 2.5))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                killed += 1
        if out.exists():
            assert is_whole(out)
            assert contents(out) == contents(tmp_path / "expected")
            shutil.rmtree(out)
        for leftover in leftovers(tmp_path):
            shutil.rmtree(leftover)
    assert killed
    prepare(**options, output=str(out))
    assert contents(out) == contents(tmp_path / "expected")


def test_an_interrupted_run_cleans_up(large_log, tmp_path):
    options = {"input": [large_log], **COLUMNS, "output": str(tmp_path / "out")}
    with start(options) as process:
        wait_for(lambda: list(tmp_path.glob(".out.*/.work/rows-*")), process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode != 0
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def fails_for_room(options, received, **kwargs):
    """Runs into a limit; gives nothing but a message."""
    output = Path(options["output"])
    before = sorted(output.parent.iterdir())
    with start(options, **kwargs) as process:
        said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 1
    assert (
        "OutputError: There must be room beside the output for the rows themselves, "
        f"twice, and the sequences. Received: {received} in {output}" in said
    )
    assert sorted(output.parent.iterdir()) == before


@pytest.mark.parametrize("kilobytes", [1, 3000])
def test_a_limit_on_the_size_of_files(large_log, tmp_path, kilobytes):
    """Reached by whatever is largest: metadata and rejects, spilled rows, a shard."""
    options = {"input": [large_log], **COLUMNS, "output": str(tmp_path / "out")}
    fails_for_room(options, "File too large", file_size=kilobytes << 10)


@pytest.mark.parametrize("kilobytes", [5000])
def test_a_full_disk(large_log, tmp_path, kilobytes):
    disk = tmp_path / "disk"
    disk.mkdir()
    size = f"size={kilobytes}k"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(disk)]
    if subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        options = {"input": [large_log], **COLUMNS, "output": str(disk / "out")}
        fails_for_room(options, "No space left on device")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
