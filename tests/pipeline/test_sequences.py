"""Rows of a partition to sequences, against lists, ``sorted`` and sets."""

import itertools
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptiverec.pipeline import hashing
from adaptiverec.pipeline.form_sequences import form_sequences
from adaptiverec.pipeline.sequences import Sequences

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15

TYPES = {
    "user": pa.string(),
    "item": pa.string(),
    "time": pa.int64(),
    "order": pa.int64(),
    "rating": pa.float64(),
    "event": pa.string(),
    "extra/a": pa.string(),
    "extra/b": pa.string(),
}
NAMES = list(TYPES)


def mix(x):
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & MASK
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def string_hash(text):
    data = text.encode()
    state = mix(len(data) * GOLDEN & MASK)
    for start in range(0, len(data), 8):
        word = int.from_bytes(data[start : start + 8], "little")
        state = mix((state ^ word) + GOLDEN & MASK)
    return state


def sort_key(row):
    tie = mix(string_hash(row["user"]) * GOLDEN + string_hash(row["item"]) & MASK)
    content = [
        value.encode() if isinstance(value, str) else value
        for name, value in row.items()
        if name not in ("user", "item", "time", "order")
    ]
    return row["time"], row.get("order", 0), tie, row["item"].encode(), content


def expected(rows, repeats, maximum):
    """User to their rows, in the order of users; and how many were dropped."""
    distinct = {tuple(row.items()): row for row in rows}.values()
    tally = {"duplicates": len(rows) - len(distinct), "repeats": 0, "over": 0}
    users = {}
    for row in distinct:
        users.setdefault(row["user"], []).append(row)
    for user, mine in users.items():
        mine.sort(key=sort_key)
        if repeats == "collapse":
            kept = [
                next(run) for _, run in itertools.groupby(mine, lambda r: r["item"])
            ]
        elif repeats == "first":
            kept = list({row["item"]: row for row in reversed(mine)}.values())[::-1]
            kept.sort(key=sort_key)
        elif repeats == "last":
            kept = list({row["item"]: row for row in mine}.values())
            kept.sort(key=sort_key)
        else:
            kept = mine
        tally["repeats"] += len(mine) - len(kept)
        newest = kept if maximum is None else kept[-maximum:]
        tally["over"] += len(kept) - len(newest)
        users[user] = newest
    order = sorted(users, key=lambda user: (string_hash(user), user.encode()))
    return {user: users[user] for user in order}, tally


def batches_of(rows, names, cuts=()):
    schema = pa.schema([(name, TYPES[name]) for name in names])
    edges = [0, *sorted(cuts), len(rows)]
    return [
        pa.RecordBatch.from_pylist(rows[a:b], schema=schema)
        for a, b in itertools.pairwise(edges)
    ]


def as_rows(sequences):
    """User to rows, with what a sequence carries along."""
    found = {}
    items = [sequences.item_ids[code].as_py() for code in sequences.items]
    columns = {name: values.to_pylist() for name, values in sequences.columns.items()}
    for number, user in enumerate(sequences.user_ids.to_pylist()):
        found[user] = [
            {
                "item": items[n],
                "time": int(sequences.times[n]),
                **{name: values[n] for name, values in columns.items()},
            }
            for n in range(*sequences.offsets[number : number + 2])
        ]
    return found


def without_order(users):
    return {
        user: [
            {k: v for k, v in row.items() if k not in ("user", "order")} for row in rows
        ]
        for user, rows in users.items()
    }


row = st.fixed_dictionaries(
    {
        "user": st.sampled_from(["u1", "u2", "\u00fc", "a long id of a user", ""]),
        "item": st.sampled_from(["i1", "i2", "i3", "\u00ef", "item/" + "x" * 20]),
        "time": st.one_of(
            st.integers(-1, 1), st.sampled_from([-(2**63), 2**63 - 1, 10**15])
        ),
        "order": st.one_of(st.integers(-1, 1), st.sampled_from([-(2**63), 2**63 - 1])),
        "rating": st.sampled_from([0.0, -1.5, 1.0, 1.0 + 2**-52, 5e300]),
        "event": st.sampled_from(["view", "buy", ""]),
        "extra/a": st.sampled_from(["", "a\tb", "\u00e9"]),
        "extra/b": st.sampled_from(["x", "y"]),
    }
)


