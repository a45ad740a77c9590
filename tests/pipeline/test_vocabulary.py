"""Vocabularies that grow: parsing, growing, looking up, and ``base_vocabulary``."""

import hashlib
import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptiverec.common import errors
from adaptiverec.pipeline import hashing, prepare
from adaptiverec.pipeline.item_counts import CountItems, ItemCounts
from adaptiverec.pipeline.item_table import ItemTable
from adaptiverec.pipeline.vocabulary import grow, parse_vocabulary, vocabulary_lines

# What an id may hold: anything but control characters and line separators.
ids = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=12
)


@given(st.lists(ids, min_size=1, unique=True, max_size=30))
def test_lines_come_back(item_ids):
    text = b"".join(vocabulary_lines(pa.array(item_ids, pa.string())))
    assert text.decode() == "".join(item_id + "\n" for item_id in item_ids)
    assert parse_vocabulary(text, where="here").to_pylist() == item_ids


def test_no_items_are_no_lines():
    assert list(vocabulary_lines(pa.array([], pa.string()))) == []


@pytest.mark.parametrize(
    ("data", "received"),
    [
        (b"", "nothing in here"),
        (b"a\nb", "'b' without a line break in here"),
        (b"a\r\nb\r\n", "'a\\r' on line 1 in here"),
        (b"a\n\nb\n", "'' on line 2 in here"),
        (b"\n", "'' on line 1 in here"),
        (b"b\na\nb\n", "'b' more than once in here"),
        (b"a\nb\xff\n", "bytes that are not UTF-8 at offset 3 in here"),
        ("a\nb\u2028c\n".encode(), "'b\\u2028c' on line 2 in here"),
        (b"a\tb\n", "'a\\tb' on line 1 in here"),
    ],
)
def test_what_is_no_vocabulary(data, received):
    with pytest.raises(errors.ContractError, match="one item id a line") as caught:
        parse_vocabulary(data, where="here")
    assert str(caught.value).endswith(f"Received: {received}")


@given(
    st.lists(st.sampled_from("abcdefgh\u00e9"), unique=True),
    st.dictionaries(st.sampled_from("abcdefgh\u00e9"), st.integers(0, 3)),
)
def test_new_items_come_behind_the_base(base, counts):
    listed = sorted(counts, key=str.encode)
    vocabulary = grow(
        pa.array(base, pa.string()),
        pa.array(listed, pa.string()),
        np.array([counts[item] for item in listed], np.int64),
    )
    new = [item for item in listed if counts[item] and item not in base]
    new.sort(key=lambda item: (-counts[item], item.encode()))
    assert vocabulary.item_ids.to_pylist() == base + new
    dense = {item: n for n, item in enumerate(base + new, 1)}
    expected = [dense[item] if counts[item] else 0 for item in listed]
    assert vocabulary.dense_ids.tolist() == expected
    assert (vocabulary.carried, vocabulary.new) == (len(base), len(new))
    assert vocabulary.absent == sum(not counts.get(item) for item in base)


@given(
    st.lists(ids, unique=True, max_size=30),
    st.integers(0, 30),
    st.sampled_from([64, 2, 0]),
    st.randoms(use_true_random=False),
)
def test_positions_are_those_of_the_ids(item_ids, num_listed, bits, rng):
    # With few bits of the hash, most items share theirs with another.
    hash_strings = hashing.hash_strings
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            hashing,
            "hash_strings",
            lambda strings: (
                hash_strings(strings)
                & np.uint64(2**bits - 1 if bits < 64 else 2**64 - 1)
            ),
        )
        listed = np.full(len(item_ids), -1, np.int32)
        for position, n in enumerate(rng.sample(range(len(item_ids)), len(item_ids))):
            if position < num_listed:
                listed[n] = position
        table = ItemTable.of(pa.array(item_ids, pa.string()), listed)
        wanted = rng.sample(range(len(item_ids)), len(item_ids) // 2)
        found = table.positions_of(pa.array([item_ids[n] for n in wanted], pa.string()))
        assert found.tolist() == listed[wanted].tolist()


@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=9), max_size=25))
def test_counts_add_up(parts):
    combine = CountItems(2)
    accumulators = [combine.create_accumulator() for _ in range(3)]
    for n, part in enumerate(parts):
        counter = Counter(part)
        element = ItemCounts(
            pa.array(list(counter), pa.string()), np.array(list(counter.values()), int)
        )
        accumulators[n % 3] = combine.add_input(accumulators[n % 3], element)
    counted = combine.extract_output(combine.merge_accumulators(accumulators))
    total = Counter(item for part in parts for item in part)
    expected = {item: total[item] for item in sorted(total) if total[item] >= 2}
    assert counted.item_ids.to_pylist() == list(expected)
    assert counted.counts.tolist() == list(expected.values())
    assert counted.table.positions_of(counted.item_ids).tolist() == list(
        range(len(expected))
    )


