"""The benchmarks' own claims: rivals do the same work, and what is measured is right."""

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch):
    # They are scripts, which find each other beside themselves.
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture(scope="module")
def rows():
    """Rows with duplicates, equal times, rare users, and chains to peel."""
    rng = random.Random(5)
    users = [f"user {n}" for n in range(60)] + ["\u00fc", "a user with a long id"]
    items = [f"i{n}" for n in range(40)] + ["\u00ef", "item/" + "x" * 20]
    rows = [
        (rng.choice(users), rng.choice(items), rng.randrange(-20, 60))
        for _ in range(1500)
    ]
    rows += rng.sample(rows, 50)
    # Rare ones, and a chain of five links that goes after them.
    rows += [(f"rare {n}", items[n], n) for n in range(20)]
    for link in range(5):
        for time in range(5):
            item = link if time < 3 else link + 1
            rows.append((f"chain {link}", f"chain {item}", 1_000_000_000 + time))
    rng.shuffle(rows)
    return rows


def write(path, rows):
    lines = [f"{user},{item},{time}\n" for user, item, time in rows]
    path.write_text("user,item,time\n" + "".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def prepared(rows, tmp_path_factory):
    from adaptiverec.pipeline import prepare

    directory = tmp_path_factory.mktemp("benchmark")
    log = write(directory / "log.csv", rows)
    metadata = prepare(
        input=[str(log)],
        output=str(directory / "out"),
        user_column="user",
        item_column="item",
        time_column="time",
    )
    assert metadata["counts"]["duplicates"] >= 50
    assert metadata["counts"]["below_min_interactions"] >= 45
    return directory / "out"


def run_rival(name, log, output):
    command = [sys.executable, BENCHMARKS / "rivals" / f"{name}.py", log, output]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


@pytest.mark.parametrize(
    "name",
    [
        "polars_prepare",
        pytest.param("polars_usual", marks=pytest.mark.slow),
        pytest.param("pandas_prepare", marks=pytest.mark.slow),
    ],
)
def test_rivals_give_the_same_output(name, rows, prepared, tmp_path):
    from compare_outputs import compare

    log = write(tmp_path / "log.csv", rows)
    output = run_rival(name, log, tmp_path / "out")
    assert compare(prepared, output) == "equal byte for byte"


@pytest.mark.parametrize("largest", [9, 2**32 - 1])
def test_the_tuned_rival_sorts_keys_of_any_width(largest, monkeypatch):
    import numpy as np

    monkeypatch.syspath_prepend(str(BENCHMARKS / "rivals"))
    from polars_prepare import Rows, sort_distinct

    rng = np.random.default_rng(2)
    codes = np.array([0, 1, 2, largest - 1, largest], np.uint32)
    times = np.array([-(10**12), -1, 0, 7, 10**12])
    rows = Rows(*(rng.choice(column, 300) for column in (codes, codes, times)))
    found = sort_distinct(rows)
    expected = sorted(
        {(u, t, i) for u, i, t in zip(*(c.tolist() for c in rows), strict=True)}
    )
    assert [*zip(found.users, found.times, found.items, strict=True)] == expected


def altered(rows, change):
    """The rows with one that is kept changed."""
    position = next(n for n, row in enumerate(rows) if row[0].startswith("user"))
    return [*rows[:position], *change(rows[position]), *rows[position + 1 :]]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda row: [(*row[:2], row[2] + 1000)], "differ"),
        (lambda row: [], "differ"),
        (lambda row: [row, *[("new", f"i{n}", n) for n in range(5)]], "differ"),
    ],
)
def test_outputs_that_differ_are_told_apart(change, what, rows, prepared, tmp_path):
    from compare_outputs import DifferenceError, compare

    log = write(tmp_path / "log.csv", altered(rows, change))
    output = run_rival("polars_prepare", log, tmp_path / "out")
    with pytest.raises(DifferenceError, match=what):
        compare(prepared, output)


def test_only_the_order_of_users_may_differ(rows, prepared, tmp_path):
    import tensorflow as tf
    from compare_outputs import DifferenceError, compare

    def rewrite(name, records):
        output = tmp_path / name
        output.mkdir()
        for table in ("vocabulary.txt", "popularity.tsv"):
            shutil.copy(prepared / table, output)
        with tf.io.TFRecordWriter(
            str(output / "sequences-00000-of-00001.tfrecord")
        ) as writer:
            for record in records:
                writer.write(record)
        return output

    (shard,) = prepared.glob("sequences-*")
    records = [*tf.data.TFRecordDataset(str(shard)).as_numpy_iterator()]
    assert compare(prepared, rewrite("reversed", records[::-1])) == "equal content"
    for feature in ("split", "timestamps", "item_ids"):
        example = tf.train.Example.FromString(records[0])
        example.features.feature[feature].int64_list.value[0] += 1
        changed = rewrite(feature, [example.SerializeToString(), *records[1:]])
        with pytest.raises(DifferenceError, match="of user"):
            compare(prepared, changed)
    with pytest.raises(DifferenceError, match="two records"):
        compare(prepared, rewrite("twice", [*records, records[0]]))


