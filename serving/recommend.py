"""The command that asks a server and prints what it recommends."""

from __future__ import annotations

import csv
import json as json_format
import re
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from adaptiverec.common.errors import InvalidValueError
from adaptiverec.common.progress import say

if TYPE_CHECKING:
    from adaptiverec.serving.client import Recommendations

__all__ = ["recommend"]

# A blank between a closing quote and the comma, which the csv module refuses.
_BLANK_AFTER_QUOTE = re.compile(r'(?<!")"[ \t]+(?=,|$)')


def recommend(
    *,
    server: str,
    model: str = "default",
    history: str,
    k: Annotated[int, Parameter(name=("-k", "--k"))] = 10,
    exclude: str = "",
    allow: str = "",
    exclude_history: bool = True,
    version: int | None = None,
    label: str | None = None,
    timeout: float = 5.0,
    tls: bool = False,
    tls_ca: str | None = None,
    tls_certificate: str | None = None,
    tls_key: str | None = None,
    tls_server_name: str | None = None,
    json: bool = False,
) -> None:
    """Asks a server what may come after a history, and prints it.

    Args:
        server: The address, ``HOST:PORT``.
        model: The name that the server has given the model.
        history: Raw item ids, oldest first, separated by commas; an id with a comma
            stands in double quotes, as in CSV.
        k: How many items to recommend.
        exclude: Items not to recommend, written like the history.
        allow: Recommend none but these, written like the history; empty is no limit.
        exclude_history: Whether items of the history are not recommended.
        version: The version to ask, or None for the newest.
        label: The label of the version to ask, in place of its number.
        timeout: How many seconds the server may take, repeated attempts included.
        tls: Whether to speak TLS.
        tls_ca: PEM file of the authorities that may vouch for the server, or None for
            those that gRPC comes with.
        tls_certificate: PEM file of a certificate, for a server that wants one of its
            clients.
        tls_key: PEM file of its key.
        tls_server_name: The name that the server's certificate must have, if not that
            of the address.
        json: Print one JSON object instead of a table.

    Raises:
        InvalidValueError: An argument is outside its rule.
        NotFoundError: A PEM file does not exist.
        ServerError: The call failed.
    """
    # gRPC takes a moment to import, which --help does not wait for.
    from adaptiverec.serving.client import RecommenderClient

    items = _split("history", history)
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
        answer = client.recommend(
            items,
            k,
            exclude=_split("exclude", exclude) if exclude else (),
            allow=_split("allow", allow) if allow else None,
            exclude_history=exclude_history,
        )
    if answer.unknown_items:
        verbs = (
            "is not in the model's catalogue and was"
            if answer.unknown_items == 1
            else "are not in the model's catalogue and were"
        )
        say(
            f"warning: {answer.unknown_items} of {len(items)} history items {verbs} "
            f"skipped. Received: {history}"
        )
    if answer.fallback:
        say("warning: the history tells nothing, so this is what is popular.")
    if json:
        print(_json(answer, model))
    else:
        _print_table(answer)


def _split(name: str, ids: str) -> list[str]:
    text = _BLANK_AFTER_QUOTE.sub('"', ids)
    try:
        rows = list(csv.reader([text], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise InvalidValueError(
            f"{name} must be item ids separated by commas, with ids that hold a comma "
            f"in double quotes ({error}). Received: {name}={ids!r}"
        ) from error
    items = [item.strip() for row in rows for item in row]
    if not items or not all(items):
        raise InvalidValueError(
            f"{name} must be item ids separated by commas, none of them empty. "
            f"Received: {name}={ids!r}"
        )
    return items


def _json(answer: Recommendations, model: str) -> str:
    items = [
        {"item": item, "score": score}
        for item, score in zip(answer.items, answer.scores, strict=True)
    ]
    return json_format.dumps(
        {
            "items": items,
            "unknown_items": answer.unknown_items,
            "fallback": answer.fallback,
            "model": model,
            "version": answer.model_version,
        },
        ensure_ascii=False,
    )


def _print_table(answer: Recommendations) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("rank", justify="right")
    table.add_column("item", overflow="fold")
    table.add_column("score", justify="right")
    for rank, (item, score) in enumerate(
        zip(answer.items, answer.scores, strict=True), start=1
    ):
        # Text: an id in square brackets is not markup.
        table.add_row(str(rank), Text(item), f"{score:.4f}")
    Console().print(table)
