"""The proof that a SavedModel answers as the offline evaluation does.

Users are replayed through the reloaded artefact, from raw ids to raw ids, and through the
code that `adaptiverec evaluate` ranks with; their k best must agree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from adaptiverec.common.errors import StageError
from adaptiverec.model.adaptive_rec import AdaptiveRec
from adaptiverec.model.instances import evaluation_dataset
from adaptiverec.model.ranking import mask_items
from adaptiverec.model.sampling import sample_users
from adaptiverec.model.sequences import Sequences, SequenceSource

__all__ = ["Parity", "certify", "made_up_users", "some_users"]

_K = 10
# Between two orders of float32 summation; far below what ranks items apart.
_SCORE_TOLERANCE = 1e-4
# Small, since the offline scores of a batch are the batch times the catalogue.
_BATCH_SIZE = 32

Replay = Callable[[list[list[str]], int], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Parity:
    """What was compared, and how well it agreed.

    Attributes:
        users: How many histories were replayed.
        k: How many recommendations of each were compared.
        max_score_difference: The greatest between the two scores at one place.
        agreeing_users: Of how many all k agree; of an exact retrieval, all.
    """

    users: int
    k: int
    max_score_difference: float
    agreeing_users: int


def some_users(source: SequenceSource, count: int) -> Sequences | None:
    """At most so many of the users with test targets, drawn, or None if none has any."""
    users, num_users = sample_users(source, "test", count, np.random.default_rng(0))
    return users if num_users else None


def made_up_users(num_items: int, max_length: int, count: int) -> Sequences:
    """Random histories of all lengths, up to longer than the model sees."""
    generator = np.random.default_rng(0)
    # And a test target, which comes after the history.
    lengths = 2 + np.arange(count) % (max_length + 5)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    items = generator.integers(1, num_items + 1, starts[-1], dtype=np.int32)
    return Sequences(items, starts, starts[1:] - 1, starts[1:] - 1)


def certify(
    model: AdaptiveRec,
    vocabulary: list[str],
    sequences: Sequences,
    replay: Replay,
    *,
    exact: bool = True,
) -> Parity:
    """Compares the k best of a SavedModel with those of the offline evaluation.

    Args:
        model: The model that was saved.
        vocabulary: Raw item ids; element i has the dense id i + 1.
        sequences: Users with test targets, before which their histories are.
        replay: Asks the SavedModel for k recommendations after each of some histories.
        exact: Whether they must agree; not of an approximate retrieval.

    Returns:
        How well they agree.

    Raises:
        StageError: They do not.
    """
    dense_id_of = {item: index + 1 for index, item in enumerate(vocabulary)}
    k = min(_K, model.num_items)
    dataset = evaluation_dataset(
        sequences, "test", max_length=model.max_length, batch_size=_BATCH_SIZE
    )
    histories = [
        [vocabulary[item_id - 1] for item_id in row if item_id]
        for inputs, _ in dataset
        for row in inputs["seen_item_ids"].numpy()
    ]
    answer = replay(histories, k)
    rows = zip(histories, answer["items"], answer["scores"], strict=True)
    score = tf.function(model.score_by_length, reduce_retracing=True)
    agreeing = 0
    difference = 0.0
    for inputs, _ in dataset:
        for offline in np.asarray(mask_items(score(inputs), inputs["seen_item_ids"])):
            history, items, scores = next(rows)
            best = np.sort(offline)[::-1][:k]
            best = best[np.isfinite(best)]
            off = _difference(
                offline, best, [dense_id_of[item] for item in items if item], scores
            )
            if off <= _SCORE_TOLERANCE:
                agreeing += 1
                difference = max(difference, off)
            elif exact:
                raise StageError(
                    "The reloaded SavedModel must recommend what the Keras model does. "
                    f"Received: for the history {history[-5:]} (its end), {items} with "
                    f"scores {scores}; expected scores {best.tolist()}"
                )
    return Parity(len(histories), k, difference, agreeing)


def _difference(
    offline: np.ndarray, best: np.ndarray, served: list[int], scores: list[float]
) -> float:
    """How far the served items are from the best offline scores, at most.

    By score and not by item: equal scores may stand in either order.
    """
    if not len(served) == len(set(served)) == len(best):
        return float("inf")
    if not served:
        return 0.0
    of_items = np.abs(offline[served] - best).max()
    of_scores = np.abs(np.asarray(scores[: len(best)]) - best).max()
    # What is not a number must not pass for agreement.
    return float(np.nan_to_num(np.max([of_items, of_scores]), nan=np.inf))
