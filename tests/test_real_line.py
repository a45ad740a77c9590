"""The line on real logs; minutes, so apart from the quick tests."""

import json
from pathlib import Path

import pytest

from adaptiverec.model import evaluate, train
from adaptiverec.pipeline import prepare
from adaptiverec.serving import export

pytestmark = pytest.mark.slow


def results_of(report: dict, seen_items: str) -> dict[str, float]:
    return {
        row["system"]: row["ndcg@10"]
        for row in report["results"]
        if row["seen_items"] == seen_items
    }


def test_movielens_from_raw_log_to_saved_model(real_data: Path, tmp_path: Path) -> None:
    data, run, base = (str(tmp_path / name) for name in ("data", "run", "base"))
    metadata = prepare(
        input=[str(real_data / "ml-100k" / "u.data.gz")],
        output=data,
        user_column="0",
        item_column="1",
        time_column="3",
        delimiter="\t",
        header=False,
    )
    assert metadata["counts"]["rows_read"] == 100_000
    train(data=data, output=run, epochs=4, max_length=20, dropout=0.2, batch_size=512)
    report = evaluate(run=run, data=data)
    for seen_items in ("kept", "removed"):
        ndcg = results_of(report, seen_items)
        assert ndcg["AdaptiveRec"] > 1.2 * ndcg["popularity"]
    assert export(run=run, output=base)["version"] == 1
    vocabulary = Path(base, "1", "assets", "vocabulary.txt").read_text().splitlines()
    assert len(vocabulary) == metadata["num_items"]
    record = json.loads(Path(base, "1", "assets.extra", "adaptiverec.json").read_text())
    assert record["data_fingerprint"] == metadata["fingerprint"]