@pytest.fixture
def run(tmp_path, log):
    """Prepares rows ``user item time``, all kept."""

    def run_prepare(rows, name, **options):
        lines = "".join(",".join(row.split()) + "\n" for row in rows)
        prepare(
            **{
                "input": [log("user,item,time\n" + lines)],
                "output": str(tmp_path / name),
                "user_column": "user",
                "item_column": "item",
                "time_column": "time",
                "min_user_interactions": 1,
                "min_item_interactions": 1,
                "report": False,
                **options,
            }
        )
        return tmp_path / name

    return run_prepare


OLD = ["u b 1", "u c 2", "v b 3", "v a 4"]
NEW = ["u z 5", "u a 6", "v z 7", "v y 8", "w b 9"]


def test_a_base_keeps_its_ids(run, read_prepared):
    old = run(OLD, "old")
    assert (old / "vocabulary.txt").read_text() == "b\na\nc\n"
    new = read_prepared(run(NEW, "new", base_vocabulary=str(old)))
    # c is not there any more but keeps its place; z is more frequent than y.
    assert new.vocabulary == ["b", "a", "c", "z", "y"]
    assert new.users["u"].items == ["z", "a"]
    text = (old / "vocabulary.txt").read_bytes()
    assert new.metadata["vocabulary"]["base"] == {
        "source": str(old),
        "sha256": hashlib.sha256(text).hexdigest(),
        "carried": 3,
        "new": 2,
        "absent": 1,
    }
    assert new.metadata["num_items"] == 5
    popularity = new.files["popularity.tsv"].decode().splitlines()
    assert [line.split("\t")[:2] for line in popularity[1:]] == [
        ["b", "1"],
        ["a", "1"],
        ["c", "0"],
        ["z", "2"],
        ["y", "1"],
    ]


def test_a_file_is_as_good_as_its_directory(run):
    old = run(OLD, "old")
    fingerprints = {
        json.loads((path / "metadata.json").read_text())["fingerprint"]
        for path in (
            run(NEW, "from directory", base_vocabulary=str(old)),
            run(NEW, "from file", base_vocabulary=str(old / "vocabulary.txt")),
        )
    }
    assert len(fingerprints) == 1


def test_an_item_of_the_base_may_be_too_rare(run, read_prepared):
    old = run(OLD, "old")
    rows = ["u b 1", "u z 2", "v z 3", "v y 4", "u y 5"]
    new = read_prepared(
        run(rows, "new", base_vocabulary=str(old), min_item_interactions=2)
    )
    assert new.vocabulary == ["b", "a", "c", "y", "z"]
    assert new.users["u"].items == ["z", "y"]
    assert new.metadata["vocabulary"]["base"]["absent"] == 3


def test_a_base_that_is_not_whole(run, tmp_path):
    old = run(OLD, "old")
    (old / "_SUCCESS").unlink()
    with pytest.raises(errors.ContractError, match="which has no _SUCCESS"):
        run(NEW, "new", base_vocabulary=str(old))
    assert not (tmp_path / "new").exists()


def test_a_base_that_was_altered(run):
    old = run(OLD, "old")
    with (old / "vocabulary.txt").open("a") as file:
        file.write("more\n")
    with pytest.raises(errors.ContractError, match="another one in"):
        run(NEW, "new", base_vocabulary=str(old))


def test_a_base_that_is_not_there(run, tmp_path):
    missing = str(tmp_path / "nowhere")
    with pytest.raises(errors.NotFoundError, match="Received: '.*nowhere'"):
        run(NEW, "new", base_vocabulary=missing)


def test_a_base_that_is_no_vocabulary(run, tmp_path, log):
    path = log("a\n\nb\n", "mine.txt")
    with pytest.raises(errors.ContractError, match="'' on line 2 in .*mine.txt"):
        run(NEW, "new", base_vocabulary=path)


def test_ids_that_are_written_otherwise_are_mentioned(run, capsys):
    old = run(OLD, "old", lowercase_ids=True)
    capsys.readouterr()
    run(NEW, "new", base_vocabulary=str(old))
    assert (
        "was made with other `trim_ids` or `lowercase_ids`" in capsys.readouterr().err
    )
    run(NEW, "same", base_vocabulary=str(old), lowercase_ids=True)
    assert "other `trim_ids`" not in capsys.readouterr().err
