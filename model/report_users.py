"""Some users: what they had, what came next, and what is recommended to them."""

from __future__ import annotations

from typing import Any

import numpy as np

from adaptiverec.common.report_text import visible
from adaptiverec.model.adaptive_rec import AdaptiveRec
from adaptiverec.model.instances import Instances, evaluation_dataset
from adaptiverec.model.sequences import Sequences

__all__ = ["choose_targets", "users_section"]

_NUM_USERS = 4
_NUM_RECOMMENDED = 10
_MAX_HISTORY = 12


def choose_targets(ranks: np.ndarray, users: np.ndarray, *, seed: int) -> list[int]:
    """Draws targets for the page: half at random, half among those that were found.

    Args:
        ranks: Of all targets, float `[num_targets]`.
        users: Whose they are, int `[num_targets]`.
        seed: Of the drawing.

    Returns:
        Places of targets, each of another user: first those drawn at random.
    """
    generator = np.random.default_rng([seed, 2])
    chosen: list[int] = []
    found = np.flatnonzero(ranks <= _NUM_RECOMMENDED)
    for pool in (np.arange(len(ranks)), found):
        taken = 0
        for place in generator.permutation(pool):
            if taken == _NUM_USERS:
                break
            if users[place] not in users[chosen]:
                chosen.append(int(place))
                taken += 1
    return chosen


def users_section(
    model: AdaptiveRec,
    sequences: Sequences,
    part: str,
    vocabulary: list[str],
    ranks: np.ndarray,
    *,
    seed: int,
) -> list[dict[str, Any]]:
    """What to show of some users.

    Args:
        model: What recommends, without the items that a user has had.
        sequences: Of the users that `ranks` are of.
        part: `"validation"` or `"test"`.
        vocabulary: Raw item ids.
        ranks: Of all targets of the part, seen items removed, float `[num_targets]`.
        seed: Of the drawing.

    Returns:
        Raw ids, what cannot be seen in them written as escapes.
    """
    instances = Instances.of(sequences, part)
    users = np.searchsorted(sequences.starts, instances.starts, side="right") - 1
    shown = []
    for number, place in enumerate(choose_targets(ranks, users, seed=seed)):
        end, start = int(instances.targets[place]), int(instances.starts[place])
        target = int(sequences.items[end])
        # A user's history as evaluation gives it to the model.
        alone = Sequences(
            sequences.items[start : end + 1],
            np.array([0, end + 1 - start]),
            np.array([end - start]),
            np.array([end + 1 - start]),
        )
        inputs, _ = next(
            iter(
                evaluation_dataset(
                    alone, "validation", max_length=model.max_length, batch_size=1
                )
            )
        )
        item_ids, scores = model.recommend(inputs, k=_NUM_RECOMMENDED)
        recommended = np.asarray(item_ids)[0][np.isfinite(np.asarray(scores)[0])]
        history = sequences.items[start:end]
        shown.append(
            {
                "at_random": number < _NUM_USERS,
                "length": len(history),
                "left_out": max(0, len(history) - _MAX_HISTORY),
                "history": [_raw(vocabulary, item) for item in history[-_MAX_HISTORY:]],
                "target": _raw(vocabulary, target),
                "rank": f"{ranks[place]:,.10g}",
                "found": bool(ranks[place] <= _NUM_RECOMMENDED),
                "recommended": [
                    (_raw(vocabulary, item), int(item) == target)
                    for item in recommended
                ],
            }
        )
    return shown


def _raw(vocabulary: list[str], item_id: int) -> str:
    return visible(vocabulary[int(item_id) - 1], 60)
