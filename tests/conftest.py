"""Fixtures shared by the tests of all stages: one small log, taken down the whole line."""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

# Before TensorFlow is imported anywhere: its notes would bury what a failing test prints.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# And without AMX, the newest of the instructions that libraries look for: which ones they
# find decides how they round. With less than this, TensorFlow's half precision ends the
# process on a processor that has more.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_max_isa=AVX2")

# What a test may have for itself, in bytes. One that asks for more fails by that, and says
# where; without a limit it would take the whole machine along.
_MOST_MEMORY = 8 << 30
_, _hard = resource.getrlimit(resource.RLIMIT_DATA)
# Where whoever runs the tests allows less, that stays.
if _hard == resource.RLIM_INFINITY or _hard > _MOST_MEMORY:
    resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY, _hard))

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"


Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Has a path made once for all processes that the tests run in, by its name."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    directory = root / "once"

    def once(name: str, make: Callable[[Path], object]) -> Path:
        path, done = directory / name, directory / f"{name}.done"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f"{path.name}.lock").open("w") as lock:
            # Whoever comes second waits, which costs less than making it again.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(path, ignore_errors=True)
                make(path)
                done.touch()
        return path

    return once


@pytest.fixture(scope="session")
def raw_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up log of 200 users and 100 items, with dirt."""
    from adaptiverec.common.synthetic_log import write_synthetic_log

    path = tmp_path_factory.mktemp("log") / "log.csv"
    write_synthetic_log(path, num_users=200, num_items=100, seed=3)
    return path


@pytest.fixture(scope="session")
def prepare_log(raw_log: Path) -> Callable[..., str]:
    """Prepares it into a directory, with options of one's own; gives the directory."""
    from adaptiverec.pipeline import prepare

    def prepare_log(output: Path, **options: object) -> str:
        prepare(
            input=[str(raw_log)],
            output=str(output),
            user_column="user_id",
            item_column="item_id",
            time_column="timestamp",
            **options,
        )
        return str(output)

    return prepare_log


@pytest.fixture(scope="session")
def prepared_path(prepare_log: Callable[..., str], once: Once) -> Path:
    """It, prepared."""
    return once("prepared", prepare_log)


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
def run_path(prepared_path: Path, once: Once) -> Path:
    """A complete run on it."""
    from adaptiverec.model.train import train

    return once(
        "run",
        lambda path: train(data=str(prepared_path), output=str(path), epochs=2, **TINY),
    )


@pytest.fixture(scope="session")
def base_path(run_path: Path, once: Once) -> Path:
    """The base path of its export, with version 1; not to be changed."""
    from adaptiverec.serving import publish
    from adaptiverec.serving.export import export
    from adaptiverec.serving.replay import replay

    with pytest.MonkeyPatch.context() as patch:
        # A process of its own takes seconds to import TensorFlow. The tests of the export
        # have one.
        patch.setattr(publish, "replay_in_clean_process", replay)
        return once("models", lambda path: export(run=str(run_path), output=str(path)))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Where real logs lie beside a checkout, if they do."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real interaction logs are not here: {REAL_DATA}")
    return REAL_DATA
