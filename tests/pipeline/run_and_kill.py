"""Runs ``prepare`` again and again, each time killing it at a later step.

A step is anything that changes the file system at the output or beside it: a file opened
for writing, a rename, a directory made or removed. Each run is a process of its own,
forked before anything has started a thread, that kills itself as ``kill -9`` would just
before a step. So steps are known exactly, without a clock.

Reads a line of JSON: ``options`` of ``prepare``; ``watched``, the directory to watch;
``store``, a directory to be the file system ``teststore://``, or null; ``every``, to die
of each so-many-th step only. Writes a line of JSON for each run when it has ended: the
step that it died of, or null for the last run, which did not die; then waits for a line
before the next run.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

# Before any run, since Beam takes long to import; that starts no thread yet.
import adaptiverec.pipeline.driver  # noqa: F401
from adaptiverec.pipeline import prepare

_CHANGES = (
    "os.link",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.truncate",
    "shutil.rmtree",
)


def _die_of(step: int, watched: str, say: int) -> None:
    """Lets this process kill itself before a step, and write to ``say`` which it is."""
    steps = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal steps
        if event == "open":
            writes = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            writes = event in _CHANGES
        if not writes or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        path = os.fsdecode(arguments[0])
        if path.startswith(watched):
            steps += 1
            if steps == step:
                os.write(say, f"{event} {Path(path).name}".encode())
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _run(step: int, request: dict[str, Any]) -> str | None:
    """Runs ``prepare`` in a child; gives the step that it died of, if it did."""
    heard, say = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(heard)
        if request["store"]:
            # Beam finds file systems by their class, as long as somebody holds it.
            store = _register(Path(request["store"]))  # noqa: F841
        _die_of(step, request["watched"], say)
        try:
            prepare(**request["options"])
        except BaseException as error:
            os.write(say, repr(error).encode())
            os._exit(1)
        os._exit(0)
    os.close(say)
    status = os.waitpid(child, 0)[1]
    words = os.read(heard, 10_000).decode()
    os.close(heard)
    if os.WIFSIGNALED(status):
        return words
    if os.WEXITSTATUS(status):
        raise SystemExit(f"`prepare` failed after runs that were killed: {words}")
    return None


def _register(root: Path) -> ModuleType:
    """Makes a directory known to Beam as an object store."""
    spec = importlib.util.spec_from_file_location(
        "store", Path(__file__).with_name("test_publish.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.StoreFileSystem.root = root
    return module


def main() -> None:
    """See the module."""
    request = json.loads(sys.stdin.readline())
    step = 1
    while True:
        died_of = _run(step, request)
        print(json.dumps(died_of), flush=True)
        if died_of is None:
            return
        step += request["every"]
        sys.stdin.readline()


if __name__ == "__main__":
    main()
