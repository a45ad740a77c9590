"""Asks a server for recommendations; needs grpcio and protobuf, and no TensorFlow."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, TypeVar

import grpc

from adaptiverec.serving.client_answers import (
    Embedding,
    Recommendations,
    Scores,
    SimilarItems,
)
from adaptiverec.serving.client_base import ClientBase, ServerError
from adaptiverec.serving.client_requests import (
    Call,
    embed_items_calls,
    embed_sequences_calls,
    recommend_calls,
    score_call,
    similar_items_calls,
)

__all__ = [
    "Embedding",
    "Recommendations",
    "RecommenderClient",
    "Scores",
    "ServerError",
    "SimilarItems",
]

Answer = TypeVar("Answer")


class RecommenderClient(ClientBase):
    """A connection to a server of an exported model. Thread-safe.

    The server may be ours or a stock tensorflow_model_server. The connection is made
    with the first call.

    A call that the server answers with UNAVAILABLE or RESOURCE_EXHAUSTED is made again,
    after about .1, .2, .4 and .8 seconds, as long as its deadline allows; no other is.

    What is asked of many rows goes out in several requests, some of them at once. One
    that fails, fails all.

    Example::

        with RecommenderClient("127.0.0.1:8500") as client:
            client.recommend(["B001", "B007"], k=5).items

    Args:
        server: The address, ``HOST:PORT``.
        model: The name that the server has given the model.
        timeout: How many seconds a request may take, all attempts together.
        version: The version to ask, or None for the newest.
        label: The label of the version to ask, in place of its number.
        max_attempts: How often a request is sent at most, from 1 to 5.
        batch_size: How many rows a request may have.
        in_flight: How many requests of one call may be under way at once.
        tls: Whether to speak TLS.
        tls_ca: PEM file of the authorities that may vouch for the server, or None for
            those that gRPC comes with.
        tls_certificate: PEM file of the client's own certificate, for a server that
            wants one.
        tls_key: PEM file of its key.
        tls_server_name: The name that the server's certificate must have, if not that
            of the address.

    Raises:
        InvalidValueError: An argument is outside its rule.
        NotFoundError: A PEM file does not exist.
    """

    def _connect(self) -> None:
        self._channel = (
            grpc.insecure_channel(self._server, self._options)
            if self._credentials is None
            else grpc.secure_channel(self._server, self._credentials, self._options)
        )
        self._predict = self._stub(self._channel)

    def recommend(
        self,
        history: Sequence[str],
        k: int = 10,
        *,
        exclude: Sequence[str] = (),
        allow: Sequence[str] | None = None,
        exclude_history: bool = True,
        timeout: float | None = None,
    ) -> Recommendations:
        """Recommends what may come next.

        Args:
            history: Raw item ids, oldest first. Where there are none, or only unknown
                ones, the answer is what is popular and says so.
            k: How many items to recommend, at least 1.
            exclude: Items not to recommend.
            allow: Recommend none but these; None is no limit.
            exclude_history: Whether items of the history are not recommended.
            timeout: How many seconds this call may take, if not as long as others.

        Returns:
            At most ``k`` items, best first.

        Raises:
            InvalidValueError: An argument is outside its rule; nothing was sent.
            ServerError: The call failed.
        """
        return self.recommend_many(
            [history],
            k,
            exclude=exclude,
            allow=allow,
            exclude_history=exclude_history,
            timeout=timeout,
        )[0]

    def recommend_many(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 10,
        *,
        exclude: Sequence[str] | Sequence[Sequence[str]] = (),
        allow: Sequence[str] | Sequence[Sequence[str]] | None = None,
        exclude_history: bool = True,
        timeout: float | None = None,
    ) -> list[Recommendations]:
        """Recommends after each of many histories.

        Args:
            histories: At least one history, as in :meth:`recommend`; of any lengths.
            k: How many items to recommend after each, at least 1.
            exclude: Items not to recommend, or a sequence of them for each history.
            allow: Recommend none but these, or a sequence of them for each history.
            exclude_history: Whether items of a history are not recommended after it.
            timeout: How many seconds each request may take, if not as long as others.

        Returns:
            The recommendations after each history, in order.

        Raises:
            InvalidValueError: An argument is outside its rule; nothing was sent.
            ServerError: A request failed.
        """
        calls = recommend_calls(
            self._spec,
            histories,
            k,
            exclude=exclude,
            allow=allow,
            exclude_history=exclude_history,
            batch_size=self._batch_size,
        )
        return self._answers(calls, timeout)

    def score(
        self,
        history: Sequence[str],
        candidates: Sequence[str],
        *,
        timeout: float | None = None,
    ) -> Scores:
        """Scores candidates as what may come next.

        Args:
            history: As in :meth:`recommend`.
            candidates: At least one raw item id.
            timeout: How many seconds this call may take, if not as long as others.

        Returns:
            The score of each candidate, in their order.

        Raises:
            InvalidValueError: An argument is outside its rule; nothing was sent.
            ServerError: The call failed.
        """
        return self._answers([score_call(self._spec, history, candidates)], timeout)[0]

    def similar_items(
        self, items: Sequence[str], k: int = 10, *, timeout: float | None = None
    ) -> list[SimilarItems]:
        """Finds items that are like each of those given.

        Args:
            items: At least one raw item id.
            k: How many to find for each, at least 1.
            timeout: How many seconds each request may take, if not as long as others.

        Returns:
            What is like each item, in order.

        Raises:
            InvalidValueError: An argument is outside its rule; nothing was sent.
            ServerError: A request failed.
        """
        calls = similar_items_calls(self._spec, items, k, self._batch_size)
        return self._answers(calls, timeout)

    def embed_items(
        self, items: Sequence[str], *, timeout: float | None = None
    ) -> list[Embedding]:
        """Gives the vector of each item.

        Args:
            items: At least one raw item id.
            timeout: How many seconds each request may take, if not as long as others.

        Returns:
            The vectors, in order.

        Raises:
            InvalidValueError: An argument is outside its rule; nothing was sent.
            ServerError: A request failed.
        """
        calls = embed_items_calls(self._spec, items, self._batch_size)
        return self._answers(calls, timeout)

    def embed_sequences(
        self, histories: Sequence[Sequence[str]], *, timeout: float | None = None
    ) -> list[Embedding]:
        """Gives the vector of each history, whose product with an item's is its score.

        Args:
            histories: At least one history, as in :meth:`recommend`; of any lengths.
            timeout: How many seconds each request may take, if not as long as others.

        Returns:
            The vectors, in order.

        Raises:
            InvalidValueError: An argument is outside its rule; nothing was sent.
            ServerError: A request failed.
        """
        calls = embed_sequences_calls(self._spec, histories, self._batch_size)
        return self._answers(calls, timeout)

    def close(self) -> None:
        """Closes the connection; calls that are under way fail."""
        self._closed = True
        self._channel.close()

    def __enter__(self) -> RecommenderClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _answers(
        self, calls: Iterable[Call[Answer]], timeout: float | None
    ) -> list[Answer]:
        """Sends requests, a few at once, and gives their answers in order."""
        deadline = self._deadline(timeout)
        rest = iter(calls)
        head = list(itertools.islice(rest, 2))
        if len(head) == 1:
            # In the caller's thread, which is faster than a future.
            return list(self._answer(head[0], deadline))
        answers: list[Answer] = []
        sent: deque[tuple[Call[Answer], Any]] = deque()
        try:
            for call in itertools.chain(head, rest):
                if len(sent) == self._in_flight:
                    answers += self._next_answer(sent)
                sent.append((call, self._predict.future(call.request, deadline)))
            while sent:
                answers += self._next_answer(sent)
        finally:
            for _, future in sent:
                future.cancel()
        return answers

    def _answer(self, call: Call[Answer], deadline: float) -> Sequence[Answer]:
        try:
            response = self._predict(call.request, deadline)
        except grpc.RpcError as error:
            raise self._failure(error) from error
        return self._read(call, response)

    def _next_answer(self, sent: deque[tuple[Call[Answer], Any]]) -> Sequence[Answer]:
        call, future = sent.popleft()
        try:
            response = future.result()
        except grpc.RpcError as error:
            raise self._failure(error) from error
        except grpc.FutureCancelledError as error:
            # What a future makes of the status CANCELLED.
            raise self._failure(future) from error
        return self._read(call, response)
