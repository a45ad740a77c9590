"""The whole job against a plain implementation: dicts, loops and ``sorted``."""

import contextlib
import gzip
import hashlib
import json
import random
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptiverec.pipeline.driver import run_job
from adaptiverec.pipeline.options import PrepareOptions

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
MIN_USER, MIN_ITEM = 2, 2
SHARDS = 3

BAD_LINES = {
    ",i1,,5": "user is missing",
    "u1, ,,5": "item is missing",
    "u1,i1,,": "time is missing",
    "u1,i1,,soon": "time is not a number",
    "u1,i1,5": "wrong number of fields",
    'u1,i1,"open,5': "quote not closed in its line",
    "u1,i\t1,,5": "control character in item",
    "u1,i1,,1e40": "time is out of range",
}


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


def tie(user, item):
    return mix(string_hash(user) * GOLDEN + string_hash(item) & MASK)


def expected_output(good):
    """The users of each shard with items and times, the vocabulary, the counts."""
    distinct = set(good)
    kept = distinct
    while True:
        users = Counter(user for user, _, _ in kept)
        items = Counter(item for _, item, _ in kept)
        fewer = {
            (u, i, t)
            for u, i, t in kept
            if users[u] >= MIN_USER and items[i] >= MIN_ITEM
        }
        if fewer == kept:
            break
        kept = fewer
    vocabulary = sorted(items, key=lambda item: (-items[item], item.encode()))
    shards = [[] for _ in range(SHARDS)]
    for user in sorted(users, key=str.encode):
        events = sorted(
            ((t, tie(user, item), item) for u, item, t in kept if u == user),
        )
        partition = (string_hash(user) >> 32) * SHARDS >> 32
        shards[partition].append(
            (user, [item for _, _, item in events], [t for t, _, _ in events])
        )
    counts = {
        "duplicates": len(good) - len(distinct),
        "below_min_interactions": len(distinct) - len(kept),
        "kept": len(kept),
    }
    return shards, vocabulary, counts


good_row = st.tuples(
    st.sampled_from(
        ["u1", "u2", "u3", "\u00fc 4", "a user with a long id", 'q"5', "6,7"]
    ),
    st.sampled_from(["i1", "i2", "i3", "i4", "\u00ef", "i,6", "item/" + "x" * 20]),
    st.integers(-2, 4),
)
bad_row = st.sampled_from(sorted(BAD_LINES))
rows_of_a_log = st.lists(st.one_of(good_row, good_row, good_row, bad_row), max_size=60)


def quoted(text):
    return '"' + text.replace('"', '""') + '"' if set(text) & {",", '"'} else text


def as_line(row):
    if isinstance(row, str):
        return row
    user, item, time = row
    return f"{quoted(user)},{quoted(item)},note,{time}"


def prepare(directory, rows, rng, *, ending, block_bytes, spill):
    """Spreads rows over files at random and runs the job on them.

    Returns:
        The metadata and all files, or the message where nothing was left.
    """
    files = [[] for _ in range(rng.choice([1, 2, 3]))]
    for row in rows:
        rng.choice(files).append(row)
    for number, part in enumerate(files):
        text = ending.join(["user,item,note,time", *map(as_line, part)])
        if rng.random() < 0.5:
            text += ending * rng.choice([1, 3])
        data = b"\xef\xbb\xbf" * rng.choice([0, 1]) + text.encode()
        if rng.random() < 0.3:
            (directory / f"{number}.csv.gz").write_bytes(gzip.compress(data))
        else:
            (directory / f"{number}.csv").write_bytes(data)
    options = PrepareOptions.checked(
        input=[str(directory / "*.csv*")],
        output=str(directory / "out"),
        user_column="user",
        item_column="item",
        time_column="time",
        delimiter=",",
        header=True,
        time_format="us",
        min_user_interactions=MIN_USER,
        min_item_interactions=MIN_ITEM,
        split="leave-one-out",
        validation_start=None,
        test_start=None,
        num_shards=SHARDS,
        beam_options=None,
    )
    run_job(options, block_bytes=block_bytes, spill=spill)
    return directory / "out"


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    rows_of_a_log, st.randoms(use_true_random=False), st.sampled_from([7, 50, 1 << 20])
)
def test_any_log_in_any_order_and_cut(read_prepared, rows, rng, block_bytes):
    good = [row for row in rows if not isinstance(row, str)]
    reasons = Counter(BAD_LINES[row] for row in rows if isinstance(row, str))
    shards, vocabulary, counts = expected_output(good)
    with (
        tempfile.TemporaryDirectory() as first,
        tempfile.TemporaryDirectory() as second,
    ):
        if not counts["kept"]:
            with contextlib.suppress(Exception):
                prepare(Path(first), rows, rng, ending="\n", block_bytes=50, spill=True)
            assert not (Path(first) / "out").exists()
            return
        out = prepare(
            Path(first), rows, rng, ending="\n", block_bytes=1 << 20, spill=True
        )
        prepared = read_prepared(out)
        check(prepared, shards, vocabulary, counts, reasons)

        # The same rows otherwise: other files, order, line ends, blocks, and way.
        shuffled = random.Random(rng.random()).sample(rows, len(rows))
        again = read_prepared(
            prepare(
                Path(second),
                shuffled,
                rng,
                ending="\r\n",
                block_bytes=block_bytes,
                spill=False,
            )
        )
        assert again.metadata["fingerprint"] == prepared.metadata["fingerprint"]
        assert again.metadata["counts"] == prepared.metadata["counts"]
        for name, data in prepared.files.items():
            if name.startswith("sequences") or name == "vocabulary.txt":
                assert again.files[name] == data


