"""What a client gets, and how it is read from the protos of an answer."""

from __future__ import annotations

import array
from collections.abc import Iterator
from dataclasses import dataclass

from adaptiverec.serving import predict_pb2 as wire
from adaptiverec.serving.client_tensors import (
    read_bools,
    read_floats,
    read_ids,
    read_ints,
    shape_of,
)

__all__ = [
    "RECOMMENDATION_OUTPUTS",
    "Embedding",
    "Recommendations",
    "Scores",
    "SimilarItems",
    "read_embeddings",
    "read_recommendations",
    "read_scores",
    "read_similar_items",
]

# Not all that the signature has: see client_requests.
RECOMMENDATION_OUTPUTS = ("items", "scores", "unknown_items", "fallback")


@dataclass(frozen=True)
class Recommendations:
    """What is recommended after one history, best first.

    Attributes:
        items: Raw item ids; fewer than asked for where no more candidates are left.
        scores: The score of each item, descending.
        unknown_items: How many items of the history the model does not know; they were
            skipped.
        fallback: Whether the history told nothing, being empty or wholly unknown, so
            that popularity recommends. Scores are counts of interactions then.
        model_version: The version of the model that answered.
    """

    items: list[str]
    scores: list[float]
    unknown_items: int
    fallback: bool
    model_version: int


@dataclass(frozen=True)
class Scores:
    """The scores of given candidates after one history.

    Attributes:
        scores: The score of each candidate, in their order; 0 of an unknown one.
        known: Whether the model knows each candidate.
        fallback: Whether the history told nothing; scores are popularity then.
        model_version: The version of the model that answered.
    """

    scores: list[float]
    known: list[bool]
    fallback: bool
    model_version: int


@dataclass(frozen=True)
class Embedding:
    """A vector of one history or item.

    Attributes:
        vector: float32 numbers, `[hidden_dim]`; ``numpy.asarray`` takes them without a
            copy. All are 0 where `known` is false.
        known: Whether the item, or any item of the history, is known.
        model_version: The version of the model that answered.
    """

    vector: array.array[float]
    known: bool
    model_version: int


@dataclass(frozen=True)
class SimilarItems:
    """The items that are most like one item, which is not among them.

    Attributes:
        items: Raw item ids, most similar first.
        scores: The cosine of each, descending.
        known: Whether the model knows the item; if not, there are none.
        model_version: The version of the model that answered.
    """

    items: list[str]
    scores: list[float]
    known: bool
    model_version: int


def read_recommendations(
    response: wire.PredictResponse, rows: int
) -> list[Recommendations]:
    """Takes an answer of `rows` histories apart.

    Raises:
        ValueError: It is not the answer of a recommender.
    """
    _check_outputs(response, RECOMMENDATION_OUTPUTS)
    unknown = read_ints(response.outputs["unknown_items"])
    fallback = read_bools(response.outputs["fallback"])
    _check_lengths(rows, unknown, fallback)
    return [
        Recommendations(
            items,
            scores,
            unknown[row],
            fallback[row],
            response.model_spec.version.value,
        )
        for row, (items, scores) in enumerate(_ranked(response, rows))
    ]


def read_similar_items(response: wire.PredictResponse, rows: int) -> list[SimilarItems]:
    """Takes an answer on `rows` items apart.

    Raises:
        ValueError: It is not the answer of a recommender.
    """
    _check_outputs(response, ("items", "scores", "known"))
    known = read_bools(response.outputs["known"])
    _check_lengths(rows, known)
    return [
        SimilarItems(items, scores, known[row], response.model_spec.version.value)
        for row, (items, scores) in enumerate(_ranked(response, rows))
    ]


def read_scores(response: wire.PredictResponse, candidates: int) -> list[Scores]:
    """Takes an answer on one history apart.

    A server that batches may have padded the candidates, so that there are more scores
    than candidates.

    Raises:
        ValueError: It is not the answer of a recommender.
    """
    _check_outputs(response, ("scores", "known", "fallback"))
    width = _width(response, "scores", 1)
    scores = read_floats(response.outputs["scores"])
    known = read_bools(response.outputs["known"])
    fallback = read_bools(response.outputs["fallback"])
    _check_lengths(1, fallback)
    _check_lengths(max(width, candidates), scores, known)
    return [
        Scores(
            scores[:candidates].tolist(),
            known[:candidates],
            fallback[0],
            response.model_spec.version.value,
        )
    ]


def read_embeddings(response: wire.PredictResponse, rows: int) -> list[Embedding]:
    """Takes an answer on `rows` items or histories apart.

    Raises:
        ValueError: It is not the answer of a recommender.
    """
    _check_outputs(response, ("embedding", "known"))
    width = _width(response, "embedding", rows)
    numbers = read_floats(response.outputs["embedding"])
    known = read_bools(response.outputs["known"])
    _check_lengths(rows * width, numbers)
    _check_lengths(rows, known)
    version = response.model_spec.version.value
    return [
        Embedding(numbers[row * width : (row + 1) * width], known[row], version)
        for row in range(rows)
    ]


def _ranked(
    response: wire.PredictResponse, rows: int
) -> Iterator[tuple[list[str], list[float]]]:
    """Items and scores of each row, without its padding."""
    width = _width(response, "items", rows)
    ids = read_ids(response.outputs["items"])
    scores = read_floats(response.outputs["scores"])
    _check_lengths(rows * width, ids, scores)
    for row in range(rows):
        kept = [n for n in range(row * width, (row + 1) * width) if ids[n]]
        yield [ids[n] for n in kept], [scores[n] for n in kept]


def _check_outputs(response: wire.PredictResponse, names: tuple[str, ...]) -> None:
    missing = set(names) - set(response.outputs)
    if missing:
        raise ValueError(f"it has no {', '.join(sorted(missing))}")


def _width(response: wire.PredictResponse, name: str, rows: int) -> int:
    shape = shape_of(response.outputs[name])
    if len(shape) != 2 or shape[0] != rows:
        raise ValueError(f"{name} has shape {shape}")
    return shape[1]


def _check_lengths(length: int, *outputs: list | array.array) -> None:
    if any(len(output) != length for output in outputs):
        raise ValueError("its outputs differ in length")
