"""What a training run notes after every epoch for its report, on a fixed small sample.

The logs of an epoch are means over its batches, under dropout. What is noted here is
measured at the epoch's end, without dropout, on the same sequences each time; so epochs can
be compared, and systems without a contrastive term have the figures too. It draws no random
number of the model's, so a run with it is the run without it.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from adaptiverec.common.files import read_json, write_json
from adaptiverec.model.sampling import sample_instances
from adaptiverec.model.sequences import SequenceSource

__all__ = [
    "QUANTILES",
    "THRESHOLD_QUANTILES",
    "DiagnosticSample",
    "RecordDiagnostics",
    "alignment",
    "read_diagnostics",
    "uniformity",
]

# Of the similarities of N: 0 %, 1 %, … 100 %.
QUANTILES = np.linspace(0.0, 1.0, 101)
THRESHOLD_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_NUM_SEQUENCES = 512
_NUM_ITEMS = 1024


@dataclasses.dataclass(frozen=True)
class DiagnosticSample:
    """Training instances and items to measure at the end of every epoch.

    Attributes:
        item_ids: Histories, int32 `[sample, max_length]`, padded at the end with 0.
        same_target_item_ids: For each, another history with the same target item, or
            itself where there is none; of the same shape.
        targets: Dense item ids, int32 `[sample]`.
        items: Dense item ids, drawn from the catalogue, int32 `[items]`.
    """

    item_ids: np.ndarray
    same_target_item_ids: np.ndarray
    targets: np.ndarray
    items: np.ndarray

    @classmethod
    def draw(
        cls,
        source: SequenceSource,
        *,
        num_items: int,
        max_length: int,
        seed: int,
        size: int = _NUM_SEQUENCES,
    ) -> DiagnosticSample:
        """Draws training instances, each as likely as any other.

        Args:
            source: The users' sequences, which are read twice.
            num_items: Size of the catalogue.
            max_length: The last so many items of a history are seen.
            seed: The draw depends on it alone.
            size: How many instances at most.

        Returns:
            The sample.
        """
        generator = np.random.default_rng([seed, 1])
        drawn = sample_instances(
            source,
            size,
            num_items=num_items,
            max_length=max_length,
            generator=generator,
        )
        items = generator.choice(
            num_items, size=min(_NUM_ITEMS, num_items), replace=False
        )
        return cls(*drawn, np.sort(items + 1).astype(np.int32))


def alignment(x: np.ndarray, y: np.ndarray) -> float:
    """``E |x - y|^2`` of pairs on the unit sphere (Wang & Isola 2020).

    Args:
        x: Float array of shape `[pairs, hidden_dim]`.
        y: Its partners, of the same shape.

    Returns:
        From 0, every pair the same, to 4.
    """
    return float(np.mean(np.sum(np.square(_unit(x) - _unit(y)), axis=1)))


def uniformity(x: np.ndarray) -> float:
    """``log E e^{-2 |x - y|^2}`` over pairs of different rows (Wang & Isola 2020).

    Args:
        x: Float array of shape `[rows, hidden_dim]`.

    Returns:
        From 0, all rows the same, downwards; NaN for fewer than two rows.
    """
    if len(x) < 2:
        return float("nan")
    return _uniformity_of_cosines(_unit(x) @ _unit(x).T)


def _uniformity_of_cosines(cosines: np.ndarray) -> float:
    different = ~np.eye(len(cosines), dtype=bool)
    return float(np.log(np.mean(np.exp(4.0 * cosines[different] - 4.0))))


def _unit(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


class RecordDiagnostics(keras.callbacks.Callback):
    """Writes a small JSON file after every epoch.

    It holds the quantiles of the in-batch similarities of ``N``, the sample being the
    batch; quantiles of the thresholds, where the model has any; alignment and uniformity
    of sequences and items; and how long the epoch took.

    Args:
        directory: Where to; made if it is not there.
        sample: What to measure on.
    """

    def __init__(self, directory: Path, sample: DiagnosticSample) -> None:
        super().__init__()
        self._directory = directory
        self._sample = sample
        self._encode: Any = None
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes the time."""
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Measures and writes."""
        seconds = time.monotonic() - self._started
        self._directory.mkdir(exist_ok=True)
        figures = {"epoch": epoch + 1, "seconds": round(seconds, 2), **self._measure()}
        write_json(self._directory / _file_of(epoch + 1), figures)

    def _measure(self) -> dict[str, Any]:
        model, sample = self.model, self._sample
        if self._encode is None:
            self._encode = tf.function(model.encoder.encode_by_length)
        both = np.concatenate([sample.item_ids, sample.same_target_item_ids])
        z = np.asarray(self._encode(tf.constant(both)), np.float64)
        z1, z2 = np.split(z, 2)
        last = sample.item_ids[
            np.arange(len(z1)), (sample.item_ids != 0).sum(axis=1) - 1
        ]

        def vectors_of(item_ids: np.ndarray) -> np.ndarray:
            # A few rows: the whole table may be gigabytes.
            table = model.encoder.item_embedding.embeddings
            return np.asarray(tf.gather(table, item_ids))

        cosines = _unit(z) @ _unit(z).T
        # N(i): neither the row itself nor its twin.
        in_n = np.tile(~np.eye(len(z1), dtype=bool), (2, 2))
        figures: dict[str, Any] = {
            "num_sequences": len(z1),
            "similarity_quantiles": (
                _rounded(np.quantile(cosines[in_n], QUANTILES)) if len(z1) > 1 else []
            ),
            "sequence_alignment": alignment(z1, z2),
            "sequence_uniformity": uniformity(z1),
            "item_alignment": alignment(vectors_of(last), vectors_of(sample.targets)),
            "item_uniformity": uniformity(vectors_of(sample.items)),
        }
        threshold = getattr(model.contrast, "threshold", None)
        if threshold is not None:
            # As in training, which computes them from the first view.
            k = np.asarray(threshold(tf.constant(z1, tf.float32)), np.float64)
            figures["threshold_quantiles"] = _rounded(
                np.quantile(k, THRESHOLD_QUANTILES)
            )
        return {name: _for_json(value) for name, value in figures.items()}


def read_diagnostics(directory: Path, num_epochs: int) -> list[dict[str, Any]]:
    """What was noted of the first epochs.

    Args:
        directory: That of :class:`RecordDiagnostics`.
        num_epochs: How many epochs the run has finished; a file of a later one is left
            from an epoch that was cut off before its checkpoint, and not read.

    Returns:
        A dictionary an epoch, ascending; none for epochs without a file.
    """
    paths = (directory / _file_of(epoch + 1) for epoch in range(num_epochs))
    return [read_json(path) for path in paths if path.is_file()]


def _file_of(epoch: int) -> str:
    return f"epoch-{epoch:04d}.json"


def _for_json(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    # JSON has no word for what cannot be measured.
    return round(value, 6) if np.isfinite(value) else None


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values]
