import numpy as np

from adaptiverec.model.similarity import (
    negative_pairs,
    pairwise_similarity,
    twin_similarity,
)


def test_negatives_are_all_but_the_row_and_its_twin() -> None:
    expected = [
        [0, 1, 1, 0, 1, 1],
        [1, 0, 1, 1, 0, 1],
        [1, 1, 0, 1, 1, 0],
        [0, 1, 1, 0, 1, 1],
        [1, 0, 1, 1, 0, 1],
        [1, 1, 0, 1, 1, 0],
    ]
    np.testing.assert_array_equal(negative_pairs(6), np.array(expected, bool))


def test_cosine_and_dot() -> None:
    views = np.array([[3.0, 4.0], [0.0, 2.0]], np.float32)
    np.testing.assert_allclose(
        pairwise_similarity(views, "cosine"), [[1, 0.8], [0.8, 1]], rtol=1e-6
    )
    np.testing.assert_allclose(pairwise_similarity(views, "dot"), [[25, 8], [8, 4]])


def test_twin_similarity_is_the_same_both_ways() -> None:
    similarities = np.arange(16, dtype=np.float32).reshape(4, 4)
    similarities = similarities + similarities.T
    np.testing.assert_array_equal(twin_similarity(similarities), [10, 20, 10, 20])
