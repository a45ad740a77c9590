"""The command that asks a server: what it prints where."""

from __future__ import annotations

import json
import re

import pytest

from adaptiverec.common.errors import InvalidValueError
from adaptiverec.serving.client import ServerError
from adaptiverec.serving.recommend import recommend


def test_prints_a_table(toy_server, capsys):
    recommend(server=toy_server.address, model="toy", history="a", k=2, timeout=30)
    out, err = capsys.readouterr()
    rows = [line.split() for line in out.splitlines() if line.strip()]
    assert rows[0] == ["rank", "item", "score"]
    assert rows[-2:] == [["1", "b", "4.0000"], ["2", "c", "3.0000"]]
    assert err == ""


def test_prints_json(toy_server, capsys):
    recommend(
        server=toy_server.address,
        model="toy",
        history="a, zz ,b",
        k=2,
        version=7,
        timeout=30,
        json=True,
    )
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "items": [{"item": "c", "score": 3.0}, {"item": "d", "score": 2.0}],
        "unknown_items": 1,
        "fallback": False,
        "model": "toy",
        "version": 7,
    }
    assert out.count("\n") == 1
    assert err == (
        "warning: 1 of 3 history items is not in the model's catalogue and was "
        "skipped. Received: a, zz ,b\n"
    )


def test_says_how_many_items_are_unknown(toy_server, capsys):
    recommend(server=toy_server.address, model="toy", history="a,y,z", timeout=30)
    assert capsys.readouterr().err.startswith(
        "warning: 2 of 3 history items are not in the model's catalogue and were skip"
    )


@pytest.mark.parametrize("history", ['"x,y"', ' "x,y" ,a', 'a,"x,y" ', 'a, "x,y"'])
def test_an_id_with_a_comma_stands_in_quotes(toy_server, capsys, history):
    recommend(
        server=toy_server.address, model="toy", history=history, timeout=30, json=True
    )
    out, err = capsys.readouterr()
    items = [item["item"] for item in json.loads(out)["items"]]
    assert "x,y" not in items
    assert len(items) == 5 - (2 if "a" in history else 1)
    assert err == ""


@pytest.mark.parametrize("history", ["", " ", ",", "a,", "a,,b", "a, ,b", '"",a'])
def test_an_empty_element_is_an_error(history):
    with pytest.raises(
        InvalidValueError,
        match=re.escape(f"none of them empty. Received: history={history!r}") + "$",
    ):
        recommend(server="127.0.0.1:1", history=history)


def test_an_open_quote_is_an_error():
    with pytest.raises(InvalidValueError, match=r"unexpected end.*history='\"a,b'$"):
        recommend(server="127.0.0.1:1", history='"a,b')


def test_nothing_is_printed_where_the_call_fails(toy_server, capsys):
    with pytest.raises(ServerError, match="NOT_FOUND"):
        recommend(server=toy_server.address, history="a", timeout=30)
    assert capsys.readouterr().out == ""
