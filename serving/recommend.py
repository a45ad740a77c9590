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
    version: int | None = None,
    timeout: float = 5.0,
    json: bool = False,
) -> None:
    """Asks a server what may come after a history, and prints it.

    Args:
        server: The address, ``HOST:PORT``.
        model: The name that the server has given the model.
        history: Raw item ids, oldest first, separated by commas; an id with a comma
            stands in double quotes, as in CSV.
        k: How many items to recommend.
        version: The version to ask, or None for the newest.
        timeout: How many seconds the server may take.
        json: Print one JSON object instead of a table.

    Raises:
        InvalidValueError: An argument is outside its rule.
        ServerError: The call failed.
    """
    # gRPC takes a moment to import, which --help does not wait for.
    from adaptiverec.serving.client import RecommenderClient

    items = _split(history)
    with RecommenderClient(server, model, timeout=timeout, version=version) as client:
        answer = client.recommend(items, k)
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
    if json:
        print(_json(answer, model))
    else:
        _print_table(answer)


def _split(history: str) -> list[str]:
    text = _BLANK_AFTER_QUOTE.sub('"', history)
    try:
        rows = list(csv.reader([text], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise InvalidValueError(
            "history must be item ids separated by commas, with ids that hold a comma "
            f"in double quotes ({error}). Received: history={history!r}"
        ) from error
    items = [item.strip() for row in rows for item in row]
    if not items or not all(items):
        raise InvalidValueError(
            "history must be item ids separated by commas, none of them empty. "
            f"Received: history={history!r}"
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
