"""How many requests a server answers over gRPC, how late, and what a swap costs.

Makes up a model (no training), serves it with `adaptiverec serve` and batching, and asks it
with `adaptiverec loadtest`, client and server on the same machine. With ``--swap-every`` a
new version is put in place again and again and an old one taken away; seconds in which a
version was loaded are told apart from the others. ::

    python benchmarks/serving_load.py
    python benchmarks/serving_load.py --swap-every 10 --seconds 40
    python benchmarks/serving_load.py --rate 900 --swap-every 20 --seconds 600 --runs 1
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
)

HERE = Path(__file__).parent
BATCHING = """max_batch_size { value: 128 }
enable_large_batch_splitting { value: true }
max_execution_batch_size { value: 32 }
batch_timeout_micros { value: 0 }
num_batch_threads { value: 1 }
max_enqueued_batches { value: 64 }
pad_variable_length_inputs: true
"""
AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE
# Between two looks at whether a version serves, and at the server's memory.
LOOK_SECONDS = 0.1
# loadtest says that it sends a moment before it does; what does not count comes first.
WARM_UP_SECONDS = 2.0


def save(directory: Path, options: argparse.Namespace) -> None:
    """Saves the model, with its warm-up requests, in a process of its own."""
    import serving_latency

    from adaptiverec.serving import contract
    from adaptiverec.serving.warmup_requests import write_warmup_requests

    serving_latency.save(directory, "exact", options.items, options)
    extra = directory / contract.EXTRA_DIRECTORY
    extra.mkdir()
    items = [serving_latency.item_id(number) for number in range(options.items)]
    write_warmup_requests(extra / contract.WARMUP_REQUESTS, items, options.length)


class Server:
    """`adaptiverec serve` on a base path with version 1."""

    def __init__(self, directory: Path, source: Path) -> None:
        self._source = source
        self._base = directory / "base"
        self._base.mkdir()
        self._put(1)
        config = directory / "batching.config"
        config.write_text(BATCHING)
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "adaptiverec.common", "serve", "--port=0"),
                *(f"--model_base_path={self._base}", "--enable_batching"),
                f"--batching_parameters_file={config}",
                # An op of this model is so short that its parts are not worth a thread.
                "--tensorflow_intra_op_parallelism=1",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.address = self._announced()
        self.channel = grpc.insecure_channel(self.address)
        self._models = model_service_pb2_grpc.ModelServiceStub(self.channel)
        # When each swap began and ended, by the monotonic clock.
        self.swaps: list[tuple[float, float]] = []

    def memory(self) -> float:
        """Resident memory, in MiB."""
        statm = Path(f"/proc/{self.process.pid}/statm").read_text()
        return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def swap(self, version: int) -> None:
        """Puts a version in place, and takes an old one away once it serves."""
        begin = time.monotonic()
        self._put(version)
        while not self._serves(version):
            time.sleep(LOOK_SECONDS)
        self.swaps.append((begin, time.monotonic()))
        shutil.rmtree(self._base / str(version - 1))

    def stop(self) -> None:
        """Ends the server."""
        self.channel.close()
        self.process.terminate()
        self.process.wait(60)

    def _put(self, version: int) -> None:
        # Beside the versions until it is whole.
        new = self._base / "new"
        shutil.copytree(self._source, new)
        new.rename(self._base / str(version))

    def _announced(self) -> str:
        output = self.process.stdout
        if output is None:
            raise RuntimeError("the server has no output")
        for line in output:
            if line.startswith("Serving default version"):
                # What it says later must not fill the pipe.
                threading.Thread(target=output.read, daemon=True).start()
                return line.split()[-1]
        raise RuntimeError("the server has not started")

    def _serves(self, version: int) -> bool:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "default"
        try:
            answer = self._models.GetModelStatus(request, timeout=30)
        except grpc.RpcError:
            # A server with more to do than it can refuses whatever comes.
            return False
        states = answer.model_version_status
        return any(one.version == version and one.state == AVAILABLE for one in states)


@contextmanager
def repeatedly(action: Any, seconds: float) -> Iterator[None]:
    """Does something every so many seconds, with 1, 2, ..., until the block ends."""
    stop = threading.Event()

    def work() -> None:
        number = 0
        while not stop.wait(seconds):
            number += 1
            action(number)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def load(server: Server, directory: Path, options: argparse.Namespace) -> Any:
    """Runs `adaptiverec loadtest`: its report, and the time at which it began to count."""
    report = directory / "report.json"
    how = ["--rate", str(options.rate)] if options.rate else []
    how = how or ["--clients", str(options.clients)]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "adaptiverec.common", "loadtest"),
            *("--server", server.address, *how, "--window", "1"),
            *("--seconds", str(options.seconds), "--warm-up", str(WARM_UP_SECONDS)),
            *("--vocabulary", str(directory / "1" / "assets" / "vocabulary.txt")),
            *("--output", str(report), "--history-length", str(options.length)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    begin = 0.0
    for line in process.stderr or ():
        if line.startswith("Sending"):
            begin = time.monotonic() + WARM_UP_SECONDS
    if process.wait() or not begin:
        raise RuntimeError("the load test has failed")
    return json.loads(report.read_text()), begin


def run(directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One server, one load test."""
    server = Server(directory, directory / "1")
    memory: list[tuple[float, float]] = []
    try:
        with repeatedly(
            lambda _: memory.append((time.monotonic(), server.memory())), LOOK_SECONDS
        ):
            if options.swap_every:
                with repeatedly(
                    lambda number: server.swap(number + 1), options.swap_every
                ):
                    report, begin = load(server, directory, options)
            else:
                report, begin = load(server, directory, options)
    finally:
        server.stop()
        shutil.rmtree(directory / "base")
        (directory / "report.json").unlink(missing_ok=True)
    quiet, swapping = [], []
    for window in report["windows"]:
        start = begin + window["start"]
        end = start + window["seconds"]
        busy = any(first < end and last > start for first, last in server.swaps)
        if window["latency_ms"]:
            (swapping if busy else quiet).append(window["latency_ms"]["p99"])
    total = report["total"]
    figures = {
        "requests/s": total["requests_per_second"],
        "p50 ms": total["latency_ms"]["p50"],
        "p99 ms": total["latency_ms"]["p99"],
        "max ms": total["latency_ms"]["max"],
        "requests": total["requests"],
        "errors": sum(total["errors"].values()),
        "swaps": len(server.swaps),
        "p99 of a quiet second": statistics.median(quiet) if quiet else None,
        "of a swap's": statistics.median(swapping) if swapping else None,
        "worst second of a swap": max(swapping) if swapping else None,
        **_memory_figures(memory, server.swaps, begin + options.seconds),
    }
    for name, value in figures.items():
        if value is not None:
            print(f"  {name:24} {value:,.1f}")
    return figures


