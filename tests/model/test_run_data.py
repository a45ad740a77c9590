"""The datasets of a run."""

import numpy as np
import pytest

from adaptiverec.model import run_data as module
from adaptiverec.model.run_data import run_data

CONFIGURATION = {
    "max_length": 6,
    "batch_size": 4,
    "instances": "prefixes",
    "seed": 3,
    "stream": False,
    "validation_users": None,
}


def validation(prepared, **options) -> list[tuple[tuple[int, ...], int]]:
    """The history, without padding, and the target of each user."""
    found = run_data(
        prepared, {**CONFIGURATION, **options}, same_target=False, initial_epoch=0
    )
    return [
        (tuple(row[row != 0].tolist()), int(target))
        for inputs, targets in found.validation
        for row, target in zip(inputs["item_ids"].numpy(), targets, strict=True)
    ]


@pytest.fixture(scope="module")
def prepared(write_prepared, random_users, tmp_path_factory):
    users = random_users(60, 100, seed=2)
    path = tmp_path_factory.mktemp("run-data") / "data"
    return write_prepared(path, users, num_shards=3)


def test_validation_by_some_users(prepared) -> None:
    everyone = validation(prepared)
    some = validation(prepared, validation_users=7)
    assert 7 <= len(some) < len(everyone)
    # In their order, whole.
    places = [everyone.index(one) for one in some]
    assert places == sorted(places)
    assert validation(prepared, validation_users=7, stream=True) == some
    assert validation(prepared, validation_users=7, seed=4) != some
    assert validation(prepared, validation_users=10_000) == everyone


def test_scores_of_a_large_catalogue_are_made_for_fewer_users_at_a_time(
    prepared, monkeypatch
) -> None:
    monkeypatch.setattr(module, "_VALIDATION_SCORES", 2 * prepared.num_items)
    found = run_data(prepared, CONFIGURATION, same_target=False, initial_epoch=0)
    sizes = [len(targets) for _, targets in found.validation]
    assert max(sizes) == 2
    assert sum(sizes) == len(validation(prepared))
    training = [len(targets) for _, targets in found.training]
    assert max(training) == 4
    assert np.sum(training) == prepared.metadata["num_train_instances"]
