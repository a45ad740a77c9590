"""What is measured of a trained model: ranks of every user, and the geometry of vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from sampled_candidates import candidate_ranks, sample_negatives

from adaptiverec.model.ranking import mask_items, target_ranks

__all__ = ["alignment_and_uniformity", "geometry", "measure_ranks"]

# Of a catalogue of fewer than 200 items, a half.
NUM_NEGATIVES = 100
# Of the candidates' draws, the same for all models.
_SEED = 2024
_PAIRS = 200_000


def measure_ranks(
    model: Any, dataset: tf.data.Dataset, popularity: np.ndarray
) -> dict[str, np.ndarray]:
    """Ranks every target under four protocols.

    Args:
        model: An `AdaptiveRec`.
        dataset: Of `evaluation_dataset`; what is drawn depends on its batches.
        popularity: How often each item occurs in training, int `[num_items]`.

    Returns:
        Float32 ranks, `[num_targets]`: in the whole catalogue with seen items `kept` and
        `removed`; and among the target and 100 items drawn outside of the history, by
        popularity (`popular`) and alike (`random`).
    """
    scores_of = tf.function(model.score_by_length)
    weights = {
        "popular": np.concatenate([[0.0], popularity]),
        "random": np.concatenate([[0.0], np.ones(len(popularity))]),
    }
    found: dict[str, list[np.ndarray]] = {}
    for batch, (inputs, targets) in enumerate(dataset):
        seen = inputs["seen_item_ids"]
        # Alone: of the histories' widths each would have a graph of its own.
        scores = scores_of(inputs["item_ids"])
        ranks = {
            "kept": target_ranks(scores, targets).numpy(),
            "removed": target_ranks(mask_items(scores, seen), targets).numpy(),
        }
        generator = np.random.default_rng([_SEED, batch])
        for name, weight in weights.items():
            negatives = sample_negatives(
                seen.numpy(),
                targets.numpy(),
                weight,
                count=min(NUM_NEGATIVES, len(popularity) // 2),
                generator=generator,
            )
            ranks[name] = candidate_ranks(scores.numpy(), targets.numpy(), negatives)
        for name, values in ranks.items():
            found.setdefault(name, []).append(values.astype(np.float32))
    return {name: np.concatenate(values) for name, values in found.items()}


def geometry(model: Any, dataset: tf.data.Dataset) -> dict[str, float]:
    """Alignment and uniformity (Wang & Isola 2020) of items and sequences.

    Alike are sequences of the same target item, and items that follow one another in a
    history, its last one and the target.

    Args:
        model: An `AdaptiveRec`.
        dataset: Of `evaluation_dataset`.
    """
    encode = tf.function(lambda ids: model.encoder.encode_by_length(ids))
    vectors, targets, last = [], [], []
    for inputs, target in dataset:
        item_ids = inputs["item_ids"].numpy()
        vectors.append(encode(inputs["item_ids"]).numpy())
        targets.append(target.numpy())
        ends = np.maximum((item_ids != 0).sum(axis=1) - 1, 0)
        last.append(item_ids[np.arange(len(ends)), ends])
    target, previous = np.concatenate(targets), np.concatenate(last)
    order = np.argsort(target, kind="stable")
    same = target[order][1:] == target[order][:-1]
    items = np.asarray(model.encoder.item_vectors)
    of_sequences = alignment_and_uniformity(
        np.concatenate(vectors), order[1:][same], order[:-1][same]
    )
    of_items = alignment_and_uniformity(items, target - 1, previous - 1)
    return {
        "sequence_alignment": of_sequences[0],
        "sequence_uniformity": of_sequences[1],
        "item_alignment": of_items[0],
        "item_uniformity": of_items[1],
    }


def alignment_and_uniformity(
    vectors: np.ndarray, first: np.ndarray, second: np.ndarray
) -> tuple[float, float]:
    """``E|x - x+|^2`` and ``log E e^{-2|x - y|^2}`` on the unit sphere.

    Args:
        vectors: Float `[count, dim]`.
        first: Rows of the alike pairs, int `[pairs]`.
        second: Likewise.

    Returns:
        Both; the second over random pairs of different rows.
    """
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    generator = np.random.default_rng(_SEED)
    x = generator.integers(0, len(unit), _PAIRS)
    y = (x + generator.integers(1, len(unit), _PAIRS)) % len(unit)

    def squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.square(unit[a] - unit[b]).sum(axis=1)

    alignment = float(squares(first, second).mean())
    return alignment, float(np.log(np.exp(-2.0 * squares(x, y)).mean()))