def _memory_figures(
    memory: list[tuple[float, float]], swaps: list[tuple[float, float]], end: float
) -> dict[str, float | None]:
    """Of a tenth of the time after the first swap, and of the last one, the median."""
    if len(swaps) < 2:
        return {"MiB": statistics.median(value for _, value in memory)}
    start = swaps[0][1]
    part = (end - start) / 10
    first = [value for at, value in memory if start <= at < start + part]
    last = [value for at, value in memory if end - part <= at < end]
    before, after = statistics.median(first), statistics.median(last)
    return {
        "MiB after first swap": before,
        "at the end": after,
        "growth in %": (after / before - 1) * 100,
    }


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=12_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--clients", type=int, default=32, help="of the closed loop")
    parser.add_argument(
        "--rate", type=float, help="requests/s of the open loop instead"
    )
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--swap-every", type=float, help="seconds between two versions")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write every run there")
    parser.add_argument("--save", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.save:
        save(options.save, options)
        return
    runs = []
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        command = [sys.executable, __file__, *sys.argv[1:], "--save", directory / "1"]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        for number in range(options.runs):
            print(f"run {number + 1}", flush=True)
            runs.append(run(directory, options))
    print("median")
    for name in runs[0]:
        values = [figures[name] for figures in runs if figures[name] is not None]
        if values:
            print(f"  {name:24} {statistics.median(values):,.1f}")
    if options.json:
        options.json.write_text(json.dumps(runs, indent=1) + "\n")


if __name__ == "__main__":
    main()
