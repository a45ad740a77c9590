"""Training on several replicas gives what training on one does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

# Registers the classes that a saved model names.
import adaptiverec.model.adaptive_rec  # noqa: F401

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("distributed_training.py")


def start(out: Path, kind: str, options: dict, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(out), kind, json.dumps(options)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def results(out: Path, process: subprocess.Popen) -> tuple[dict, dict]:
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said
    with np.load(out) as file:
        found = dict(file)
    return json.loads(str(found.pop("figures"))), found


def train(tmp_path: Path, kind: str, options: dict) -> tuple[dict, dict]:
    out = tmp_path / f"{kind}.npz"
    return results(out, start(out, kind, options))


def assert_same(one: tuple[dict, dict], other: tuple[dict, dict]) -> None:
    assert one[0].keys() == other[0].keys()
    for name, values in one[0].items():
        assert np.isfinite(values).all(), name
        np.testing.assert_allclose(
            other[0][name], values, rtol=2e-4, atol=2e-5, err_msg=name
        )
    assert one[1].keys() == other[1].keys()
    moved = 0
    for name, values in one[1].items():
        if "seed_generator" in name:
            continue
        np.testing.assert_allclose(
            other[1][name], values, rtol=1e-3, atol=2e-5, err_msg=name
        )
        moved += values.size
    assert moved > 0


@pytest.mark.parametrize(
    "options",
    [
        {"views": "us_x"},
        {"views": "us", "objective": "info_nce"},
        {"views": "un", "assignment": "soft"},
        {"objective": "none"},
    ],
    ids=lambda options: "-".join(options.values()),
)
def test_two_replicas_of_mirrored_strategy(tmp_path, options) -> None:
    # Were the contrast within each replica's half of the batch, its loss, the number of
    # positives and the thresholds' target would be others.
    assert_same(train(tmp_path, "one", options), train(tmp_path, "mirrored", options))


def test_two_replicas_are_streamed_to(tmp_path, write_prepared, random_users) -> None:
    write_prepared(tmp_path / "data", random_users(40, 30), num_items=30, num_shards=3)
    options = {"streamed": str(tmp_path / "data")}
    assert_same(train(tmp_path, "one", options), train(tmp_path, "mirrored", options))


def test_dropout_differs_between_replicas_and_steps(tmp_path) -> None:
    masks, _ = train(tmp_path, "mirrored", {"masks": True})
    assert len({tuple(mask) for mask in masks}) == len(masks) == 4
    for mask in masks:
        assert 10 < sum(value > 0 for value in mask) < 54


def test_augmentations_differ_between_replicas_and_steps(tmp_path) -> None:
    views, _ = train(tmp_path, "mirrored", {"augmentations": True})
    assert len({tuple(view) for view in views}) == len(views) == 4


def test_training_with_dropout_stays_finite(tmp_path) -> None:
    figures, _ = train(tmp_path, "mirrored", {"dropout": 0.5})
    assert np.isfinite(figures["loss"]).all()


@pytest.mark.parametrize("of_sequences", [False, True])
def test_two_workers_over_loopback(tmp_path, of_sequences) -> None:
    data = {"of_sequences": of_sequences}
    options = {"own_loop": True, **data}
    one = train(tmp_path, "one", data)
    ports = []
    sockets = [socket.socket() for _ in range(2)]
    for found in sockets:
        found.bind(("127.0.0.1", 0))
        ports.append(found.getsockname()[1])
    for found in sockets:
        found.close()
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    processes = []
    for index in range(2):
        task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        out = tmp_path / f"worker{index}.npz"
        environment = {"TF_CONFIG": json.dumps(task)}
        processes.append((out, start(out, "workers", options, **environment)))
    found = [results(out, process) for out, process in processes]
    for worker in found:
        assert_same(one, worker)
    saved = keras.saving.load_model(tmp_path / "worker0.keras")
    for weight in saved.weights:
        if "seed_generator" not in weight.path:
            np.testing.assert_allclose(
                weight.numpy(), one[1][f"weight {weight.path}"], rtol=1e-3, atol=2e-5
            )


def test_our_loop_is_keras_fit(tmp_path) -> None:
    assert_same(train(tmp_path, "one", {}), train(tmp_path, "one", {"own_loop": True}))
