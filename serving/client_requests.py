"""What a client asks: arguments checked at once, requests made one at a time.

Servers that batch (`--enable_batching`) shape the requests:

- They pad a shorter row at its end with what its request begins with: with an item, the
  oldest would become the newest. So rows of histories and filters begin with "", which
  is padding to the model, and shorter rows are padded in front.
- They want as many rows of every input, and a default, of an input that is left out, has
  one. So a request with several histories asks for some of the outputs only: that is not
  batched, and need not be, since it is a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from adaptiverec.common.errors import InvalidValueError
from adaptiverec.serving import contract
from adaptiverec.serving import predict_pb2 as wire
from adaptiverec.serving.client_answers import (
    RECOMMENDATION_OUTPUTS,
    Embedding,
    Recommendations,
    Scores,
    SimilarItems,
    read_embeddings,
    read_recommendations,
    read_scores,
    read_similar_items,
)
from adaptiverec.serving.client_tensors import put_bools, put_ids, put_numbers

__all__ = [
    "Call",
    "embed_items_calls",
    "embed_sequences_calls",
    "recommend_calls",
    "score_call",
    "similar_items_calls",
]

_MAX_K = 2**31 - 1

Answer_co = TypeVar("Answer_co", covariant=True)
Rows = list[list[bytes]]


@dataclass(frozen=True)
class Call(Generic[Answer_co]):
    """A request, and how its answer is read.

    Attributes:
        request: What to send.
        read: Gives the answers that a response holds, one for each row of the request;
            raises ValueError of a response that is no recommender's.
    """

    request: wire.PredictRequest
    read: Callable[[wire.PredictResponse], Sequence[Answer_co]]


def recommend_calls(
    model: wire.ModelSpec,
    histories: Sequence[Sequence[str]],
    k: int,
    *,
    exclude: Sequence[str] | Sequence[Sequence[str]] = (),
    allow: Sequence[str] | Sequence[Sequence[str]] | None = None,
    exclude_history: bool = True,
    batch_size: int,
    min_width: int = 0,
) -> Iterator[Call[Recommendations]]:
    """Requests for recommendations.

    Args:
        model: Whom to ask.
        histories: At least one history; each of raw item ids, oldest first.
        k: How many items after each.
        exclude: Items not to recommend, or those of each history.
        allow: Recommend none but these, or these after each history; None is no limit.
        exclude_history: Whether items of the history are left out.
        batch_size: How many histories a request may have.
        min_width: How wide the rows of a request are at least, in items.

    Raises:
        InvalidValueError: An argument is outside its rule.
    """
    _check_k(k)
    rows = _rows("histories", histories)
    excluded = _filter_rows("exclude", exclude, len(rows))
    if allow is not None:
        allowed = _filter_rows("allow", allow, len(rows))
        # A row of padding alone is no limit to the model: nothing where all was meant to
        # be shut out would be everything.
        if not all(allowed):
            raise InvalidValueError(
                "allow must be None, which is no limit, or have at least one item. "
                f"Received: allow={allow!r}"
            )
    else:
        allowed = [[]]

    def calls() -> Iterator[Call[Recommendations]]:
        for start in range(0, len(rows), batch_size):
            part = slice(start, start + batch_size)
            request = _request(model, "")
            width = max(min_width, max(map(len, rows[part]))) + 1
            put_ids(request.inputs["history"], rows[part], width)
            count = len(rows[part])
            put_numbers(request.inputs["k"], [k] * count)
            for name, filters in (("exclude", excluded), ("allow", allowed)):
                if any(filters):
                    those = filters if len(filters) == 1 else filters[part]
                    width = max(map(len, those)) + 1
                    put_ids(request.inputs[name], those, width)
            if not exclude_history:
                put_bools(request.inputs["exclude_history"], [False] * count)
            if count > 1:
                request.output_filter.extend(RECOMMENDATION_OUTPUTS)
            yield Call(request, partial(read_recommendations, rows=count))

    return calls()


def score_call(
    model: wire.ModelSpec, history: Sequence[str], candidates: Sequence[str]
) -> Call[Scores]:
    """A request for the scores of candidates after a history.

    Raises:
        InvalidValueError: An argument is outside its rule.
    """
    row, candidate_row = _row("history", history), _items("candidates", candidates)
    request = _request(model, contract.SCORE)
    put_ids(request.inputs["history"], [row], len(row) + 1)
    put_ids(request.inputs["candidates"], [candidate_row], len(candidate_row))
    return Call(request, partial(read_scores, candidates=len(candidate_row)))


def embed_sequences_calls(
    model: wire.ModelSpec, histories: Sequence[Sequence[str]], batch_size: int
) -> Iterator[Call[Embedding]]:
    """Requests for the vectors of histories.

    Raises:
        InvalidValueError: An argument is outside its rule.
    """
    rows = _rows("histories", histories)

    def calls() -> Iterator[Call[Embedding]]:
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            request = _request(model, contract.EMBED_SEQUENCE)
            put_ids(request.inputs["history"], part, max(map(len, part)) + 1)
            yield Call(request, partial(read_embeddings, rows=len(part)))

    return calls()


def embed_items_calls(
    model: wire.ModelSpec, items: Sequence[str], batch_size: int
) -> Iterator[Call[Embedding]]:
    """Requests for the vectors of items.

    Raises:
        InvalidValueError: An argument is outside its rule.
    """
    ids = _items("items", items)

    def calls() -> Iterator[Call[Embedding]]:
        for start in range(0, len(ids), batch_size):
            part = ids[start : start + batch_size]
            request = _request(model, contract.EMBED_ITEM)
            _put_list(request.inputs["items"], part)
            yield Call(request, partial(read_embeddings, rows=len(part)))

    return calls()


def similar_items_calls(
    model: wire.ModelSpec, items: Sequence[str], k: int, batch_size: int
) -> Iterator[Call[SimilarItems]]:
    """Requests for items that are like those given.

    Raises:
        InvalidValueError: An argument is outside its rule.
    """
    _check_k(k)
    ids = _items("items", items)

    def calls() -> Iterator[Call[SimilarItems]]:
        for start in range(0, len(ids), batch_size):
            part = ids[start : start + batch_size]
            request = _request(model, contract.SIMILAR_ITEMS)
            _put_list(request.inputs["items"], part)
            put_numbers(request.inputs["k"], [k] * len(part))
            yield Call(request, partial(read_similar_items, rows=len(part)))

    return calls()


def _request(model: wire.ModelSpec, signature: str) -> wire.PredictRequest:
    request = wire.PredictRequest(model_spec=model)
    request.model_spec.signature_name = signature
    return request


def _put_list(tensor: wire.TensorProto, ids: Sequence[bytes]) -> None:
    tensor.dtype = wire.DT_STRING
    tensor.tensor_shape.dim.add(size=len(ids))
    tensor.string_val.extend(ids)


def _check_k(k: int) -> None:
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= _MAX_K:
        raise InvalidValueError(
            f"k must be a whole number from 1 to {_MAX_K}. Received: k={k!r}"
        )


def _rows(name: str, histories: Sequence[Sequence[str]]) -> Rows:
    if isinstance(histories, (str, bytes)) or not histories:
        raise InvalidValueError(
            f"There must be at least one history. Received: {name}={histories!r}"
        )
    return [_row("history", history) for history in histories]


def _items(name: str, items: Sequence[str]) -> list[bytes]:
    ids = _row(name, items)
    if not ids:
        raise InvalidValueError(
            f"{name} must have at least one item. Received: {name}={items!r}"
        )
    return ids


def _filter_rows(
    name: str, items: Sequence[str] | Sequence[Sequence[str]], count: int
) -> Rows:
    """One row for all histories, or as many rows as there are."""
    if isinstance(items, (str, bytes)) or all(isinstance(item, str) for item in items):
        return [_row(name, items)]  # type: ignore[arg-type]
    if len(items) != count:
        raise InvalidValueError(
            f"{name} must be item ids for all histories, or a sequence of them for each "
            f"of the {count}. Received: {len(items)} in {name}"
        )
    return [_row(name, row) for row in items]


def _row(name: str, items: Sequence[str]) -> list[bytes]:
    # A string is a sequence of strings too, and surely not what was meant.
    if isinstance(items, (str, bytes)):
        raise InvalidValueError(
            f"{name} must be a sequence of item ids. Received: {name}={items!r}"
        )
    row = []
    for item in items:
        # "" is padding to the model, which would skip it without a word.
        if not isinstance(item, str) or not item:
            raise InvalidValueError(
                f"An item id must be a string that is not empty. Received: {item!r}"
            )
        try:
            row.append(item.encode())
        except UnicodeEncodeError as error:
            raise InvalidValueError(
                f"An item id must be valid Unicode. Received: {item!r}"
            ) from error
    return row
