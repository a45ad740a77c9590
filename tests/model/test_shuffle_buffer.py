import collections
import itertools

import numpy as np
import pytest

from adaptiverec.model.shards import interleaved
from adaptiverec.model.shuffle_buffer import LastPrefixes, Prefixes, ShuffleBuffer


def prefixes(*rows: list[int]) -> Prefixes:
    """Of histories and targets; up to two items and one."""
    padded = [row + [0] * (3 - len(row)) for row in rows]
    return Prefixes(
        np.array(padded, np.int32), np.array([len(row) - 1 for row in rows], np.int32)
    )


def test_a_row_is_a_history_and_its_target() -> None:
    found = prefixes([4, 5], [1, 2, 3])
    assert found.targets.tolist() == [5, 3]
    assert found.histories.tolist() == [[4, 0], [1, 2]]
    assert found.following.tolist() == [[5, 0], [2, 3]]
    # Nothing was changed on the way.
    assert found.rows.tolist() == [[4, 5, 0], [1, 2, 3]]


def drawn(buffer, count, batch_size=2, partners=True):
    """(Instance, partner, alone) of each, batch by batch."""
    return [
        list(
            zip(
                batch.instances.rows[:, 0].tolist(),
                batch.partners.rows[:, 0].tolist(),
                batch.alone.tolist(),
                strict=True,
            )
        )
        for batch in buffer.draw(count, batch_size, partners=partners)
    ]


def test_each_instance_leaves_once() -> None:
    generator = np.random.default_rng(0)
    buffer = ShuffleBuffer(8, 2, generator)
    arriving, left = iter(range(1, 101)), []
    rows = [next(arriving) for _ in range(8)]
    while True:
        buffer.add(prefixes(*([row, 7] for row in rows)))
        left += [mine for batch in drawn(buffer, 3) for mine, _, _ in batch]
        assert buffer.room == 3
        rows = [row for _, row in zip(range(3), arriving, strict=False)]
        if len(rows) < 3:
            break
    buffer.add(prefixes(*([row, 7] for row in rows)))
    left += [mine for batch in drawn(buffer, len(buffer)) for mine, _, _ in batch]
    assert len(buffer) == 0
    assert left != sorted(left)
    assert sorted(left) == list(range(1, 101))


def test_partners_are_others_that_are_held() -> None:
    buffer = ShuffleBuffer(5, 2, np.random.default_rng(0))
    found = collections.defaultdict(collections.Counter)
    for _ in range(400):
        buffer.add(prefixes([1, 9], [2, 8], [3, 9], [4, 7], [5, 9]))
        batches = drawn(buffer, 5)
        assert [len(batch) for batch in batches] == [2, 2, 1]
        for mine, partner, alone in itertools.chain(*batches):
            assert alone == (mine == partner)
            found[mine][partner] += 1
    assert {mine: set(others) for mine, others in found.items()} == {
        1: {3, 5},
        2: {2},
        3: {1, 5},
        4: {4},
        5: {1, 3},
    }
    assert all(150 < found[mine][other] < 250 for mine, other in [(1, 3), (3, 5)])


def test_without_partners_all_are_alone() -> None:
    buffer = ShuffleBuffer(2, 2, np.random.default_rng(0))
    buffer.add(prefixes([1, 9], [2, 9]))
    ((one, other),) = drawn(buffer, 2, partners=False)
    assert one[0] == one[1] != other[0] == other[1]
    assert one[2]
    assert other[2]


def test_the_last_prefix_is_the_partner_of_one_alone() -> None:
    buffer = ShuffleBuffer(4, 2, np.random.default_rng(0))
    last = LastPrefixes(10, 2)
    last.remember(prefixes([1, 5], [2, 6], [3, 3, 5]))
    buffer.add(prefixes([7, 5], [8, 4], [1, 9], [2, 9]))
    (batch,) = buffer.draw(4, 4, partners=True)
    partners = last.partners(batch)
    found = {
        tuple(row): partner
        for row, partner in zip(
            batch.instances.rows.tolist(), partners.histories.tolist(), strict=True
        )
    }
    assert found == {
        # Remembered last, remembered never, and others that are held.
        (7, 5, 0): [3, 3],
        (8, 4, 0): [8, 0],
        (1, 9, 0): [2, 0],
        (2, 9, 0): [1, 0],
    }


@pytest.mark.parametrize(
    ("width", "expected"), [(1, "aaabbc"), (2, "ababac"), (9, "abcaba")]
)
def test_iterators_take_turns(width, expected) -> None:
    sources = [iter("aaa"), iter("bb"), iter("c")]
    assert "".join(interleaved(sources, width)) == expected
    assert list(interleaved([], width)) == []
