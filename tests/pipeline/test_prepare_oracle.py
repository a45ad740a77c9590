"""The whole job against a plain implementation: dicts, loops and ``sorted``."""

import contextlib
import gzip
import hashlib
import inspect
import itertools
import json
import random
import struct
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptiverec.common.errors import StageError
from adaptiverec.pipeline import prepare as prepare_function
from adaptiverec.pipeline.driver import run_job
from adaptiverec.pipeline.options import PrepareOptions

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15

BAD_LINES = {
    ",i1,,5,1,1,view": "user is missing",
    "u1, ,,5,1,1,view": "item is missing",
    "u1,i1,,,1,1,view": "time is missing",
    "u1,i1,,soon,1,1,view": "time is not a number",
    "u1,i1,5": "wrong number of fields",
    'u1,i1,"open,5,1,1,view': "quote not closed in its line",
    "u1,i\t1,,5,1,1,view": "control character in item",
    "u1,i1,,1e40,1,1,view": "time is out of range",
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


def tie(row):
    return mix(string_hash(row["user"]) * GOLDEN + string_hash(row["item"]) & MASK)


def place(row):
    """What orders the rows of a user: never how they came."""
    content = (
        row.get("stars", 0.0),
        row.get("kind", "").encode(),
        row.get("note", "").encode(),
    )
    return row["time"], row.get("seq", 0), tie(row), row["item"].encode(), content


def without_repeats(rows, rule):
    if rule == "collapse":
        return [
            next(run) for _, run in itertools.groupby(rows, lambda row: row["item"])
        ]
    if rule == "first":
        rows = rows[::-1]
    if rule in ("first", "last"):
        rows = list({row["item"]: row for row in rows}.values())
    return sorted(rows, key=place)


def core(rows, min_user, min_item):
    """Passes over all rows until nothing changes."""
    while True:
        users = Counter(row["user"] for row in rows)
        items = Counter(row["item"] for row in rows)
        kept = [
            row
            for row in rows
            if users[row["user"]] >= min_user and items[row["item"]] >= min_item
        ]
        if len(kept) == len(rows):
            return rows
        rows = kept


def expected_output(rows, options):
    """The users in their order with their rows, the vocabulary, the counts."""
    counts = {"rows_read": len(rows)}
    rows = [row for row in rows if not isinstance(row, str)]
    counts["rejected"] = counts["rows_read"] - len(rows)
    names = ["user", "item", "time"]
    columns = ("order_column", "rating_column", "event_column")
    names += [options[name] for name in columns if options[name] is not None]
    names += options["passthrough_columns"]
    rows = [{name: row[name] for name in names} for row in rows]

    def counting(rule, before, after):
        counts[rule] = counts.get(rule, 0) + len(before) - len(after)
        return after

    if options["min_rating"] is not None:
        good = [row for row in rows if row["stars"] >= options["min_rating"]]
        rows = counting("filtered", rows, good)
    if options["event_types"]:
        good = [row for row in rows if row["kind"] in options["event_types"]]
        rows = counting("filtered", rows, good)
    counts.setdefault("filtered", 0)
    distinct = list({tuple(row.items()): row for row in rows}.values())
    rows = counting("duplicates", rows, distinct)
    counts |= {"repeats": 0, "over_max_user_interactions": 0}
    users = {}
    for row in sorted(rows, key=place):
        users.setdefault(row["user"], []).append(row)
    for user, mine in users.items():
        mine = counting("repeats", mine, without_repeats(mine, options["repeats"]))
        newest = mine[-(options["max_user_interactions"] or len(mine)) :]
        users[user] = counting("over_max_user_interactions", mine, newest)
    rows = [row for mine in users.values() for row in mine]
    kept = core(
        rows, options["min_user_interactions"], options["min_item_interactions"]
    )
    counting("below_min_interactions", rows, kept)
    counts["kept"] = len(kept)
    users = {}
    for row in kept:
        users.setdefault(row["user"], []).append(row)
    order = sorted(users, key=lambda user: (string_hash(user), user.encode()))
    return {user: users[user] for user in order}, counts


def vocabulary_of(users, base):
    items = Counter(row["item"] for rows in users.values() for row in rows)
    new = sorted(set(items) - set(base), key=lambda item: (-items[item], item.encode()))
    return base + new


good_row = st.fixed_dictionaries(
    {
        "user": st.sampled_from(
            ["u1", "u2", "u3", "\u00fc 4", "a user with a long id", 'q"5', "6,7"]
        ),
        "item": st.sampled_from(
            ["i1", "i2", "i3", "i4", "\u00ef", "i,6", "item/" + "x" * 20]
        ),
        "time": st.integers(-2, 4),
        "seq": st.integers(-1, 1),
        "stars": st.sampled_from([0.5, 1.0, 4.25]),
        "kind": st.sampled_from(["view", "buy", ""]),
        "note": st.sampled_from(["", "a note", "one, two", "\u00e9" * 70]),
    }
)
bad_row = st.sampled_from(sorted(BAD_LINES))
rows_of_a_log = st.lists(st.one_of(good_row, good_row, good_row, bad_row), max_size=60)
choices = st.fixed_dictionaries(
    {
        "order_column": st.sampled_from([None, "seq"]),
        "rating_column": st.just("stars"),
        "event_column": st.sampled_from([None, "kind"]),
        "passthrough_columns": st.sampled_from([[], ["note"]]),
        "min_rating": st.sampled_from([None, 1.0]),
        "event_types": st.just([]),
        "repeats": st.sampled_from(["keep", "collapse", "first", "last"]),
        "max_user_interactions": st.sampled_from([None, 4]),
        "min_user_interactions": st.integers(1, 3),
        "min_item_interactions": st.integers(1, 3),
        "num_shards": st.sampled_from([None, 1, 3, 4]),
    }
)
# Three columns and nothing else, as most logs have.
plain_choices = choices.map(
    lambda options: {
        **options,
        "order_column": None,
        "rating_column": None,
        "event_column": None,
        "passthrough_columns": [],
        "min_rating": None,
    }
)
bases = st.lists(st.sampled_from(["i2", "gone", "\u00ef", "i,6"]), unique=True)


def quoted(text):
    return '"' + text.replace('"', '""') + '"' if set(text) & {",", '"'} else text


HEADER = ["user", "item", "note", "time", "seq", "stars", "kind"]


def as_line(row):
    if isinstance(row, str):
        return row
    return ",".join(quoted(str(row[name])) for name in HEADER)


def prepare(directory, rows, rng, options, *, ending, block_bytes, spill):
    """Spreads rows over files at random and runs the job on them; gives its output."""
    files = [[] for _ in range(rng.choice([1, 2, 3]))]
    for row in rows:
        rng.choice(files).append(row)
    for number, part in enumerate(files):
        text = ending.join([",".join(HEADER), *map(as_line, part)])
        if rng.random() < 0.5:
            text += ending * rng.choice([1, 3])
        data = b"\xef\xbb\xbf" * rng.choice([0, 1]) + text.encode()
        if rng.random() < 0.3:
            (directory / f"{number}.csv.gz").write_bytes(gzip.compress(data))
        else:
            (directory / f"{number}.csv").write_bytes(data)
    parameters = inspect.signature(prepare_function).parameters
    checked = PrepareOptions.checked(
        **{
            **{name: parameter.default for name, parameter in parameters.items()},
            "input": [str(directory / "*.csv*")],
            "output": str(directory / "out"),
            "user_column": "user",
            "item_column": "item",
            "time_column": "time",
            "time_format": "us",
            "max_rejected_fraction": 1.0,
            "report": False,
            **options,
        }
    )
    run_job(checked, block_bytes=block_bytes, spill=spill)
    return directory / "out"


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    rows_of_a_log,
    st.one_of(plain_choices, choices),
    bases,
    st.randoms(use_true_random=False),
    st.sampled_from([7, 50, 1 << 20]),
)
def test_any_log_in_any_order_and_cut(
    read_prepared, rows, options, base, rng, block_bytes
):
    if options["event_column"]:
        options["event_types"] = ["view", "none"]
    if rows:
        rows = rows + rng.choices(rows, k=len(rows) // 4)
    users, counts = expected_output(rows, options)
    vocabulary = vocabulary_of(users, base)
    with contextlib.ExitStack() as stack:
        first, second = (
            Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)
        )
        if base:
            path = first / "base.txt"
            path.write_text("".join(item + "\n" for item in base), encoding="utf-8")
            options["base_vocabulary"] = str(path)
        if not counts["kept"]:
            with contextlib.suppress(StageError):
                prepare(
                    first, rows, rng, options, ending="\n", block_bytes=50, spill=True
                )
            assert not (first / "out").exists()
            return
        out = prepare(
            first, rows, rng, options, ending="\n", block_bytes=1 << 20, spill=True
        )
        prepared = read_prepared(out)
        check_sequences(prepared, users, options)
        check_items(prepared, users, vocabulary, base)
        check_metadata(prepared, users, counts, rows)

        # The same rows otherwise: other files, order, line ends, blocks, and way.
        shuffled = random.Random(rng.random()).sample(rows, len(rows))
        again = read_prepared(
            prepare(
                second,
                shuffled,
                rng,
                options,
                ending="\r\n",
                block_bytes=block_bytes,
                spill=False,
            )
        )
        assert again.metadata["fingerprint"] == prepared.metadata["fingerprint"]
        assert again.metadata["counts"] == prepared.metadata["counts"]
        for name, data in prepared.files.items():
            if name.startswith(("sequences", "vocabulary", "popularity")):
                assert again.files[name] == data


