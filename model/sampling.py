"""Some users, some training instances, drawn from sequences that are read block by block.

What is drawn depends on the generator and the sequences, not on how these are cut into
blocks; nothing is held but what is drawn, and a number for each item.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from adaptiverec.model.instances import Instances
from adaptiverec.model.sequences import Sequences, SequenceSource, windows

__all__ = ["SampledInstances", "sample_instances", "sample_users"]


class SampledInstances(NamedTuple):
    """Training instances, and others with the same targets.

    Attributes:
        item_ids: Histories, int32 `[sample, max_length]`, padded at the end with 0.
        same_target_item_ids: For each, another history with the same target item, or
            itself where there is none; of the same shape.
        targets: Dense item ids, int32 `[sample]`.
    """

    item_ids: np.ndarray
    same_target_item_ids: np.ndarray
    targets: np.ndarray


def sample_users(
    source: SequenceSource, part: str, count: int, generator: np.random.Generator
) -> tuple[Sequences, int]:
    """Draws users that have targets in a part, each as likely. Reads the source twice.

    Args:
        source: The users' sequences.
        part: `"train"`, `"validation"` or `"test"`.
        count: How many users at most.
        generator: What draws.

    Returns:
        The users in their order, and how many there are that have targets.
    """
    num_users = sum(len(_users_with_targets(block, part)) for block in source.blocks())
    size = min(count, num_users)
    drawn = np.sort(generator.choice(num_users, size=size, replace=False))
    parts, before = [], 0
    for block in source.blocks():
        users = _users_with_targets(block, part)
        first, last = np.searchsorted(drawn, [before, before + len(users)])
        parts.append(block.of_users(users[drawn[first:last] - before]))
        before += len(users)
    return Sequences.joined(parts), num_users


def sample_instances(
    source: SequenceSource,
    count: int,
    *,
    num_items: int,
    max_length: int,
    generator: np.random.Generator,
) -> SampledInstances:
    """Draws training instances, each as likely. Reads the source twice.

    Args:
        source: The users' sequences.
        count: How many at most.
        num_items: Size of the catalogue.
        max_length: The last so many items of a history are seen.
        generator: What draws.

    Returns:
        The instances, in the order of the source.
    """
    total = source.num_train_instances
    drawn = np.sort(generator.choice(total, size=min(count, total), replace=False))
    histories = np.zeros((len(drawn), max_length), np.int32)
    targets = np.zeros(len(drawn), np.int32)
    # Which one it is of all instances with its target.
    ranks = np.zeros(len(drawn), np.int64)
    num_of_target = np.zeros(num_items + 1, np.int64)
    before = 0
    for block in source.blocks():
        instances = Instances.of(block, "train")
        of_block = block.items[instances.targets]
        first, last = np.searchsorted(drawn, [before, before + len(instances)])
        rows = drawn[first:last] - before
        histories[first:last] = _histories(block, instances, rows, max_length)
        targets[first:last] = of_block[rows]
        ranks[first:last] = (num_of_target[of_block] + _ranks_within(of_block))[rows]
        num_of_target += np.bincount(of_block, minlength=num_items + 1)
        before += len(instances)
    # Of the partners: which one each is of all instances with its target; -1 for none.
    wanted = np.full(len(drawn), -1)
    for place, (target, rank) in enumerate(zip(targets, ranks, strict=True)):
        if others := num_of_target[target] - 1:
            other = generator.choice(others)
            # The instance itself is left out of the count.
            wanted[place] = int(target) * total + other + (other >= rank)
    partners = histories.copy()
    is_wanted = np.zeros(num_items + 1, bool)
    is_wanted[targets] = True
    num_of_target[:] = 0
    for block in source.blocks():
        instances = Instances.of(block, "train")
        of_block = block.items[instances.targets]
        rows = np.flatnonzero(is_wanted[of_block])
        candidates = of_block[rows].astype(np.int64)
        keys = (
            candidates * total + num_of_target[candidates] + _ranks_within(candidates)
        )
        places, found = _places_of(wanted, keys)
        partners[places] = _histories(block, instances, rows[found], max_length)
        num_of_target += np.bincount(of_block, minlength=num_items + 1)
    return SampledInstances(histories, partners, targets)


def _users_with_targets(block: Sequences, part: str) -> np.ndarray:
    starts = Instances.of(block, part).starts
    return np.flatnonzero(np.isin(block.starts[:-1], starts))


def _histories(
    block: Sequences, instances: Instances, rows: np.ndarray, max_length: int
) -> np.ndarray:
    ends = instances.targets[rows]
    starts = np.maximum(instances.starts[rows], ends - max_length)
    return windows(block.items, starts, ends, max_length)


def _ranks_within(values: np.ndarray) -> np.ndarray:
    """0, 1, … along the places of each value."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    ranks = np.empty(len(values), np.int64)
    ranks[order] = np.arange(len(values)) - np.searchsorted(ordered, ordered)
    return ranks


def _places_of(wanted: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of the wanted keys are among the keys, all different, and where there."""
    order = np.argsort(keys)
    positions = np.searchsorted(keys[order], wanted)
    places = np.flatnonzero(positions < len(keys))
    found = order[positions[places]]
    equal = keys[found] == wanted[places]
    return places[equal], found[equal]
