"""A real Flink cluster on this machine: a job manager and two task managers.

Each is a JVM of its own. Each task manager has its own name for its "host" and its own
pool of Python workers there, at one name and port that means another pool to each.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
# Where the logs stay of a cluster on which a test failed.
_LOGS = HERE.parents[2] / "build" / "flink-logs"
# What Flink on Java 17 must see of the JDK.
_OPENS = [
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in (
        *(f"java.{name}" for name in ("io", "lang", "math", "net", "nio", "text")),
        *(f"java.{name}" for name in ("time", "util", "util.concurrent")),
        *(f"java.util.concurrent.{name}" for name in ("atomic", "locks")),
        *(f"java.lang.{name}" for name in ("invoke", "reflect")),
        *("sun.net.util", "sun.nio.ch"),
    )
]
_PATIENCE = 90.0


class Cluster:
    """The cluster and Beam's job server for it.

    Attributes:
        logs: Directory of what all processes said.
        job_endpoint: Where Beam's job server listens.
        rest: Where the job manager answers.
    """

    def __init__(self, home: Path, work: Path) -> None:
        self.home = home
        self.logs = work / "logs"
        self._work = work
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        (
            self._rest_port,
            self._rpc_port,
            self._job_port,
            self._artifact_port,
            self._pool_port,
        ) = _free_ports(5)
        self.master = f"127.0.0.1:{self._rest_port}"
        self.rest = f"http://{self.master}"
        self.job_endpoint = f"localhost:{self._job_port}"
        self.logs.mkdir(parents=True)

    def start(self) -> None:
        """Starts everything, and waits until it is ready."""
        self._java("job-manager", "StandaloneSessionClusterEntrypoint", 400)
        for number in (1, 2):
            self.start_task_manager(number)
        self._start_job_server()
        self.wait_for_task_managers(2)
        self._wait_for_port(self._job_port)

    def start_task_manager(self, number: int) -> None:
        """Starts task manager 1 or 2 and its pool of Python workers."""
        host = f"127.0.0.{number}"
        self._spawn(
            f"pool-{number}",
            [sys.executable, str(HERE / "worker_pool.py"), f"{host}:{self._pool_port}"],
        )
        self._wait_for_port(self._pool_port, host)
        hosts = self._work / f"hosts-{number}"
        hosts.write_text(f"127.0.0.1 localhost {socket.gethostname()}\n{host} pool\n")
        self._java(f"task-manager-{number}", "TaskManagerRunner", 900, hosts)

    def kill_task_manager(self, number: int) -> None:
        """Kills a task manager and its Python workers as a host that is lost."""
        self._kill(f"task-manager-{number}")
        self._kill(f"pool-{number}")

    def beam_options(self) -> list[str]:
        """Beam's flags for a job with two workers at once."""
        return [
            "--runner=PortableRunner",
            f"--job_endpoint={self.job_endpoint}",
            *self.environment(),
        ]

    def environment(self) -> list[str]:
        """Beam's flags for where Python runs, and on how many workers."""
        return [
            "--parallelism=2",
            # Else workers are started anew for every step.
            "--environment_cache_millis=30000",
            "--environment_type=EXTERNAL",
            f"--environment_config=pool:{self._pool_port}",
        ]

    def get(self, path: str) -> Any:
        """What the job manager answers."""
        with urllib.request.urlopen(f"{self.rest}{path}", timeout=10) as answer:
            return json.load(answer)

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, the newest first."""
        overview = self.get("/jobs/overview")["jobs"]
        return sorted(overview, key=lambda job: -job["start-time"])

    def task_managers_of(self, job_id: str) -> set[str]:
        """The task managers that finished work of a job."""
        used = set()
        for vertex in self.get(f"/jobs/{job_id}")["vertices"]:
            details = self.get(f"/jobs/{job_id}/vertices/{vertex['id']}")
            used |= {
                task["taskmanager-id"]
                for task in details["subtasks"]
                if task["status"] == "FINISHED"
            }
        return used

    def wait_for_task_managers(self, number: int) -> None:
        """Waits until the job manager knows so many, no more and no less."""

        def known() -> bool:
            self._check_alive()
            with contextlib.suppress(OSError):
                return self.get("/overview")["taskmanagers"] == number
            return False

        wait_until(known, f"{number} task managers")

    def stop(self) -> None:
        """Ends everything, whatever state it is in."""
        for name in list(self._processes):
            self._kill(name)

    def _wait_for_port(self, port: int, host: str = "127.0.0.1") -> None:
        def listens() -> bool:
            self._check_alive()
            with contextlib.suppress(OSError):
                socket.create_connection((host, port), timeout=1).close()
                return True
            return False

        wait_until(listens, f"port {port}")

    def _check_alive(self) -> None:
        dead = [name for name, one in self._processes.items() if one.poll() is not None]
        assert not dead, f"{dead} ended by themselves; see {self.logs}"

    def _start_job_server(self) -> None:
        options = {
            "flink-master": self.master,
            "job-port": self._job_port,
            "artifact-port": self._artifact_port,
            "artifacts-dir": self._work / "artifacts",
            # None: nothing is expanded in Java.
            "expansion-port": -1,
        }
        jar = str(self.home / "job-server.jar")
        flags = [f"--{name}={value}" for name, value in options.items()]
        self._spawn("job-server", ["java", "-Xmx400m", *_OPENS, "-jar", jar, *flags])

    def _java(
        self, name: str, entry: str, megabytes: int, hosts: Path | None = None
    ) -> None:
        directory = self._work / name
        directory.mkdir(exist_ok=True)
        (directory / "config.yaml").write_text(self._config(name))
        properties = {"log4j.configurationFile": _log4j(directory)}
        if hosts:
            properties["jdk.net.hosts.file"] = hosts
        package = "taskexecutor" if entry.startswith("Task") else "entrypoint"
        self._spawn(
            name,
            [
                *("java", f"-Xmx{megabytes}m", *_OPENS),
                *(f"-D{key}={value}" for key, value in properties.items()),
                *("-cp", f"{self.home}/flink/lib/*:{self.home}/job-server.jar"),
                f"org.apache.flink.runtime.{package}.{entry}",
                *("--configDir", str(directory)),
            ],
        )

    def _config(self, name: str) -> str:
        lines = {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": self._rpc_port,
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": self._rest_port,
            "rest.bind-port": self._rest_port,
            "jobmanager.bind-host": "127.0.0.1",
            "taskmanager.bind-host": "127.0.0.1",
            "taskmanager.host": "127.0.0.1",
            "taskmanager.numberOfTaskSlots": 1,
            "taskmanager.cpu.cores": 1,
            # All parts by name, since nothing computes them for a bare JVM.
            "taskmanager.memory.framework.heap.size": "128m",
            "taskmanager.memory.framework.off-heap.size": "128m",
            "taskmanager.memory.jvm-metaspace.size": "256m",
            "taskmanager.memory.jvm-overhead.min": "192m",
            "taskmanager.memory.jvm-overhead.max": "192m",
            "taskmanager.memory.task.heap.size": "512m",
            "taskmanager.memory.task.off-heap.size": "0m",
            "taskmanager.memory.managed.size": "256m",
            "taskmanager.memory.network.min": "128m",
            "taskmanager.memory.network.max": "128m",
            "taskmanager.resource-id": name,
            "io.tmp.dirs": str(self._work / f"{name}-tmp"),
            # A lost task manager shall be noticed soon.
            "heartbeat.interval": 1000,
            "heartbeat.timeout": 8000,
            "restart-strategy.type": "fixed-delay",
            # The first retry may find that results went with the lost one, too.
            "restart-strategy.fixed-delay.attempts": 3,
            "restart-strategy.fixed-delay.delay": "4 s",
            "slot.request.timeout": 10000,
            # Beam is on the cluster already: only then workers outlive a step.
            "classloader.resolve-order": "parent-first",
        }
        return "".join(f"{key}: {value}\n" for key, value in lines.items())

    def _spawn(self, name: str, command: list[str]) -> None:
        # Else a cluster would outlive tests that are killed themselves.
        if shutil.which("setpriv"):
            command = ["setpriv", "--pdeathsig", "KILL", *command]
        # The pools start whatever `python` is on the path.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with (self.logs / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PATH": path},
                start_new_session=True,
            )

    def _kill(self, name: str) -> None:
        process = self._processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(
    holds: Callable[[], bool], what: str, patience: float = _PATIENCE
) -> None:
    """Waits until something holds; fails if it takes too long."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, f"waited {patience} s for {what}"
        time.sleep(0.1)


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _log4j(directory: Path) -> Path:
    path = directory / "log4j.properties"
    path.write_text(
        "rootLogger.level = INFO\n"
        "rootLogger.appenderRef.out.ref = out\n"
        "appender.out.name = out\n"
        "appender.out.type = CONSOLE\n"
        "appender.out.layout.type = PatternLayout\n"
        "appender.out.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1} %m%n\n"
    )
    return path


