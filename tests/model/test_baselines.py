import numpy as np

from adaptiverec.model.baselines import LastItemFollowers, Popularity
from adaptiverec.model.prepared_data import Sequences

# Training parts 1 2 3 and 2 3 2; then 4 and 5, which no baseline may know of.
SEQUENCES = Sequences(
    items=np.array([1, 2, 3, 4, 4, 2, 3, 2, 5, 5], np.int32),
    starts=np.array([0, 5, 10]),
    train_ends=np.array([3, 8]),
    validation_ends=np.array([4, 9]),
)


def test_popularity_counts_the_training_part() -> None:
    scores = Popularity(SEQUENCES, 5).scores(np.array([1, 3]))
    np.testing.assert_array_equal(scores, [[-np.inf, 1, 3, 2, 0, 0]] * 2)


def test_followers_of_the_last_item_come_first_then_popularity() -> None:
    scores = LastItemFollowers(SEQUENCES, 5).scores(np.array([2, 3, 5]))
    order = np.argsort(-scores[:, 1:], axis=1, kind="stable") + 1
    # 2 was followed by 3 twice; 3 by 2 once; 5 never appeared in training.
    np.testing.assert_array_equal(order[0], [3, 2, 1, 4, 5])
    np.testing.assert_array_equal(order[1], [2, 3, 1, 4, 5])
    np.testing.assert_array_equal(order[2], [2, 3, 1, 4, 5])
    assert np.all(scores[:, 0] == -np.inf)
    # However popular, an item that never followed stays below one that did once.
    assert scores[1, 2] > 1 > scores[1, 3]
