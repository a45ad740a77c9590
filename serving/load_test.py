"""The command that loads a server with requests, and says how it bore them."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from adaptiverec.common.checks import check_above, check_at_least
from adaptiverec.common.errors import InvalidValueError, NotFoundError, StageError
from adaptiverec.common.files import check_output_is_free, write_json
from adaptiverec.common.progress import say

if TYPE_CHECKING:
    from adaptiverec.serving.client import RecommenderClient
    from adaptiverec.serving.load_worker import Plan, Samples

__all__ = ["SCHEMA_VERSION", "loadtest"]

# Of the JSON. Raised whenever a reader of the last version would misread this one.
SCHEMA_VERSION = 1

_CLIENTS = 32
# From the order to begin to the first request.
_HEAD_START_SECONDS = 0.2


def loadtest(
    *,
    server: str,
    model: str = "default",
    data: str | None = None,
    vocabulary: str | None = None,
    clients: int | None = None,
    rate: float | None = None,
    seconds: float = 10.0,
    warm_up: float = 1.0,
    window: float | None = None,
    k: Annotated[int, Parameter(name=("-k", "--k"))] = 10,
    batch_size: int = 1,
    num_histories: int = 1000,
    history_length: int = 50,
    processes: int | None = None,
    seed: int = 0,
    version: int | None = None,
    label: str | None = None,
    timeout: float = 5.0,
    tls: bool = False,
    tls_ca: str | None = None,
    tls_certificate: str | None = None,
    tls_key: str | None = None,
    tls_server_name: str | None = None,
    output: str | None = None,
) -> dict[str, Any]:
    """Loads a server with requests for recommendations, and measures its answers.

    In the closed loop, the default, each of ``clients`` sends its next request when it
    has the answer to its last one, so a slow server is asked less; latency is from
    sending to answer. It tells what a server can do.

    In the open loop, with ``rate``, requests are due at random times (a Poisson process)
    whatever the server does, and latency is from the time at which a request was due. So
    what piles up behind a stall counts in full (no coordinated omission). It tells what
    users get.

    No request is repeated. A client whose request failed waits a tenth of a second.
    Requests are made in advance and sent in turn by processes of their own, each over
    one connection; all latencies are kept, so percentiles are exact. Where the generator
    is said to use most of a core, or to send late, it is what was measured: give it more
    processes, or a machine of its own.

    Args:
        server: The address, ``HOST:PORT``.
        model: The name that the server has given the model.
        data: Prepared data, whose users' sequences are the histories. Without it and
            `vocabulary`, the model makes them up by its own recommendations.
        vocabulary: File with an item id a line, most popular first, to draw from.
        clients: How many clients there are in the closed loop; by default 32.
        rate: Requests a second in the open loop; by default the loop is closed.
        seconds: How long to measure.
        warm_up: Seconds of the same before, which do not count.
        window: Seconds of each window that is reported, too; by default a tenth of all.
        k: How many items to ask for.
        batch_size: Histories in a request.
        num_histories: How many histories there are to choose from.
        history_length: How many items each has; in prepared data, at most.
        processes: How many processes send; by default one for two cores.
        seed: Of all that is drawn.
        version: The version to ask, or None for the newest.
        label: The label of the version to ask, in place of its number.
        timeout: How many seconds a request may take.
        tls: Whether to speak TLS.
        tls_ca: PEM file of the authorities that may vouch for the server, or None for
            those that gRPC comes with.
        tls_certificate: PEM file of a certificate, for a server that wants one of its
            clients.
        tls_key: PEM file of its key.
        tls_server_name: The name that the server's certificate must have, if not that
            of the address.
        output: JSON file to write the report to.

    Returns:
        The report, as it is written to `output`.

    Raises:
        InvalidValueError: An argument is outside its rule.
        NotFoundError: A file or directory does not exist.
        OutputExistsError: `output` exists.
        ContractError: `data` is not whole.
        ServerError: The server does not answer a first request.
        StageError: A process that sends has died.
    """
    if rate is not None and clients is not None:
        raise InvalidValueError(
            "clients and rate must not be given together: there are clients in the "
            f"closed loop, and a rate in the open one. Received: clients={clients}, "
            f"rate={rate}"
        )
    if data is not None and vocabulary is not None:
        raise InvalidValueError(
            "data and vocabulary must not be given together. Received: "
            f"data={data!r}, vocabulary={vocabulary!r}"
        )
    clients = _CLIENTS if clients is None else clients
    if processes is None:
        processes = max(1, (os.cpu_count() or 1) // 2)
        processes = processes if rate is not None else min(processes, clients)
    window = seconds / 10 if window is None else window
    for name, number in (
        ("clients", clients),
        ("batch_size", batch_size),
        ("num_histories", num_histories),
        ("history_length", history_length),
        ("processes", processes),
    ):
        check_at_least(name, number, 1)
    for name, amount in (("rate", rate), ("seconds", seconds), ("window", window)):
        if amount is not None:
            check_above(name, amount, 0)
    check_at_least("warm_up", warm_up, 0)
    if rate is None and processes > clients:
        raise InvalidValueError(
            "processes must not be more than clients. Received: "
            f"processes={processes}, clients={clients}"
        )
    if output is not None:
        if Path(output).is_dir() or not Path(output).absolute().parent.is_dir():
            raise NotFoundError(
                f"output must be a file, whose directory must exist. Received: {output}"
            )
        check_output_is_free(Path(output))

    # gRPC takes a moment to import, which --help does not wait for.
    from adaptiverec.serving.client import RecommenderClient
    from adaptiverec.serving.client_requests import recommend_calls
    from adaptiverec.serving.load_report import in_milliseconds, summarize
    from adaptiverec.serving.load_worker import Plan, Samples

    with RecommenderClient(
        server,
        model,
        timeout=timeout,
        version=version,
        label=label,
        tls=tls,
        tls_ca=tls_ca,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        tls_server_name=tls_server_name,
    ) as client:
        histories = _histories(
            client, data, vocabulary, num_histories, history_length, seed
        )
        calls = recommend_calls(
            client.model_spec,
            histories,
            k,
            batch_size=batch_size,
            # Of one length, as servers want them that batch and do not pad.
            min_width=history_length,
        )
        requests = [call.request.SerializeToString() for call in calls]
        # What is wrong with address, name or model is better said now, and once.
        client.recommend_many(histories[:batch_size], k)
    plans = [
        Plan(
            server=server,
            requests=requests,
            first=number * len(requests) // processes,
            clients=clients // processes + (number < clients % processes),
            rate=None if rate is None else rate / processes,
            warm_up=warm_up,
            seconds=seconds,
            timeout=timeout,
            seed=seed + number,
            tls={
                "tls": tls,
                "ca": tls_ca,
                "certificate": tls_certificate,
                "key": tls_key,
                "server_name": tls_server_name,
            },
        )
        for number in range(processes)
    ]
    say(f"Sending for {warm_up + seconds:g} s to {server}")
    parts = _in_processes(plans)
    busiest = max(part.processor_seconds for part in parts) / (warm_up + seconds)
    samples = Samples()
    for part in parts:
        samples.extend(part)
    report = {
        "schema_version": SCHEMA_VERSION,
        "server": server,
        "model": model,
        "loop": "closed" if rate is None else "open",
        "clients": clients if rate is None else None,
        "rate": rate,
        "seconds": seconds,
        "warm_up": warm_up,
        "k": k,
        "batch_size": batch_size,
        "histories": {
            "source": data or vocabulary or "the model's recommendations",
            "count": len(histories),
            "length": history_length,
        },
        "percentiles": "exact, nearest rank",
        "generator": {
            "processes": processes,
            "busiest": round(busiest, 4),
            "late_ms": None if rate is None else in_milliseconds(samples.late),
        },
        **summarize(samples, seconds, window),
    }
    if output is not None:
        write_json(Path(output), report)
    return report


def _histories(
    client: RecommenderClient,
    data: str | None,
    vocabulary: str | None,
    count: int,
    length: int,
    seed: int,
) -> list[list[str]]:
    from adaptiverec.serving.load_histories import (
        drawn_histories,
        prepared_histories,
        walked_histories,
    )

    if data is not None:
        return prepared_histories(Path(data), count, length)
    if vocabulary is not None:
        return drawn_histories(Path(vocabulary), count, length, seed)
    return walked_histories(client, count, length, seed)


def _in_processes(plans: list[Plan]) -> list[Samples]:
    """Runs each plan in a process of its own, all from the same moment on.

    Raises:
        StageError: One of them has died or not got a connection.
    """
    from adaptiverec.serving.load_worker import work

    # A fork would take gRPC's threads along, or rather not.
    context = multiprocessing.get_context("spawn")
    started = []
    try:
        for plan in plans:
            here, there = context.Pipe()
            process = context.Process(target=work, args=(there, plan), daemon=True)
            process.start()
            there.close()
            started.append((process, here))
        for process, connection in started:
            if not _received(process, connection):
                raise StageError(
                    "Each process that sends must get a connection within the timeout. "
                    f"Received: none to {plans[0].server}"
                )
        begin = time.monotonic() + _HEAD_START_SECONDS
        for _, connection in started:
            connection.send(begin)
        return [_received(process, connection) for process, connection in started]
    finally:
        for process, connection in started:
            connection.close()
            process.terminate()
            process.join()


def _received(process: Any, connection: Any) -> Any:
    try:
        return connection.recv()
    except EOFError:
        process.join()
        raise StageError(
            "A process that sends must live until the end. Received: exit code "
            f"{process.exitcode}"
        ) from None
