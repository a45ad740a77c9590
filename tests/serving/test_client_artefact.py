"""The clients' methods on an exported model, behind servers that batch and do not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from adaptiverec.serving.async_client import AsyncRecommenderClient
from adaptiverec.serving.client import RecommenderClient
from adaptiverec.serving.recommend import recommend
from adaptiverec.serving.server import ModelServer


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "batching"])
def server(request, base_path, tmp_path_factory) -> Iterator[ModelServer]:
    flags: dict[str, Any] = {}
    if request.param:
        parameters = tmp_path_factory.mktemp("batching") / "parameters.pbtxt"
        # Fewer rows a batch than the clients send: their batches go past it.
        parameters.write_text(
            "max_batch_size { value: 2 } batch_timeout_micros { value: 1000 } "
            "pad_variable_length_inputs: true"
        )
        flags = {"enable_batching": True, "batching_parameters_file": str(parameters)}
    with ModelServer(
        model_base_path=base_path,
        port=0,
        max_num_load_retries=0,
        enable_model_warmup=False,
        **flags,
    ) as server:
        yield server


@pytest.fixture(params=["threads", "asyncio"])
def ask(request, server) -> Callable[..., Any]:
    def in_thread(method: str, *args: Any, **kwargs: Any) -> Any:
        with RecommenderClient(server.address, timeout=60) as client:
            return getattr(client, method)(*args, **kwargs)

    async def in_loop(method: str, *args: Any, **kwargs: Any) -> Any:
        async with AsyncRecommenderClient(server.address, timeout=60) as client:
            return await getattr(client, method)(*args, **kwargs)

    if request.param == "threads":
        return in_thread
    return lambda *args, **kwargs: asyncio.run(in_loop(*args, **kwargs))


def strings(row: np.ndarray) -> list[str]:
    return [item.decode() for item in row.tolist() if item]


def test_filters(ask, artefact, catalogue) -> None:
    history = catalogue[2:5]
    inputs = {
        "history": [history],
        "exclude": [catalogue[10:14]],
        "allow": [catalogue[8:16] + catalogue[3:4]],
        "k": [50],
    }
    for own in (True, False):
        expected = artefact("recommend", exclude_history=[own], **inputs)
        answer = ask(
            "recommend",
            history,
            k=50,
            exclude=inputs["exclude"][0],
            allow=inputs["allow"][0],
            exclude_history=own,
        )
        assert answer.items == strings(expected["items"][0])
        assert sorted(answer.items) == sorted(
            catalogue[8:10] + catalogue[14:16] + ([] if own else catalogue[3:4])
        )
        assert not answer.fallback


def test_filters_of_each_history(ask, catalogue) -> None:
    histories = [catalogue[2:5], catalogue[7:8], []]
    allow = [catalogue[20:22], catalogue[30:33], catalogue[40:41]]
    answers = ask("recommend_many", histories, allow=allow, exclude=catalogue[31:32])
    assert [sorted(answer.items) for answer in answers] == [
        sorted(catalogue[20:22]),
        sorted([catalogue[30], catalogue[32]]),
        catalogue[40:41],
    ]
    assert [answer.fallback for answer in answers] == [False, False, True]


def test_an_empty_or_unknown_history_gives_what_is_popular(ask, artefact) -> None:
    expected = strings(artefact("recommend", history=[[""]])["items"][0])
    nothing, unknown = ask("recommend", []), ask("recommend", ["?", "??"])
    assert nothing.items == unknown.items == expected
    assert nothing.fallback
    assert unknown.fallback
    assert (nothing.unknown_items, unknown.unknown_items) == (0, 2)


def test_scores(ask, artefact, catalogue) -> None:
    history, candidates = catalogue[5:9], [catalogue[30], "?", catalogue[1]]
    expected = artefact("score", history=[history], candidates=[candidates])
    answer = ask("score", history, candidates)
    assert answer.scores == pytest.approx(expected["scores"][0].tolist(), abs=1e-5)
    assert answer.known == [True, False, True]
    assert not answer.fallback
    assert ask("score", [], candidates).fallback


def test_scores_of_several_callers_at_once(server, artefact, catalogue) -> None:
    # Of several lengths: what a batch has padded is cut off again.
    asked = [(catalogue[n : n + 3], catalogue[: 1 + n % 4]) for n in range(24)]

    async def ask_all() -> list:
        async with AsyncRecommenderClient(server.address, timeout=60) as client:
            return await asyncio.gather(*(client.score(*each) for each in asked))

    for (history, candidates), answer in zip(
        asked, asyncio.run(ask_all()), strict=True
    ):
        expected = artefact("score", history=[history], candidates=[candidates])
        assert answer.scores == pytest.approx(expected["scores"][0].tolist(), abs=1e-5)


def test_similar_items(ask, artefact, catalogue) -> None:
    items = [catalogue[4], "?"]
    expected = artefact("similar_items", items=items, k=[3, 3])
    known, unknown = ask("similar_items", items, k=3)
    assert known.items == strings(expected["items"][0])
    assert len(known.items) == 3
    assert known.scores == pytest.approx(expected["scores"][0].tolist(), abs=1e-5)
    assert known.known
    assert (unknown.items, unknown.scores, unknown.known) == ([], [], False)


def test_embeddings_multiply_to_scores(ask, artefact, catalogue) -> None:
    history, candidates = catalogue[5:9], catalogue[:2]
    (sequence,) = ask("embed_sequences", [history])
    items = ask("embed_items", candidates)
    assert np.asarray(sequence.vector).dtype == np.float32
    expected = artefact("score", history=[history], candidates=[candidates])["scores"]
    products = [np.dot(sequence.vector, item.vector) for item in items]
    assert products == pytest.approx(expected[0].tolist(), abs=1e-4)
    unknown, known = ask("embed_items", ["?", catalogue[0]])
    assert (unknown.known, known.known) == (False, True)
    assert set(unknown.vector) == {0.0}
    assert unknown.model_version == 1


def test_the_command_has_filters(server, catalogue, capsys) -> None:
    def printed(history: list[str], **options: Any) -> tuple[dict, str]:
        recommend(
            server=server.address,
            history=",".join(history),
            timeout=60,
            json=True,
            **{
                name: ",".join(ids) for name, ids in options.items() if ids is not False
            },
            **{name: False for name, ids in options.items() if ids is False},
        )
        out, err = capsys.readouterr()
        return json.loads(out), err

    some = catalogue[2:8]
    answer, err = printed(catalogue[3:5], allow=some, exclude=catalogue[6:8])
    assert sorted(row["item"] for row in answer["items"]) == sorted(
        [catalogue[2], catalogue[5]]
    )
    assert (answer["fallback"], err) == (False, "")
    answer, _ = printed(catalogue[3:5], allow=some, exclude_history=False)
    assert sorted(row["item"] for row in answer["items"]) == sorted(some)
    answer, err = printed(["?"])
    assert answer["fallback"]
    assert "warning: the history tells nothing, so this is what is popular.\n" in err