def check(prepared, shards, vocabulary, counts, reasons):
    metadata = prepared.metadata
    assert prepared.vocabulary == vocabulary
    assert prepared.shards == [[user for user, _, _ in shard] for shard in shards]
    lengths = []
    for shard in shards:
        for user, items, times in shard:
            found = prepared.users[user]
            assert found.items == items
            assert found.times == times
            n = len(items)
            lengths.append(n)
            ends = (n - 2, n - 1) if n >= 3 else (n, n)
            assert (found.train_end, found.validation_end) == ends
    rejected = sum(reasons.values())
    rows_read = rejected + sum(counts.values())
    assert metadata["counts"] == {
        "rows_read": rows_read,
        "rejected": rejected,
        **counts,
    }
    assert metadata["rejected_by_reason"] == dict(sorted(reasons.items()))
    assert Counter(row["reason"] for row in prepared.rejected) == reasons
    assert all(BAD_LINES[row["row"]] == row["reason"] for row in prepared.rejected)
    assert metadata["num_users"] == len(lengths)
    assert metadata["num_items"] == metadata["vocabulary"]["size"] == len(vocabulary)
    assert metadata["num_interactions"] == sum(lengths)
    assert metadata["num_train_instances"] == sum(
        (n - 2 if n >= 3 else n) - 1 for n in lengths
    )
    with_targets = sum(n >= 3 for n in lengths)
    assert metadata["num_validation_instances"] == with_targets
    assert metadata["num_test_instances"] == with_targets
    assert metadata["num_users_without_targets"] == len(lengths) - with_targets
    assert metadata["sequence_length"] == {
        "min": min(lengths),
        "mean": sum(lengths) / len(lengths),
        "max": max(lengths),
    }
    for entry in [metadata["vocabulary"], *metadata["shards"]]:
        data = prepared.files[entry["file"]]
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()
    parts = ["schema 1", metadata["vocabulary"]["sha256"]]
    parts += [shard["sha256"] for shard in metadata["shards"]]
    assert (
        metadata["fingerprint"] == hashlib.sha256("\n".join(parts).encode()).hexdigest()
    )
    marker = prepared.files["_SUCCESS"].decode()
    assert marker.strip() == hashlib.sha256(prepared.files["metadata.json"]).hexdigest()
    assert json.loads(prepared.files["metadata.json"]) == metadata


def test_equal_hashes_are_told_apart_by_the_item_id(monkeypatch):
    # With a hash that makes everything collide, the exact ids decide alone.
    import numpy as np
    import pyarrow as pa

    from adaptiverec.pipeline import hashing, sequences

    monkeypatch.setattr(
        hashing, "hash_strings", lambda strings: np.zeros(len(strings), np.uint64)
    )
    rows = [("u", item, 5) for item in "dbacb"] + [("v", "b", 5), ("u", "z", 1)]
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        batches = [
            pa.RecordBatch.from_pylist(
                [dict(zip(("user", "item", "time"), row, strict=True)) for row in part]
            )
            for part in (rows[:3], rows[3:])
        ]
        formed, duplicates = sequences.form_sequences(batches)
        assert duplicates == 1
        assert formed.user_ids.to_pylist() == ["u", "v"]
        items = [formed.item_ids[code].as_py() for code in formed.items]
        assert items == ["z", "a", "b", "c", "d", "b"]
        assert formed.offsets.tolist() == [0, 5, 6]
