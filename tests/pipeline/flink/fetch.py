"""Fetches a Flink cluster and Beam's job server for it, once, into a cache.

Flink comes from PyPI (``apache-flink-libraries`` carries its jars) and Beam's Flink
runner from Maven Central. All versions stand in ``pom.xml``. Both are licensed under
Apache-2.0; nothing of them is kept in this repository.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

HERE = Path(__file__).parent
POM = HERE / "pom.xml"
JOB_SERVER = "job-server.jar"
FLINK = "flink"


def versions() -> dict[str, str]:
    """The properties of the POM."""
    maven = "{http://maven.apache.org/POM/4.0.0}"
    properties = ElementTree.parse(POM).find(f"{maven}properties")
    return {item.tag.removeprefix(maven): item.text or "" for item in properties}


def fetch() -> Path:
    """Gives the directory with ``flink/`` and ``job-server.jar``, made if need be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    version = versions()
    name = f"flink-{version['flink.version']}-beam-{version['beam.version']}"
    home = cache / "adaptiverec" / name
    if home.is_dir():
        return home
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            raise SystemExit(f"The tests on Flink need Java 17 and Maven; no `{tool}`.")
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent) as directory:
        work = Path(directory) / name
        work.mkdir()
        _fetch_flink(work, version["flink.version"])
        _build_job_server(work)
        # Whole or absent, and whoever comes first wins.
        if not home.is_dir():
            work.rename(home)
    return home


def _fetch_flink(work: Path, version: str) -> None:
    target = work / "packages"
    package = f"apache-flink-libraries=={version}"
    flags = ["--quiet", "--no-deps", "--no-compile", "--no-cache-dir"]
    _run(
        [sys.executable, "-m", "pip", "install", *flags, f"--target={target}", package]
    )
    (target / "pyflink").rename(work / FLINK)
    shutil.rmtree(target)


def _build_job_server(work: Path) -> None:
    build = work / "build"
    flags = ["--batch-mode", "--quiet", "--no-transfer-progress"]
    _run(["mvn", *flags, f"--file={POM}", f"-Djar.directory={build}", "package"])
    (build / "flink-job-server-1.jar").rename(work / JOB_SERVER)
    shutil.rmtree(build)


def _run(command: list[str]) -> None:
    print("+", *command, file=sys.stderr, flush=True)
    # The standard output is for the answer alone.
    subprocess.run(command, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    print(fetch())