@pytest.fixture(name="contents")
def contents_fixture() -> Callable[[Path], dict[str, Any]]:
    """Gives the files of an output, but for what names the runner."""

    def contents(output: Path) -> dict[str, Any]:
        files: dict[str, Any] = {
            str(path.relative_to(output)): path.read_bytes()
            for path in sorted(output.rglob("*"))
            if path.is_file()
        }
        # Its flags are part of the options, whose hash is in the mark of success.
        metadata = json.loads(files.pop("metadata.json"))
        del metadata["configuration"]["beam_options"]
        del files["_SUCCESS"]
        return {**files, "metadata": metadata}

    return contents


@pytest.fixture(name="wait_until")
def wait_until_fixture() -> Callable[..., None]:
    return wait_until


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, request) -> Iterator[Cluster]:
    """The one cluster of all tests; its logs are kept if any of them fails."""
    if "flink" not in request.config.option.markexpr:
        pytest.skip("only where it is asked for: `make test-flink`")
    home = subprocess.run(
        [sys.executable, str(HERE / "fetch.py")],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.strip()
    failed = request.session.testsfailed
    work = tmp_path_factory.mktemp("flink")
    cluster = Cluster(Path(home), work)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        if request.session.testsfailed > failed or sys.exc_info()[0] is not None:
            kept = shutil.copytree(cluster.logs, _LOGS, dirs_exist_ok=True)
            print(f"\nThe logs of the cluster are in {kept}")
        shutil.rmtree(work, ignore_errors=True)
