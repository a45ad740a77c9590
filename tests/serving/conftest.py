"""Fixtures of what is exported: the tiny model's artefact, asked as a server asks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

Artefact = Callable[..., dict[str, np.ndarray]]


@pytest.fixture(scope="session")
def exported(base_path) -> Path:
    """The directory of the exported version."""
    return base_path / "1"


@pytest.fixture(scope="session")
def catalogue(prepared_path) -> list[str]:
    """Raw item ids; element i has the dense id i + 1."""
    return (prepared_path / "vocabulary.txt").read_text("utf-8").split("\n")[:-1]


@pytest.fixture(scope="session")
def trained(run_path) -> keras.Model:
    """The model that was exported."""
    from adaptiverec.model.run import Run

    return Run.open_complete(run_path).load_model()


@pytest.fixture(scope="session")
def load_artefact() -> Iterator[Callable[[Path], Artefact]]:
    """Loads a SavedModel as TensorFlow Serving does: a session, defaults of signatures."""
    sessions = []

    def load(path: Path) -> Artefact:
        graph = tf.Graph()
        session = tf.compat.v1.Session(graph=graph)
        sessions.append(session)
        with graph.as_default():
            loaded = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(path))

        def ask(signature: str = "serving_default", **inputs: Any) -> dict:
            definition = loaded.signature_def[signature]
            assert set(inputs) <= set(definition.inputs)
            feeds = {}
            for name, info in definition.inputs.items():
                dtype = tf.dtypes.as_dtype(info.dtype).as_numpy_dtype
                if name in inputs:
                    feeds[info.name] = np.asarray(inputs[name], dtype)
                else:
                    feeds[info.name] = tf.make_ndarray(definition.defaults[name])
            outputs = {name: info.name for name, info in definition.outputs.items()}
            return session.run(outputs, feeds)

        return ask

    yield load
    for session in sessions:
        session.close()


@pytest.fixture(scope="session")
def artefact(exported, load_artefact) -> Artefact:
    """The exported version, loaded."""
    return load_artefact(exported)
