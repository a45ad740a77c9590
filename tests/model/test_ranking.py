import math

import numpy as np
import pytest

from adaptiverec.common.errors import InvalidValueError
from adaptiverec.model.ranking import RankingMeasure, mask_items, target_ranks


def test_rank_counts_better_scores() -> None:
    scores = np.array([[-np.inf, 0.3, 0.9, 0.1], [-np.inf, 3.0, 2.0, 1.0]], np.float32)
    np.testing.assert_array_equal(target_ranks(scores, [1, 1]), [2, 1])


def test_ties_share_the_middle_of_their_ranks() -> None:
    # Three share ranks 2, 3 and 4.
    scores = np.array([[0.9, 0.5, 0.5, 0.5, 0.1]], np.float32)
    np.testing.assert_array_equal(target_ranks(scores, [2]), [3])


def test_a_constant_model_does_not_score_well() -> None:
    ranks = target_ranks(np.zeros((1, 1000), np.float32), [7])
    assert float(ranks[0]) == 500.5


@pytest.mark.parametrize(
    "broken", [[math.nan] * 5, [0.1, math.nan, 0.3, math.nan, 0.2]]
)
def test_scores_that_are_no_numbers_rank_worst(broken) -> None:
    ranks = target_ranks(np.array([broken], np.float32), [1])
    assert float(ranks[0]) >= 5


def test_nan_elsewhere_counts_as_better() -> None:
    scores = np.array([[0.5, math.nan, 0.1]], np.float32)
    np.testing.assert_array_equal(target_ranks(scores, [0]), [2])


def test_masked_items_leave_the_ranking() -> None:
    scores = np.array([[-np.inf, 0.9, 0.8, 0.7], [-np.inf, 0.9, 0.8, 0.7]], np.float32)
    masked = mask_items(scores, np.array([[1, 1, 0], [2, 0, 0]], np.int32))
    np.testing.assert_array_equal(
        masked,
        np.array(
            [[-np.inf, -np.inf, 0.8, 0.7], [-np.inf, 0.9, -np.inf, 0.7]], np.float32
        ),
    )


@pytest.mark.parametrize(
    ("measure", "k", "expected"),
    [
        # Ranks 1, 3, 5.5 and 11, by hand.
        ("recall", 5, 2 / 4),
        ("recall", 10, 3 / 4),
        ("ndcg", 5, (1 + 0.5) / 4),
        ("ndcg", 10, (1 + 0.5 + math.log(2) / math.log(6.5)) / 4),
        ("mrr", 5, (1 + 1 / 3) / 4),
        ("mrr", 10, (1 + 1 / 3 + 1 / 5.5) / 4),
    ],
)
def test_measures_worked_by_hand(measure, k, expected) -> None:
    metric = RankingMeasure(measure, k)
    metric.update_state(np.array([1.0, 3.0], np.float32))
    metric.update_state(np.array([5.5, 11.0], np.float32))
    assert float(metric.result()) == pytest.approx(expected, rel=1e-6)
    assert metric.name == f"{measure}@{k}"


def test_bad_arguments() -> None:
    with pytest.raises(InvalidValueError, match="'mrr'. Received: 'precision'"):
        RankingMeasure("precision", 5)
    with pytest.raises(InvalidValueError, match="k must be at least 1. Received: 0"):
        RankingMeasure("ndcg", 0)


def test_config_round_trip() -> None:
    metric = RankingMeasure.from_config(RankingMeasure("mrr", 7).get_config())
    assert (metric.measure, metric.k, metric.name) == ("mrr", 7, "mrr@7")
