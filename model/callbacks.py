"""Keras callbacks of a training run: progress, exact resume, the best model."""

from __future__ import annotations

import dataclasses
import math
import shutil
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from adaptiverec.common.errors import ContractError, StageError
from adaptiverec.common.files import read_json, staged_directory, write_json
from adaptiverec.common.progress import Steps, say

__all__ = [
    "Checkpoint",
    "ReplayedEarlyStopping",
    "ReportProgress",
    "ReseedEveryEpoch",
    "SaveCheckpoint",
    "StopOnNaN",
]

_WEIGHTS = "state.weights.h5"
_HISTORY = "history.json"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The state after the last finished epoch.

    Attributes:
        path: Its directory, `checkpoints/epoch-NNNN`.
        history: The metrics of every epoch so far.
    """

    path: Path
    history: list[dict[str, float]]

    @classmethod
    def latest(cls, directory: Path) -> Checkpoint | None:
        """The newest checkpoint in `directory`, or None."""
        paths = sorted(directory.glob("epoch-*"))
        if not paths:
            return None
        return cls(paths[-1], read_json(paths[-1] / _HISTORY))

    @property
    def epoch(self) -> int:
        """The number of finished epochs."""
        return len(self.history)

    def restore(self, model: keras.Model) -> None:
        """Loads the weights, with the optimizer's, into a compiled model."""
        try:
            model.load_weights(self.path / _WEIGHTS)
        except (ValueError, OSError) as error:
            raise ContractError(
                "The checkpoint must fit the model of the run's configuration. "
                f"Received: {self.path} ({error})"
            ) from error


class SaveCheckpoint(keras.callbacks.Callback):
    """Saves the state after every epoch, and the model whenever it is the best so far.

    Both appear whole or not at all, so training can be killed at any moment.

    Args:
        directory: Where to.
        history: The metrics of the epochs before; added to.
        monitor: The metric that decides, larger being better; None takes the last epoch
            for the best.
    """

    best_model = "best.keras"

    def __init__(
        self, directory: Path, history: list[dict[str, float]], monitor: str | None
    ) -> None:
        super().__init__()
        self._directory = directory
        self.history = history
        self._monitor = monitor

    @property
    def best_epoch(self) -> int:
        """The best epoch's index, counted from 0."""
        if self._monitor is None:
            return len(self.history) - 1
        values = [epoch[self._monitor] for epoch in self.history]
        return int(np.argmax(values))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Saves."""
        self.history.append(
            {name: float(value) for name, value in (logs or {}).items()}
        )
        if self.best_epoch == len(self.history) - 1:
            temporary = self._directory / ".best.tmp.keras"
            self.model.save(temporary)
            temporary.replace(self._directory / self.best_model)
        older = list(self._directory.glob("epoch-*"))
        path = self._directory / f"epoch-{len(self.history):04d}"
        if path.exists():  # pragma: no cover - a clean-up that was cut off
            shutil.rmtree(path)
        with staged_directory(path) as staging:
            self.model.save_weights(staging / _WEIGHTS)
            write_json(staging / _HISTORY, self.history)
        for stale in older:
            shutil.rmtree(stale)


class ReplayedEarlyStopping(keras.callbacks.EarlyStopping):
    """Early stopping that has seen the epochs before a resumed run.

    Args:
        history: The metrics of the epochs before.
        **kwargs: Of `keras.callbacks.EarlyStopping`.
    """

    def __init__(self, history: list[dict[str, float]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._past = list(history)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Counts the past epochs as if they had just run."""
        super().on_train_begin(logs)
        for epoch, past_logs in enumerate(self._past):
            self.on_epoch_end(epoch, past_logs)
        # With a smaller patience the past may have a gap at which it would have stopped.
        # It did not, and what counts is how long ago the best epoch was.
        self.model.stop_training = False
        self.stopped_epoch = 0


class ReseedEveryEpoch(keras.callbacks.Callback):
    """Makes an epoch's dropout masks and draws depend on the seed and its number alone.

    Keras saves no random state with the weights; so a resumed run would otherwise draw
    others than one that was never stopped.

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Sets the state of all random generators of the model."""
        states = [v for v in self.model.variables if "seed_generator_state" in v.path]
        for index, state in enumerate(states):
            entropy = np.random.SeedSequence([self._seed, epoch, index])
            state.assign(entropy.generate_state(2).astype(state.dtype))


class StopOnNaN(keras.callbacks.Callback):
    """Ends a training whose loss is not a number, with a message.

    It names the terms of the loss, the step and the epoch; with `steps_per_execution` the
    last of the steps that ran at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes the epoch."""
        self._epoch = epoch

    def on_train_batch_end(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        """Checks the running means of the loss and its terms."""
        self._check(logs or {}, f"at step {batch + 1} of epoch {self._epoch + 1}")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Checks the means of the epoch, for loops that read no other."""
        self._check(logs or {}, f"in epoch {epoch + 1}")

    def _check(self, logs: dict[str, float], where: str) -> None:
        if math.isfinite(float(logs.get("loss", 0.0))):
            return
        broken = [
            name for name, value in logs.items() if not math.isfinite(float(value))
        ]
        # The total is broken whichever term is.
        terms = [name for name in broken if name != "loss"] or broken
        raise StageError(
            "The loss must stay finite; a lower learning_rate may help. Received: "
            f"{', '.join(terms)} not finite {where}"
        )


class ReportProgress(keras.callbacks.Callback):
    """Shows the steps of each epoch, and a line when it ends.

    Args:
        steps: Where to.
        epochs: How many there are to be at most.
        monitor: The metric to name beside the loss, or None.
    """

    def __init__(self, steps: Steps, epochs: int, monitor: str | None) -> None:
        super().__init__()
        self._steps = steps
        self._epochs = epochs
        self._monitor = monitor
        self._name = ""
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the epoch's bar."""
        self._name = f"Epoch {epoch + 1}/{self._epochs}"
        self._started = time.monotonic()
        self._steps.start(self._name, self.params["steps"])

    def on_train_batch_end(
        self, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        """Advances it."""
        self._steps.note(self._name, f"loss {float((logs or {})['loss']):.4f}")
        self._steps.advance(self._name)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Says how it went."""
        logs = logs or {}
        parts = [f"loss {logs['loss']:.4f}"]
        if self._monitor is not None:
            parts.append(f"{self._monitor} {logs[self._monitor]:.4f}")
        parts.append(f"{time.monotonic() - self._started:.0f} s")
        self._steps.finish(self._name)
        say(f"{self._name}: {', '.join(parts)}")
