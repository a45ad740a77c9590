"""Fixtures shared by the tests of all stages: one small log, taken down the whole line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before TensorFlow is imported anywhere: its notes would bury what a failing test prints.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def raw_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up log of 200 users and 100 items, with dirt."""
    from adaptiverec.common.synthetic_log import write_synthetic_log

    path = tmp_path_factory.mktemp("log") / "log.csv"
    write_synthetic_log(path, num_users=200, num_items=100, seed=3)
    return path


@pytest.fixture(scope="session")
def prepared_path(raw_log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It, prepared."""
    from adaptiverec.pipeline import prepare

    path = tmp_path_factory.mktemp("prepared") / "data"
    prepare(
        input=[str(raw_log)],
        output=str(path),
        user_column="user_id",
        item_column="item_id",
        time_column="timestamp",
    )
    return path


# Small enough to train in a moment, once its graph is built.
TINY = {
    "batch_size": 512,
    "max_length": 8,
    "hidden_dim": 16,
    "num_blocks": 1,
    "inner_dim": 16,
    "learning_rate": 0.01,
    "dropout": 0.1,
}


@pytest.fixture(scope="session")
def tiny_training() -> dict:
    """Options of `train` for a small and quick run."""
    return dict(TINY)


@pytest.fixture(scope="session")
def run_path(prepared_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run on it."""
    from adaptiverec.model.train import train

    path = tmp_path_factory.mktemp("trained") / "run"
    train(data=str(prepared_path), output=str(path), epochs=2, **TINY)
    return path


@pytest.fixture(scope="session")
def base_path(run_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base path of its export, with version 1."""
    from adaptiverec.serving.export import export

    path = tmp_path_factory.mktemp("models") / "tiny"
    export(run=str(run_path), output=str(path))
    return path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Where real logs lie beside a checkout, if they do."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real interaction logs are not here: {REAL_DATA}")
    return REAL_DATA
