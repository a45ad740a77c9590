"""The made-up log is what it says: its bytes, its dirt, its structure."""

import collections
import csv

import pytest

from adaptiverec.common.errors import InvalidValueError
from adaptiverec.common.synthetic_log import write_synthetic_log


def read(path) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """The good and the bad rows, by a reader of its own."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["user_id", "item_id", "timestamp"]
    good, bad = [], []
    for row in rows:
        usable = len(row) == 3 and row[0] and row[1] and row[2].isdecimal()
        (good if usable else bad).append(tuple(row))
    return good, bad


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "log.csv"
    counts = write_synthetic_log(path, num_users=1000, num_items=500, seed=5)
    return path, counts


def test_equal_seeds_give_equal_bytes(tmp_path) -> None:
    paths = [tmp_path / name for name in "abc"]
    counts = [
        write_synthetic_log(path, num_users=50, num_items=100, seed=seed)
        for path, seed in zip(paths, (1, 1, 2), strict=True)
    ]
    first, again, other = (path.read_bytes() for path in paths)
    assert first == again
    assert counts[0] == counts[1]
    assert first != other


@pytest.mark.parametrize(("num_users", "seed"), [(1, 0), (200, 3), (1000, 0)])
def test_the_counts_are_what_a_reader_finds(tmp_path, num_users, seed) -> None:
    path = tmp_path / "log.csv"
    counts = write_synthetic_log(path, num_users=num_users, num_items=100, seed=seed)
    good, bad = read(path)
    assert counts.rows == len(good) + len(bad)
    assert counts.bad_rows == len(bad)
    assert counts.duplicates == len(good) - len(set(good))


def test_users_and_items(log) -> None:
    good, _ = read(log[0])
    interactions = collections.Counter(user for user, _, _ in set(good))
    assert len(interactions) == 1000
    assert all(9 <= count <= 30 for count in interactions.values())
    assert sum(interactions.values()) / 1000 == pytest.approx(20, abs=1)
    items = {item for _, item, _ in good}
    assert items == {f"item-{number:05d}" for number in range(500)}


def test_it_has_all_the_dirt_of_a_real_log(log) -> None:
    good, bad = read(log[0])
    # A missing user, a missing item, a time that is none, a row that is too short.
    assert {len(row) for row in bad} == {2, 3}
    assert any(len(row) == 3 and not row[0] for row in bad)
    assert any(len(row) == 3 and not row[1] for row in bad)
    assert any(len(row) == 3 and not row[2].isdecimal() for row in bad)
    assert len(good) > len(set(good))
    times = [int(time) for _, _, time in good]
    assert times != sorted(times)
    at_once = collections.Counter((user, time) for user, _, time in set(good))
    assert max(at_once.values()) > 1


def test_what_comes_next_is_the_next_of_a_series_and_neither_of_the_easy_guesses(
    log,
) -> None:
    good, _ = read(log[0])
    times = collections.Counter((user, time) for user, _, time in set(good))
    users = collections.defaultdict(list)
    for user, item, time in set(good):
        # Where times are equal the order is not known.
        if times[user, time] == 1:
            users[user].append((int(time), int(item.removeprefix("item-"))))
    of_series = of_last = total = 0
    for history in users.values():
        history.sort()
        volumes: dict[int, int] = {}
        last = None
        for _, number in history:
            series, volume = divmod(number, 25)
            if series in volumes:
                total += 1
                of_series += volume == (volumes[series] + 1) % 25
                of_last += last is not None and number == last + 1
            volumes[series] = volume
            last = number
    assert of_series / total > 0.65
    # "But for one turn in a few": a user has four series in turns at random.
    assert of_last / total < 0.3
    popularity = collections.Counter(item for _, item, _ in set(good))
    assert max(popularity.values()) / len(set(good)) < 0.01


def test_items_are_rounded_up_to_whole_series(tmp_path) -> None:
    path = tmp_path / "log.csv"
    write_synthetic_log(path, num_users=300, num_items=101, seed=0)
    items = {item for _, item, _ in read(path)[0]}
    assert items == {f"item-{number:05d}" for number in range(125)}


@pytest.mark.parametrize("option", ["num_users", "num_items"])
def test_nothing_to_make_up(tmp_path, option) -> None:
    with pytest.raises(InvalidValueError, match=f"{option} must be.*1. Received: 0"):
        write_synthetic_log(tmp_path / "log.csv", **{option: 0})
    assert list(tmp_path.iterdir()) == []
