"""What ``--setup_file`` sends to the workers of a cluster, installed and put to work.

Beam itself makes the package, as for Dataflow; it is installed apart from this
environment's own, and workers that see it alone run the job.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.stager import Stager

from adaptiverec.pipeline import prepare

ROOT = Path(__file__).parents[2]
# Nothing comes from a package index here: what workers need is in this environment.
INSTALL = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--no-compile"]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A directory with nothing but the package as Beam stages it."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in ("common", "pipeline", "model", "serving"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tree / name, ignore=ignore)
    monkeypatch.chdir(tree)
    staging = tmp_path / "staging"
    staging.mkdir()
    options = PipelineOptions(["--setup_file=./setup.py"])
    resources = Stager.create_job_resources(options, str(staging))
    (package,) = staging.glob("*.tar.gz")
    assert any("workflow.tar.gz" in str(resource) for resource in resources)
    target = tmp_path / "installed"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            *INSTALL,
            f"--target={target}",
            package,
        ],
        check=True,
    )
    monkeypatch.chdir(tmp_path)
    return target


@pytest.mark.slow
def test_workers_run_what_was_sent(installed, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    bin_directory = Path(sys.executable).parent
    environment = {
        **os.environ,
        # The pool starts the `python` of the path.
        "PATH": f"{bin_directory}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(installed),
    }
    where = subprocess.run(
        ["python", "-c", "import adaptiverec.pipeline.graph as g; print(g.__file__)"],
        env=environment,
        cwd=tmp_path,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert where.stdout.startswith(str(installed))

    log = tmp_path / "log.csv"
    log.write_text(
        "user,item,time\n" + "".join(f"u{n % 7},i{n % 5},{n}\n" for n in range(99))
    )
    options = {
        "input": [str(log)],
        "user_column": "user",
        "item_column": "item",
        "time_column": "time",
    }
    expected = prepare(**options, output=str(tmp_path / "expected"))
    module = "apache_beam.runners.worker.worker_pool_main"
    with subprocess.Popen(
        [sys.executable, "-m", module, f"--service_port={port}"],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as pool:
        try:
            deadline = time.monotonic() + 60
            while not listens(port):
                assert pool.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            metadata = prepare(
                **options,
                output=str(tmp_path / "out"),
                beam_options=[
                    "--runner=PortableRunner",
                    "--job_endpoint=embed",
                    "--environment_type=EXTERNAL",
                    f"--environment_config=localhost:{port}",
                ],
            )
        finally:
            # And the workers that it started.
            os.killpg(pool.pid, signal.SIGKILL)
    assert metadata["fingerprint"] == expected["fingerprint"]


def listens(port):
    try:
        socket.create_connection(("localhost", port), timeout=1).close()
    except OSError:
        return False
    return True
