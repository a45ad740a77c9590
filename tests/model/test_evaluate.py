import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from adaptiverec.common.errors import ContractError, InvalidValueError, OutputError
from adaptiverec.model.evaluate import evaluate, print_report
from adaptiverec.model.prepared_data import PreparedData
from adaptiverec.model.run import Run


@pytest.fixture(scope="module")
def evaluated(run_path, tmp_path_factory) -> Path:
    """A copy, since results are written to the run."""
    path = tmp_path_factory.mktemp("evaluated") / "run"
    return Path(shutil.copytree(run_path, path))


@pytest.fixture(scope="module")
def report(evaluated, prepared_path) -> dict:
    return evaluate(run=str(evaluated), data=str(prepared_path))


def users_of(prepared_path):
    sequences = PreparedData.open(str(prepared_path)).sequences()
    for start, end in zip(sequences.starts, sequences.starts[1:], strict=False):
        yield sequences.items[start:end].tolist()


def recall_and_ndcg(ranks: list[float], k: int) -> tuple[float, float]:
    hits = [rank for rank in ranks if rank <= k]
    return len(hits) / len(ranks), sum(1 / np.log2(r + 1) for r in hits) / len(ranks)


def naive_rank(scores: np.ndarray, target: int, removed: set[int]) -> float:
    if target in removed:
        return float("inf")
    others = [i for i in range(1, len(scores)) if i != target and i not in removed]
    better = sum(scores[i] > scores[target] for i in others)
    equal = sum(scores[i] == scores[target] for i in others)
    return 1 + better + equal / 2


@pytest.mark.parametrize("seen", ["kept", "removed"])
def test_popularity_equals_a_naive_ranking(report, prepared_path, seen) -> None:
    users = list(users_of(prepared_path))
    counts = np.bincount([i for items in users for i in items[:-2]])
    ranks = [
        naive_rank(counts, items[-1], set(items[:-1]) if seen == "removed" else set())
        for items in users
    ]
    row = next(
        row
        for row in report["results"]
        if row["system"] == "popularity" and row["seen_items"] == seen
    )
    expected = recall_and_ndcg(ranks, 10)
    assert (row["recall@10"], row["ndcg@10"]) == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def scores_of_users(run_path, prepared_path) -> list[np.ndarray]:
    """The model's, one user after the other."""
    model = Run.open(run_path).load_model()
    histories = (items[:-1][-model.max_length :] for items in users_of(prepared_path))
    return [np.asarray(model(np.array([row], np.int32)))[0] for row in histories]


@pytest.mark.parametrize("seen", ["kept", "removed"])
def test_the_models_figures_equal_a_naive_ranking(
    report, scores_of_users, prepared_path, seen
) -> None:
    ranks = []
    for items, scores in zip(users_of(prepared_path), scores_of_users, strict=True):
        removed = set(items[:-1]) if seen == "removed" else set()
        ranks.append(naive_rank(scores, items[-1], removed))
    row = next(
        row
        for row in report["results"]
        if row["system"] == "AdaptiveRec" and row["seen_items"] == seen
    )
    expected = recall_and_ndcg(ranks, 5)
    assert (row["recall@5"], row["ndcg@5"]) == pytest.approx(expected, abs=2e-3)


def test_the_protocol_stands_beside_the_figures(report, evaluated, capsys) -> None:
    assert json.loads((evaluated / "evaluation.json").read_text()) == report
    print_report(report)
    printed = capsys.readouterr().out
    assert "200 test targets, split: leave-one-out" in printed
    assert "the whole catalogue, 100 items" in printed
    for row in report["results"]:
        assert f"{row['ndcg@10']:.4f}" in printed
    assert printed.count("removed") == printed.count("kept") == 3


def test_writes_the_report_where_told(evaluated, prepared_path, tmp_path) -> None:
    report = evaluate(
        run=str(evaluated), data=str(prepared_path), output=str(tmp_path / "r.json")
    )
    assert json.loads((tmp_path / "r.json").read_text()) == report
    with pytest.raises(
        OutputError, match="whose directory must exist. Received: .*nowhere"
    ):
        evaluate(
            run=str(evaluated),
            data=str(prepared_path),
            output=str(tmp_path / "nowhere/r"),
        )


def test_data_that_the_run_was_not_trained_on(run_path, prepare_log, tmp_path) -> None:
    other = prepare_log(tmp_path / "other", min_user_interactions=12)
    with pytest.raises(
        ContractError, match="trained on, by its fingerprint .*Received"
    ):
        evaluate(run=str(run_path), data=other)


def test_no_test_targets(prepare_log, tmp_path, tiny_training) -> None:
    from adaptiverec.model.train import train

    data = prepare_log(tmp_path / "other", split="none")
    options = {**tiny_training, "objective": "none", "epochs": 1}
    train(data=data, output=str(tmp_path / "run"), **options)
    with pytest.raises(InvalidValueError, match="needs test targets.*split 'none'"):
        evaluate(run=str(tmp_path / "run"), data=data)


def test_histories_of_any_width_are_ranked_by_one_graph(
    prepared_path, run_path, monkeypatch
) -> None:
    from adaptiverec.common.progress import steps
    from adaptiverec.model.adaptive_rec import AdaptiveRec
    from adaptiverec.model.evaluation import rank_with_model
    from adaptiverec.model.instances import evaluation_dataset

    traced = []
    score_by_length = AdaptiveRec.score_by_length

    def score(self, inputs):
        traced.append(inputs)
        return score_by_length(self, inputs)

    monkeypatch.setattr(AdaptiveRec, "score_by_length", score)
    model = Run.open(run_path).load_model()
    sequences = PreparedData.open(str(prepared_path)).sequences()
    data = evaluation_dataset(
        sequences, "test", max_length=model.max_length, batch_size=4
    )
    widths = {inputs["seen_item_ids"].shape[1] for inputs, _ in data}
    assert len(widths) > 5
    with steps() as progress:
        rank_with_model(model, data, steps=progress, label="Ranking")
    # The last batch is smaller.
    assert len(traced) <= 2