def check_sequences(prepared, users, options):
    num_shards = options["num_shards"] or 1
    shards = [[] for _ in range(num_shards)]
    for user in users:
        shards[(string_hash(user) >> 32) * num_shards >> 32].append(user)
    assert prepared.shards == shards
    for user, rows in users.items():
        found = prepared.users[user]
        assert found.items == [row["item"] for row in rows]
        assert found.times == [row["time"] for row in rows]
        n = len(rows)
        ends = (n - 2, n - 1) if n >= 3 else (n, n)
        assert (found.train_end, found.validation_end) == ends
        kept = {}
        if options["rating_column"]:
            # A feature has single precision.
            stars = [row["stars"] for row in rows]
            packed = struct.pack(f"{n}f", *stars)
            kept["ratings"] = list(struct.unpack(f"{n}f", packed))
        if options["event_column"]:
            kept["event_types"] = [row["kind"] for row in rows]
        for name in options["passthrough_columns"]:
            kept[f"extra/{name}"] = [row[name] for row in rows]
        assert found.kept == kept


def check_items(prepared, users, vocabulary, base):
    assert prepared.vocabulary == vocabulary
    interactions, in_training = Counter(), Counter()
    for rows in users.values():
        items = [row["item"] for row in rows]
        interactions.update(items)
        in_training.update(items[:-2] if len(items) >= 3 else items)
    lines = ["item_id\tinteractions\ttrain_interactions"]
    lines += [f"{i}\t{interactions[i]}\t{in_training[i]}" for i in vocabulary]
    table = prepared.files["popularity.tsv"].decode()
    assert table == "".join(line + "\n" for line in lines)
    described = prepared.metadata["vocabulary"]
    assert prepared.metadata["num_items"] == described["size"] == len(vocabulary)
    if base:
        text = "".join(item + "\n" for item in base).encode()
        assert described["base"]["sha256"] == hashlib.sha256(text).hexdigest()
        assert described["base"]["carried"] == len(base)
        assert described["base"]["new"] == len(vocabulary) - len(base)
        absent = sum(not interactions[item] for item in base)
        assert described["base"]["absent"] == absent
    else:
        assert "base" not in described