@given(
    st.lists(row, max_size=60),
    st.sets(st.sampled_from(NAMES[3:])),
    st.sampled_from(["keep", "collapse", "first", "last"]),
    st.sampled_from([None, 1, 2, 5]),
    st.randoms(use_true_random=False),
)
def test_equals_plain_python(rows, extra, repeats, maximum, rng):
    names = [name for name in NAMES if name in extra or name in NAMES[:3]]
    rows = [{name: row[name] for name in names} for row in rows]
    # Equal rows more often than chance would have them.
    rows += rng.sample(rows, len(rows) // 3)
    users, dropped = expected(rows, repeats, maximum)
    cuts = [rng.randint(0, len(rows)) for _ in range(2)]
    rng.shuffle(rows)
    sequences, tally = form_sequences(
        batches_of(rows, names, cuts), repeats=repeats, max_user_interactions=maximum
    )
    assert as_rows(sequences) == without_order(users)
    assert list(as_rows(sequences)) == list(users)
    assert tally["duplicates"] == dropped["duplicates"]
    assert tally.get("repeats", 0) == dropped["repeats"]
    assert tally.get("over_max_user_interactions", 0) == dropped["over"]
    assert sum(tally.values()) + len(sequences.items) == len(rows)
    # And it comes back from a batch as it was.
    back = Sequences.from_batch(sequences.to_batch())
    assert as_rows(back) == as_rows(sequences)
    assert back.columns.keys() == sequences.columns.keys()


@given(st.lists(row, min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_equal_hashes_are_told_apart_by_the_ids(rows, rng):
    # With a hash that makes everything collide, the exact ids decide alone.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            hashing, "hash_strings", lambda strings: np.zeros(len(strings), np.uint64)
        )
        rows = [{name: row[name] for name in NAMES[:3]} for row in rows]
        results = []
        for _ in range(3):
            rng.shuffle(rows)
            sequences, _ = form_sequences(batches_of(rows, NAMES[:3]))
            results.append(as_rows(sequences))
    assert results[0] == results[1] == results[2]
    assert list(results[0]) == sorted(results[0], key=str.encode)
    for mine in results[0].values():
        keys = [(row["time"], row["item"].encode()) for row in mine]
        assert keys == sorted(set(keys))


def test_what_else_a_row_says_makes_it_another():
    rows = [("u", "x", 1, 3.0), ("u", "x", 1, 4.0), ("u", "x", 1, 3.0)]
    names = ["user", "item", "time", "rating"]
    rows = [dict(zip(names, row, strict=True)) for row in rows]
    sequences, tally = form_sequences(batches_of(rows, names))
    assert tally == {"duplicates": 1}
    assert sequences.columns["rating"].to_pylist() == [3.0, 4.0]
    # Without ratings, all three are one.
    _, tally = form_sequences(batches_of(rows, names[:3]))
    assert tally == {"duplicates": 2}


def test_zero_has_no_sign():
    names = ["user", "item", "time", "rating"]
    rows = [dict(zip(names, ("u", "x", 1, zero), strict=True)) for zero in (-0.0, 0.0)]
    sequences, tally = form_sequences(batches_of(rows, names))
    assert tally == {"duplicates": 1}
    assert str(sequences.columns["rating"][0].as_py()) == "0.0"


def test_hand_worked_rules():
    def items(repeats, maximum=None):
        rows = [
            {"user": "u", "item": item, "time": time}
            for time, item in enumerate("aabacca")
        ]
        random.Random(0).shuffle(rows)
        sequences, _ = form_sequences(
            batches_of(rows, NAMES[:3]), repeats=repeats, max_user_interactions=maximum
        )
        return "".join(row["item"] for row in as_rows(sequences)["u"])

    assert items("keep") == "aabacca"
    assert items("collapse") == "abaca"
    assert items("first") == "abc"
    assert items("last") == "bca"
    assert items("keep", 3) == "cca"
    # The newest are counted when repeats are gone.
    assert items("first", 2) == "bc"


def test_no_rows():
    sequences, tally = form_sequences(batches_of([], NAMES), repeats="last")
    assert len(sequences.user_ids) == len(sequences.items) == 0
    assert sequences.offsets.tolist() == [0]
    assert sum(tally.values()) == 0
    assert Sequences.from_batch(sequences.to_batch()).columns.keys() == set(NAMES[4:])
