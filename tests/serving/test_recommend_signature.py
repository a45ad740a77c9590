"""What is recommended under filters, whatever looks through the catalogue."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptiverec.common.errors import InvalidValueError, NotFoundError
from adaptiverec.model.adaptive_rec import AdaptiveRec
from adaptiverec.serving.recommender_module import RecommenderModule

NUM_ITEMS = 60
ITEMS = [f"item {number}" for number in range(NUM_ITEMS)]
# Ties among the first ten, which stand in the order of dense ids.
POPULARITY = np.r_[np.full(10, 7), np.arange(50) * 3 % 50 + 8]
UNKNOWN = ["?", "item", "item 60"]


@pytest.fixture(scope="module")
def model() -> AdaptiveRec:
    tf.keras.utils.set_random_seed(3)
    return AdaptiveRec(
        NUM_ITEMS,
        max_length=5,
        hidden_dim=8,
        num_blocks=2,
        inner_dim=8,
        objective="none",
    )


@pytest.fixture(scope="module")
def vocabulary_path(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.txt"
    path.write_text("".join(f"{item}\n" for item in ITEMS), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module", params=["exact", "brute_force", "streaming"])
def module(request, model, vocabulary_path) -> RecommenderModule:
    return RecommenderModule(
        model,
        vocabulary_path,
        popularity=POPULARITY,
        retrieval=request.param,
        fingerprint="abc",
    )


@pytest.fixture(scope="module")
def all_scores(model):
    """The model's own scores of all items after each history, by item."""

    def scores(history: list[str]) -> np.ndarray:
        known = [ITEMS.index(item) + 1 for item in history if item in ITEMS][-5:]
        if not known:
            return POPULARITY.astype(np.float32)
        return np.asarray(model(np.array([known], np.int32)))[0, 1:]

    return scores


def ask(module: RecommenderModule, **inputs: Any) -> dict[str, np.ndarray]:
    function = module.recommend
    return {name: value.numpy() for name, value in function(**inputs).items()}


def rows(lists: list[list[str]]) -> tf.Tensor:
    width = max([1, *map(len, lists)])
    return tf.constant([row + [""] * (width - len(row)) for row in lists])


def expected(
    scores: np.ndarray,
    k: int,
    history: list[str],
    exclude: list[str],
    allow: list[str] | None,
    exclude_history: bool,
) -> list[str]:
    """Item by item, in plain Python."""
    out = set(exclude) | (set(history) if exclude_history else set())
    left = [
        item for item in ITEMS if item not in out and (allow is None or item in allow)
    ]
    return sorted(left, key=lambda item: -scores[ITEMS.index(item)])[:k]


def check(
    answer: dict[str, np.ndarray], row: int, best: list[str], scores: np.ndarray
) -> None:
    items = [item.decode() for item in answer["items"][row] if item]
    places = [ITEMS.index(item) for item in items]
    assert len(items) == len(set(items)) == len(best)
    # By score: those of two items may differ by less than summation does.
    np.testing.assert_allclose(
        scores[places], [scores[ITEMS.index(item)] for item in best], atol=1e-5
    )
    np.testing.assert_allclose(
        answer["scores"][row, : len(items)], scores[places], atol=1e-5
    )
    assert not answer["scores"][row, len(items) :].any()
    assert not any(answer["items"][row, len(items) :])


ids = st.lists(st.sampled_from([*ITEMS[:20], *UNKNOWN, ""]), max_size=12)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    batch=st.lists(
        st.tuples(ids, ids, ids, st.booleans(), st.integers(1, 70)),
        min_size=1,
        max_size=4,
    )
)
def test_filters_act_before_the_best_are_taken(module, all_scores, batch) -> None:
    histories, excludes, allows, flags, ks = map(list, zip(*batch, strict=True))
    answer = ask(
        module,
        history=rows(histories),
        k=tf.constant(ks),
        exclude=rows(excludes),
        allow=rows(allows),
        exclude_history=tf.constant(flags),
    )
    assert answer["items"].shape == (len(batch), min(max(ks), NUM_ITEMS))
    for row, (history, exclude, allow, flag, k) in enumerate(batch):
        scores = all_scores(history)
        limit = allow if any(allow) else None
        best = expected(scores, k, history, exclude, limit, flag)
        check(answer, row, best, scores)
        known = [item for item in history if item in ITEMS]
        unknown = [item for item in history if item in UNKNOWN]
        assert answer["fallback"][row] == (not known)
        assert answer["unknown_items"][row] == len(unknown)
        assert answer["fingerprint"][row] == b"abc"


def test_one_row_of_a_filter_is_for_all_histories(module, all_scores) -> None:
    histories = [ITEMS[:3], ITEMS[7:8], []]
    answer = ask(
        module,
        history=rows(histories),
        k=tf.constant([4]),
        exclude=rows([ITEMS[20:40]]),
        allow=rows([ITEMS[10:50]]),
        exclude_history=tf.constant([True]),
    )
    for row, history in enumerate(histories):
        scores = all_scores(history)
        best = expected(scores, 4, history, ITEMS[20:40], ITEMS[10:50], True)
        check(answer, row, best, scores)


def test_popularity_answers_where_a_history_tells_nothing(module) -> None:
    answer = ask(module, history=rows([[], ["?"], ["item 1"]]), k=tf.constant([60]))
    assert answer["fallback"].tolist() == [True, True, False]
    assert answer["unknown_items"].tolist() == [0, 1, 0]
    order = np.argsort(-POPULARITY, kind="stable")
    for row in (0, 1):
        assert answer["items"][row].tolist() == [ITEMS[i].encode() for i in order]
        assert answer["scores"][row].tolist() == POPULARITY[order].tolist()