def check_metadata(prepared, users, counts, rows):
    metadata = prepared.metadata
    assert metadata["counts"] == counts
    reasons = Counter(BAD_LINES[row] for row in rows if isinstance(row, str))
    assert metadata["rejected_by_reason"] == dict(sorted(reasons.items()))
    assert sum(metadata["filtered_by_rule"].values()) == counts["filtered"]
    assert Counter(row["reason"] for row in prepared.rejected) == reasons
    assert all(BAD_LINES[row["row"]] == row["reason"] for row in prepared.rejected)
    lengths = [len(rows) for rows in users.values()]
    assert metadata["num_users"] == len(lengths)
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
    for entry in [
        metadata["vocabulary"],
        metadata["popularity"],
        *metadata["shards"],
    ]:
        data = prepared.files[entry["file"]]
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()
    parts = ["schema 2", metadata["vocabulary"]["sha256"]]
    parts += [shard["content_sha256"] for shard in metadata["shards"]]
    assert (
        metadata["fingerprint"] == hashlib.sha256("\n".join(parts).encode()).hexdigest()
    )
    marker = prepared.files["_SUCCESS"].decode()
    assert marker.strip() == hashlib.sha256(prepared.files["metadata.json"]).hexdigest()
    assert json.loads(prepared.files["metadata.json"]) == metadata