def peel(users, items):
    """Rounds and rest, in plain Python."""
    edges, rounds = list(zip(users.tolist(), items.tolist(), strict=True)), 0
    while True:
        before = len(edges)
        for side in (1, 0):
            nodes = [edge[side] for edge in edges]
            edges = [edge for edge in edges if nodes.count(edge[side]) >= 5]
        if len(edges) == before:
            return rounds, before
        rounds += 1


def test_a_chain_loses_two_links_a_round_and_pairs_go_at_once():
    from make_log import chain_edges, count_rounds, pair_edges

    # By hand: each round takes the first and the last of the twelve links.
    assert count_rounds(*chain_edges(1, 12)) == peel(*chain_edges(1, 12)) == (6, 0)
    assert count_rounds(*chain_edges(3, 12)) == (6, 0)
    assert count_rounds(*pair_edges(6)) == peel(*pair_edges(6)) == (1, 0)
    # As many rows and users.
    chain, pairs = chain_edges(1, 12), pair_edges(6)
    assert len(chain[0]) == len(pairs[0]) == 60
    assert set(chain[0].tolist()) == set(pairs[0].tolist()) == set(range(12))


def test_sparse_logs_keep_the_same_rows(tmp_path):
    from make_log import count_rounds, sparse_rows

    chains, pairs = (
        sparse_rows(kind, rows=4000, users=40, items=20, links=20)
        for kind in ("chains", "pairs")
    )
    rounds, left = count_rounds(chains.users, chains.items)
    assert (rounds, left) == (10, 2000)
    assert count_rounds(pairs.users, pairs.items) == (1, 2000)


def test_half_of_a_hot_log_is_of_one_user():
    from make_log import even_rows

    (rows,) = even_rows(1000, 100, 50, hot=True)
    assert (rows.users == 0).sum() in range(500, 530)


def test_peak_memory_is_that_of_all_processes_together():
    from measure import measure

    child = "import time; held = b'x' * (100 << 20); time.sleep(1)"
    parent = (
        "import json, subprocess, sys; held = b'x' * (100 << 20);"
        f"subprocess.run([sys.executable, '-c', {child!r}], check=True);"
        "print('more'); print(json.dumps({'seconds': 0.5}))"
    )
    found = measure([sys.executable, "-c", parent])
    assert 200 < found.peak_gib * 1024 < 300
    assert found.wall_seconds > 1
    assert found.seconds == 0.5


def test_a_run_that_fails_is_no_measurement():
    from measure import measure

    with pytest.raises(SystemExit, match="no such luck"):
        measure([sys.executable, "-c", "raise ValueError('no such luck')"])


def weights_in_pairs(ours, plain):
    """Of the model, and of the one with Keras' own layers, whose heads are apart."""
    layers = [
        (ours.encoder.item_embedding, plain.encoder.item_embedding),
        (ours.encoder.position_embedding, plain.encoder.position_embedding),
        (ours.encoder.norm, plain.encoder.norm),
    ]
    for one, other in zip(ours.encoder.blocks, plain.encoder.blocks, strict=True):
        layers += [
            (one.attention.query, other.attention.query_dense),
            (one.attention.key, other.attention.key_dense),
            (one.attention.value, other.attention.value_dense),
            (one.attention.projection, other.attention.output_dense),
            (one.attention_norm, other.attention_norm),
            (one.inner, other.inner),
            (one.outer, other.outer),
            (one.inner_norm, other.inner_norm),
        ]
    if ours.objective == "adaptive":
        layers.append((ours.contrast.threshold, plain.contrast.threshold))
    return [
        pair
        for one, other in layers
        for pair in zip(one.trainable_weights, other.trainable_weights, strict=True)
    ]


@pytest.mark.parametrize("objective", ["adaptive", "info_nce", "none"])
def test_a_step_with_keras_own_layers_is_the_same_step(objective):
    """Packed batches, closed forms and the shortened last block beside none of them."""
    import numpy as np
    import tensorflow as tf
    from rivals.keras_layers import KerasLayersModel

    from adaptiverec.model.adaptive_rec import AdaptiveRec

    generator = np.random.default_rng(6)
    options = {
        "num_items": 20,
        "max_length": 7,
        "hidden_dim": 8,
        "inner_dim": 16,
        "dropout": 0.0,
        "objective": objective,
    }
    ours, plain = AdaptiveRec(**options), KerasLayersModel(**options)
    pairs = weights_in_pairs(ours, plain)
    assert len(pairs) == len(ours.trainable_weights) == len(plain.trainable_weights)
    for weight, other in pairs:
        weight.assign(generator.normal(size=weight.shape) / 2)
        other.assign(tf.reshape(weight, other.shape))
    lengths = generator.integers(1, 8, (2, 12, 1))
    ids = generator.integers(1, 21, (2, 12, 7))
    ids = np.where(np.arange(7) < lengths, ids, 0)
    inputs = {"item_ids": ids[0], "same_target_item_ids": ids[1]}
    targets = generator.integers(1, 21, 12)
    results = []
    for model, weights in zip((ours, plain), zip(*pairs, strict=True), strict=True):
        with tf.GradientTape() as tape:
            losses = model.total_loss(inputs, targets)
        gradients = tape.gradient(losses.total, weights, unconnected_gradients="zero")
        results.append([*losses, *map(tf.convert_to_tensor, gradients)])
    for found, expected in zip(*results, strict=True):
        expected = np.reshape(expected, found.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-5)