def test_an_empty_matrix_of_histories(module) -> None:
    answer = ask(module, history=tf.zeros([2, 0], tf.string), k=tf.constant([2]))
    assert answer["fallback"].tolist() == [True, True]
    assert answer["items"].shape == (2, 2)


def test_a_batch_without_a_row(module) -> None:
    answer = ask(module, history=tf.zeros([0, 3], tf.string))
    assert {len(value) for value in answer.values()} == {0}


def test_items_that_are_not_text_are_unknown(module) -> None:
    answer = ask(module, history=tf.constant([[b"\xff\xfe", b"item 3"]]))
    assert answer["unknown_items"].tolist() == [1]


def test_of_a_very_long_history_all_is_excluded_and_the_end_counts(
    module, all_scores
) -> None:
    history = [ITEMS[number * 7 % 50] for number in range(100_000)] + ITEMS[3:8]
    answer = ask(module, history=rows([history]), k=tf.constant([60]))
    scores = all_scores(ITEMS[3:8])
    check(answer, 0, expected(scores, 60, history, [], None, True), scores)
    assert {item for item in answer["items"][0] if item} == {
        item.encode() for item in ITEMS[50:]
    }


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"exclude": tf.constant([["a"], ["b"], ["c"]])},
            "[exclude must have one row, or one for each history. Received:] [3] [for "
            "histories:] [2]",
        ),
        (
            {"allow": tf.zeros([0, 1], tf.string)},
            "[allow must have one row, or one for each history. Received:] [0] [for "
            "histories:] [2]",
        ),
        (
            {"exclude_history": tf.constant([True, False, True])},
            "[exclude_history must have one element, or one for each history. "
            "Received:] [3] [for histories:] [2]",
        ),
        (
            {"k": tf.constant([-(2**31)])},
            "[k must be at least 1. Received:] [-2147483648]",
        ),
    ],
)
def test_inputs_that_do_not_fit_are_refused(module, inputs, message) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        ask(module, history=tf.constant([["a"], ["b"]]), **inputs)
    assert message in caught.value.message


# The same in rows of any lengths


def ragged(module: RecommenderModule, **inputs: Any) -> dict[str, np.ndarray]:
    outputs = module.recommend_ragged(**inputs)
    return {name: value.numpy() for name, value in outputs.items()}


def flat(name: str, lists: list[list[str]]) -> dict[str, tf.Tensor]:
    values = [item for row in lists for item in row]
    return {
        f"{name}_values": tf.constant(values, tf.string),
        f"{name}_lengths": tf.constant([len(row) for row in lists], tf.int64),
    }


def test_ragged_rows_are_answered_as_padded_ones(module) -> None:
    histories = [ITEMS[:9], [], ["?", *ITEMS[5:7]]]
    excludes = [[], ITEMS[30:50], ["item 1"]]
    allows = [ITEMS[10:30], [], []]
    options = {
        "k": tf.constant([5, 2, 7]),
        "exclude_history": tf.constant([True, True, False]),
    }
    padded = ask(
        module,
        history=rows(histories),
        exclude=rows(excludes),
        allow=rows(allows),
        **options,
    )
    answer = ragged(
        module,
        **flat("history", histories),
        **flat("exclude", excludes),
        **flat("allow", allows),
        **options,
    )
    for name, value in padded.items():
        if value.dtype == np.float32:
            np.testing.assert_allclose(answer[name], value, atol=1e-6)
        else:
            np.testing.assert_array_equal(answer[name], value)


def test_a_single_ragged_row_of_a_filter_is_for_all(module) -> None:
    histories = [ITEMS[:2], ITEMS[4:5]]
    answer = ragged(
        module,
        **flat("history", histories),
        **flat("allow", [ITEMS[20:23]]),
    )
    for row in answer["items"]:
        assert {item for item in row if item} == {i.encode() for i in ITEMS[20:23]}


# Adds up to 3 in 64 bits.
OVERFLOW = [2**62, 2**62, 2**62, 2**62 + 3]


@pytest.mark.parametrize("lengths", [[1, 1], [4, -1], [2, 2], [2**62, 3], OVERFLOW])
def test_lengths_that_do_not_add_up_are_refused(module, lengths) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        ragged(
            module,
            history_values=tf.constant(ITEMS[:3]),
            history_lengths=tf.constant(lengths, tf.int64),
        )
    assert (
        "[history_lengths must not be negative and must add up to the number of "
        "history_values. Received:]"
    ) in caught.value.message


# What can be named


def test_a_retrieval_that_does_not_exist(model, vocabulary_path) -> None:
    with pytest.raises(InvalidValueError) as caught:
        RecommenderModule(
            model, vocabulary_path, popularity=POPULARITY, retrieval="annoy"
        )
    assert str(caught.value) == (
        "retrieval must be one of 'exact', 'brute_force', 'streaming', 'scann'. "
        "Received: 'annoy'"
    )


def test_scann_without_its_package(model, vocabulary_path) -> None:
    pytest.importorskip("tensorflow_recommenders", reason="the others need it")
    try:
        import scann  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("scann is installed")
    with pytest.raises(NotFoundError) as caught:
        RecommenderModule(
            model, vocabulary_path, popularity=POPULARITY, retrieval="scann"
        )
    assert "needs the package scann" in str(caught.value)
    assert "the stock tensorflow/serving has not" in str(caught.value)
    assert str(caught.value).endswith("Received: no module 'scann'")
