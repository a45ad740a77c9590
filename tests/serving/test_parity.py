"""Who is replayed for the certificate of parity."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from adaptiverec.common.errors import ContractError, InvalidValueError, StageError
from adaptiverec.model.instances import Instances
from adaptiverec.model.prepared_data import PreparedData, Sequences
from adaptiverec.serving import publish
from adaptiverec.serving import replay as replay_module
from adaptiverec.serving.export import export
from adaptiverec.serving.parity import certify, made_up_users, some_users

# Three users: one without a test target, and two with.
SEQUENCES = Sequences(
    items=np.array([1, 2, 3, 4, 5, 6, 7, 8, 9], np.int32),
    starts=np.array([0, 2, 5, 9]),
    train_ends=np.array([2, 3, 6]),
    validation_ends=np.array([2, 4, 8]),
)


def test_users_with_test_targets_are_taken() -> None:
    users = some_users(SEQUENCES, 5)
    assert users is not None
    assert users.items.tolist() == [3, 4, 5, 6, 7, 8, 9]
    assert users.starts.tolist() == [0, 3, 7]
    assert users.train_ends.tolist() == [1, 4]
    assert users.validation_ends.tolist() == [2, 6]
    assert Instances.of(users, "test").targets.tolist() == [2, 6]


def test_no_more_users_than_asked_for() -> None:
    users = some_users(SEQUENCES, 1)
    assert users is not None
    assert users.items.tolist() in ([3, 4, 5], [6, 7, 8, 9])


def test_without_test_targets_there_are_none() -> None:
    ends = SEQUENCES.starts[1:]
    nothing = Sequences(SEQUENCES.items, SEQUENCES.starts, ends, ends)
    assert some_users(nothing, 5) is None


def test_made_up_histories_have_all_lengths() -> None:
    users = made_up_users(num_items=9, max_length=4, count=20)
    targets = Instances.of(users, "test")
    assert set(targets.targets - targets.starts) == set(range(1, 10))
    assert len(targets) == 20
    assert set(users.items.tolist()) == set(range(1, 10))


def test_held_out_users_are_replayed(
    run_path, prepared_path, tmp_path, monkeypatch
) -> None:
    asked = []

    def replay(directory: Path, histories: list[list[str]], k: int) -> dict:
        asked.extend(histories)
        return replay_module.replay(directory, histories, k)

    monkeypatch.setattr(publish, "replay_in_clean_process", replay)
    path = export(
        run=str(run_path),
        output=str(tmp_path),
        data=str(prepared_path),
        retrieval="brute_force",
        parity_users=50,
    )["path"]
    extra = Path(path) / "assets.extra"
    certificate = json.loads((extra / "parity.json").read_text())
    assert certificate["histories"] == "held out"
    assert certificate["users"] == certificate["agreeing_users"] == 50
    assert json.loads((extra / "adaptiverec.json").read_text())["retrieval"] == (
        "brute_force"
    )
    # All that comes before a user's test target.
    prepared = PreparedData.open(str(prepared_path))
    sequences = prepared.sequences()
    histories = [
        [
            prepared.vocabulary[item - 1]
            for item in sequences.items[start:validation_end]
        ]
        for start, validation_end in zip(
            sequences.starts, sequences.validation_ends, strict=False
        )
    ]
    assert len(asked) == 50
    assert all(history in histories for history in asked)


def test_data_of_another_run_is_refused(run_path, tmp_path, monkeypatch) -> None:
    class Other:
        path = "elsewhere"
        fingerprint = "0" * 64

    monkeypatch.setattr(publish.PreparedData, "open", lambda path: Other())
    with pytest.raises(ContractError, match="must be what the run was trained on"):
        export(run=str(run_path), output=str(tmp_path / "models"), data="elsewhere")
    assert list(tmp_path.iterdir()) == []


def test_no_users_is_no_proof(run_path, tmp_path) -> None:
    with pytest.raises(InvalidValueError) as caught:
        export(run=str(run_path), output=str(tmp_path / "models"), parity_users=0)
    assert str(caught.value) == "parity_users must be at least 1. Received: 0"


def test_an_approximate_retrieval_is_measured_and_not_refused(
    trained, catalogue
) -> None:
    def replay(histories: list[list[str]], k: int) -> dict:
        nothing = [[""] * k for _ in histories]
        return {"items": nothing, "scores": [[0.0] * k for _ in histories]}

    users = made_up_users(100, trained.max_length, 3)
    parity = certify(trained, catalogue, users, replay, exact=False)
    assert (parity.users, parity.agreeing_users) == (3, 0)
    with pytest.raises(StageError, match="must recommend what the Keras model does"):
        certify(trained, catalogue, users, replay)


def test_scores_that_are_not_numbers_do_not_agree(trained, catalogue) -> None:
    def replay(histories: list[list[str]], k: int) -> dict:
        items = []
        for history in histories:
            dense = [catalogue.index(item) + 1 for item in history]
            best, _ = trained.recommend(
                {
                    "item_ids": np.array([dense[-trained.max_length :]], np.int32),
                    "seen_item_ids": np.array([dense], np.int32),
                },
                k,
            )
            items.append([catalogue[item - 1] for item in np.asarray(best)[0]])
        return {"items": items, "scores": [[float("nan")] * k for _ in histories]}

    with pytest.raises(StageError):
        certify(trained, catalogue, made_up_users(100, 8, 3), replay)
