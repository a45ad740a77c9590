"""The job on Spark inside Beam's job server; needs Java 17 and Maven.

Spark and Beam's runner for it come from Maven Central, once, into a cache; all versions
stand in ``pom.xml``. Python runs in this process.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from adaptiverec.pipeline import prepare

pytestmark = [
    pytest.mark.spark,
    # Beam's threads here, when the job server is gone with what they listened to.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

POM = Path(__file__).with_name("pom.xml")
# What Spark on Java 17 must see of the JDK.
OPENS = [
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in (
        *(f"java.{name}" for name in ("io", "lang", "net", "nio", "util")),
        *(f"java.util.concurrent{name}" for name in ("", ".atomic")),
        *(f"java.lang.{name}" for name in ("invoke", "reflect")),
        *(f"sun.{name}" for name in ("nio.ch", "nio.cs", "util.calendar")),
        "sun.security.action",
    )
]


@pytest.fixture(scope="session")
def jars(request: pytest.FixtureRequest) -> Path:
    if "spark" not in request.config.option.markexpr:
        pytest.skip("only where it is asked for: `make test-spark`")
    maven = "{http://maven.apache.org/POM/4.0.0}"
    pom = ElementTree.parse(POM).getroot()
    version = {
        item.tag.removeprefix(maven): item.text
        for item in pom.find(f"{maven}properties") or ()
    }
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = f"spark-{version['spark.version']}-beam-{version['beam.version']}"
    home = cache / "adaptiverec" / name
    if not home.is_dir():
        assert shutil.which("mvn"), "the tests on Spark need Java 17 and Maven"
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.parent) as directory:
            work = Path(directory) / "jars"
            flags = ["--batch-mode", "--quiet", "--no-transfer-progress"]
            target = f"-DoutputDirectory={work}"
            subprocess.run(
                [
                    "mvn",
                    *flags,
                    f"--file={POM}",
                    "dependency:copy-dependencies",
                    target,
                ],
                check=True,
            )
            work.rename(home)
    return home


@pytest.fixture
def job_endpoint(jars: Path, tmp_path: Path) -> Iterator[str]:
    """Beam's job server with Spark in it; what it said is shown if the test fails."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        port, artifact_port = one.getsockname()[1], other.getsockname()[1]
    log = tmp_path / "server.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [
                # It must not outlive tests that are killed themselves.
                *(
                    ["setpriv", "--pdeathsig", "KILL"]
                    if shutil.which("setpriv")
                    else []
                ),
                *("java", "-Xmx1g", *OPENS),
                *("-Dspark.driver.host=127.0.0.1", "-Dspark.ui.enabled=false"),
                *("-Dspark.driver.bindAddress=127.0.0.1", "-cp", f"{jars}/*"),
                "org.apache.beam.runners.spark.SparkJobServerDriver",
                *("--spark-master-url=local[2]", "--expansion-port=-1"),
                *(f"--job-port={port}", f"--artifact-port={artifact_port}"),
                f"--artifacts-dir={tmp_path / 'artifacts'}",
            ],
            stdout=said,
            stderr=said,
        )
    try:
        deadline = time.monotonic() + 90
        while not listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield f"localhost:{port}"
    finally:
        process.kill()
        process.wait()
        # They notice while their complaints are still filtered.
        deadline = time.monotonic() + 20
        for thread in threading.enumerate():
            if thread.name.startswith(("run_worker", "read_")):
                thread.join(max(0.0, deadline - time.monotonic()))
        print(log.read_text()[-20_000:])


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def contents(output: Path) -> dict[str, bytes]:
    """All files but those with the options in them, which name the runner."""
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in output.rglob("*")
        if path.is_file()
        and path.name not in ("metadata.json", "_SUCCESS", "report.html")
    }


def test_the_same_bytes_as_on_the_local_runner(job_endpoint, tmp_path):
    rows = [f"u{n * 7 % 500},i{n % 97 if n % 10 else n},{n // 3}" for n in range(3000)]
    log = tmp_path / "log.csv"
    log.write_text("\n".join(["user,item,time", *rows, *rows[:20], ",bad,1", ""]))
    spark = [
        "--runner=PortableRunner",
        f"--job_endpoint={job_endpoint}",
        "--environment_type=LOOPBACK",
        # Else workers are started anew for every step.
        "--environment_cache_millis=30000",
    ]
    results = {
        name: prepare(
            input=[str(log)],
            output=str(tmp_path / name),
            user_column="user",
            item_column="item",
            time_column="time",
            split="time",
            num_shards=4,
            beam_options=flags,
        )
        for name, flags in (("local", None), ("spark", spark))
    }
    assert results["spark"]["counts"] == results["local"]["counts"]
    assert results["local"]["counts"]["rejected"] == 1
    assert results["local"]["counts"]["duplicates"] == 20
    assert results["local"]["counts"]["below_min_interactions"] > 100
    assert contents(tmp_path / "spark") == contents(tmp_path / "local")
