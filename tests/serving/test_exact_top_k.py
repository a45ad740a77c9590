"""The default retrieval layer, beside TensorFlow Recommenders' brute force."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptiverec.common.errors import InvalidValueError
from adaptiverec.serving import block_top_k
from adaptiverec.serving.block_top_k import best_rows, block_size_for, padded_rows
from adaptiverec.serving.exact_top_k import ExactTopK
from adaptiverec.serving.flat_ids import FlatIds
from adaptiverec.serving.tfrs_layers import factorized_top_k


def brute_force(candidates, identifiers=None):
    return factorized_top_k().BruteForce().index(candidates, identifiers)


@pytest.mark.parametrize("num_candidates", [1, 2, 15, 16, 17, 31, 1000, 5000])
@pytest.mark.parametrize("kind", ["random", "ties", "all equal", "negative"])
def test_it_finds_what_brute_force_finds(num_candidates, kind) -> None:
    generator = np.random.default_rng(num_candidates)
    candidates = {
        "random": generator.standard_normal((num_candidates, 4)),
        "ties": generator.integers(-1, 2, (num_candidates, 4)),
        "all equal": np.ones((num_candidates, 4)),
        "negative": -1 - generator.integers(0, 3, (num_candidates, 4)),
    }[kind].astype(np.float32)
    queries = np.abs(generator.integers(-2, 3, (6, 4))).astype(np.float32)
    layer, oracle = ExactTopK().index(candidates), brute_force(tf.constant(candidates))
    for k in {1, min(10, num_candidates), num_candidates}:
        scores, rows = layer(queries, k=k)
        expected_scores, expected_rows = oracle(tf.constant(queries), k=k)
        np.testing.assert_allclose(scores, expected_scores, atol=1e-5)
        # Those of random numbers may be summed in another order.
        if kind != "random":
            np.testing.assert_array_equal(rows, expected_rows)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_parts_and_blocks_of_any_size_find_the_same(data) -> None:
    num_rows = data.draw(st.integers(1, 70), "rows")
    num_queries = data.draw(st.integers(1, 3), "queries")
    block_size = data.draw(st.sampled_from([1, 2, 8, 32]), "block size")
    first = data.draw(st.integers(0, min(1, num_rows - 1)), "first candidate")
    k = data.draw(st.integers(1, num_rows - first), "k")
    seed = data.draw(st.integers(0, 2**32 - 1), "seed")
    # Whole numbers, so that there are many ties.
    scores = np.random.default_rng(seed).integers(-2, 3, (num_rows, num_queries))
    scores = scores.astype(np.float32)
    out = data.draw(
        st.lists(
            st.tuples(st.integers(0, num_rows - 1), st.integers(0, num_queries - 1)),
            max_size=20,
        )
    )
    padded = -(-num_rows // block_size) * block_size
    table = tf.constant(np.pad(scores, [[0, padded - num_rows], [0, 0]]))
    with pytest.MonkeyPatch.context() as patch:
        limit = data.draw(st.sampled_from([1, 16, 1 << 22]), "scores at a time")
        patch.setattr(block_top_k, "_SCORES_AT_A_TIME", limit)
        found_scores, found_rows = best_rows(
            lambda start, end: table[start:end],
            padded,
            tf.constant(num_queries),
            tf.constant(k),
            block_size=block_size,
            candidates=range(first, num_rows),
            excluded=FlatIds(
                tf.constant([row for row, _ in out], tf.int32),
                tf.constant([query for _, query in out], tf.int32),
                tf.constant(num_queries),
            ),
        )
    for query in range(num_queries):
        left = [row for row in range(first, num_rows) if (row, query) not in out]
        best = sorted(left, key=lambda row: -scores[row, query])[:k]
        finite = np.isfinite(found_scores[query])
        assert found_rows.numpy()[query][finite].tolist() == best
        np.testing.assert_array_equal(
            found_scores.numpy()[query][finite], scores[best, query]
        )


def test_identifiers_take_the_place_of_rows() -> None:
    candidates = tf.constant([[1.0], [3.0], [2.0]])
    layer = ExactTopK(k=2).index(candidates, tf.constant(["a", "b", "c"]))
    scores, identifiers = layer(tf.constant([[1.0], [-1.0]]))
    assert identifiers.numpy().tolist() == [[b"b", b"c"], [b"a", b"c"]]
    assert scores.numpy().tolist() == [[3.0, 2.0], [-1.0, -2.0]]


@pytest.mark.parametrize("identified", [True, False])
def test_exclusions_take_no_place(identified) -> None:
    generator = np.random.default_rng(0)
    candidates = tf.constant(generator.standard_normal((50, 4)), tf.float32)
    queries = tf.constant(generator.standard_normal((3, 4)), tf.float32)
    identifiers = tf.range(100, 150) if identified else tf.range(50)
    exclusions = tf.gather(identifiers, generator.integers(0, 50, (3, 20)))
    layer = ExactTopK().index(candidates, identifiers if identified else None)
    scores, found = layer.query_with_exclusions(queries, exclusions, k=5)
    oracle = brute_force(candidates, identifiers)
    expected_scores, expected = oracle.query_with_exclusions(queries, exclusions, k=5)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-5)


def test_where_exclusions_leave_fewer_the_rest_is_marked() -> None:
    layer = ExactTopK().index(tf.constant([[1.0], [3.0], [2.0]]))
    scores, found = layer.query_with_exclusions(
        tf.constant([[1.0]]), tf.constant([[1, 1, 7]]), k=3
    )
    assert scores.numpy().tolist() == [[2.0, 1.0, -np.inf]]
    assert found.numpy()[0, :2].tolist() == [2, 0]


def test_k_may_pass_the_number_of_candidates() -> None:
    scores, _ = ExactTopK().index(tf.constant([[1.0], [2.0]]))(tf.constant([[1.0]]))
    assert scores.numpy().tolist() == [[2.0, 1.0]]


def test_candidates_come_from_a_dataset_too() -> None:
    vectors = tf.random.stateless_normal([25, 3], seed=[0, 1])
    names = tf.strings.as_string(tf.range(25))
    query = tf.constant([[1.0, 2.0, 3.0]])
    expected = ExactTopK().index(vectors, names)(query)[1]
    pairs = tf.data.Dataset.from_tensor_slices((names, vectors)).batch(4)
    found = ExactTopK().index_from_dataset(pairs)(query)[1]
    np.testing.assert_array_equal(found, expected)
    alone = ExactTopK().index_from_dataset(pairs.map(lambda _, vector: vector))
    np.testing.assert_array_equal(tf.strings.as_string(alone(query)[1]), expected)


def test_it_is_exact() -> None:
    assert ExactTopK().is_exact()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ExactTopK(0), "k must be at least 1. Received: 0"),
        (
            lambda: ExactTopK()(tf.zeros([1, 2])),
            "The layer must have its candidates before it is called: call index() or "
            "index_from_dataset(). Received: a layer without candidates",
        ),
        (
            lambda: ExactTopK().index(tf.zeros([0, 2])),
            "candidates must have shape [num_candidates, hidden_dim], with at least "
            "one. Received: shape (0, 2)",
        ),
        (
            lambda: ExactTopK().index(tf.zeros([3, 2]), tf.range(2)),
            "identifiers must have one element for each candidate. Received: shape "
            "(2,) for 3 candidates",
        ),
    ],
)
def test_wrong_use_is_named(call, message) -> None:
    with pytest.raises(InvalidValueError) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("num_rows", "size"), [(1, 16), (100, 16), (12_000, 32), (10**6, 256), (10**9, 512)]
)
def test_blocks_are_about_the_square_root(num_rows, size) -> None:
    assert block_size_for(num_rows) == size
    assert padded_rows(num_rows) % size == 0
    assert 0 <= padded_rows(num_rows) - num_rows < size
