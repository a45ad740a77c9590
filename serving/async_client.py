"""The client of :mod:`adaptiverec.serving.client` for asyncio."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, TypeVar

import grpc
import grpc.aio

from adaptiverec.serving.client_answers import (
    Embedding,
    Recommendations,
    Scores,
    SimilarItems,
)
from adaptiverec.serving.client_base import ClientBase
from adaptiverec.serving.client_requests import (
    Call,
    embed_items_calls,
    embed_sequences_calls,
    recommend_calls,
    score_call,
    similar_items_calls,
)

__all__ = ["AsyncRecommenderClient"]

Answer = TypeVar("Answer")


class AsyncRecommenderClient(ClientBase):
    """A connection to a server of an exported model, for asyncio.

    Methods, arguments, answers and errors are those of
    :class:`~adaptiverec.serving.client.RecommenderClient`; its documentation holds. The
    connection is made with the first call and belongs to the event loop of that.

    Example::

        async with AsyncRecommenderClient("127.0.0.1:8500") as client:
            (await client.recommend(["B001", "B007"], k=5)).items

    Args:
        server: The address, ``HOST:PORT``.
        model: The name that the server has given the model.
        **arguments: Those of the other client.

    Raises:
        InvalidValueError: An argument is outside its rule.
        NotFoundError: A PEM file does not exist.
    """

    def _connect(self) -> None:
        # gRPC binds a channel to the running loop, and there may be none yet.
        self._channel: grpc.aio.Channel | None = None
        self._predict: Any = None

    async def recommend(
        self,
        history: Sequence[str],
        k: int = 10,
        *,
        exclude: Sequence[str] = (),
        allow: Sequence[str] | None = None,
        exclude_history: bool = True,
        timeout: float | None = None,
    ) -> Recommendations:
        """Recommends what may come next."""
        answers = await self.recommend_many(
            [history],
            k,
            exclude=exclude,
            allow=allow,
            exclude_history=exclude_history,
            timeout=timeout,
        )
        return answers[0]

    async def recommend_many(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 10,
        *,
        exclude: Sequence[str] | Sequence[Sequence[str]] = (),
        allow: Sequence[str] | Sequence[Sequence[str]] | None = None,
        exclude_history: bool = True,
        timeout: float | None = None,
    ) -> list[Recommendations]:
        """Recommends after each of many histories."""
        calls = recommend_calls(
            self._spec,
            histories,
            k,
            exclude=exclude,
            allow=allow,
            exclude_history=exclude_history,
            batch_size=self._batch_size,
        )
        return await self._answers(calls, timeout)

    async def score(
        self,
        history: Sequence[str],
        candidates: Sequence[str],
        *,
        timeout: float | None = None,
    ) -> Scores:
        """Scores candidates as what may come next."""
        calls = [score_call(self._spec, history, candidates)]
        return (await self._answers(calls, timeout))[0]

    async def similar_items(
        self, items: Sequence[str], k: int = 10, *, timeout: float | None = None
    ) -> list[SimilarItems]:
        """Finds items that are like each of those given."""
        calls = similar_items_calls(self._spec, items, k, self._batch_size)
        return await self._answers(calls, timeout)

    async def embed_items(
        self, items: Sequence[str], *, timeout: float | None = None
    ) -> list[Embedding]:
        """Gives the vector of each item."""
        calls = embed_items_calls(self._spec, items, self._batch_size)
        return await self._answers(calls, timeout)

    async def embed_sequences(
        self, histories: Sequence[Sequence[str]], *, timeout: float | None = None
    ) -> list[Embedding]:
        """Gives the vector of each history, whose product with an item's is its score."""
        calls = embed_sequences_calls(self._spec, histories, self._batch_size)
        return await self._answers(calls, timeout)

    async def close(self) -> None:
        """Closes the connection; calls that are under way fail."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> AsyncRecommenderClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _open(self) -> None:
        if self._channel is None:
            self._channel = (
                grpc.aio.insecure_channel(self._server, self._options)
                if self._credentials is None
                else grpc.aio.secure_channel(
                    self._server, self._credentials, self._options
                )
            )
            self._predict = self._stub(self._channel)

    async def _answers(
        self, calls: Iterable[Call[Answer]], timeout: float | None
    ) -> list[Answer]:
        """Sends requests, a few at once, and gives their answers in order."""
        deadline = self._deadline(timeout)
        self._open()
        answers: list[Answer] = []
        sent: deque[tuple[Call[Answer], Any]] = deque()

        async def take() -> None:
            call, waiting = sent.popleft()
            try:
                response = await waiting
            except grpc.RpcError as error:
                raise self._failure(error) from error
            answers.extend(self._read(call, response))

        try:
            for call in calls:
                if len(sent) == self._in_flight:
                    await take()
                waiting = self._predict(call.request, timeout=deadline)
                sent.append((call, waiting))
            while sent:
                await take()
        finally:
            for _, waiting in sent:
                waiting.cancel()
        return answers
