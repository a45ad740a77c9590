"""The data of a training run: in memory, or streamed from its files."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from adaptiverec.model.instances import evaluation_dataset, training_dataset
from adaptiverec.model.prepared_data import PreparedData
from adaptiverec.model.sampling import sample_users
from adaptiverec.model.sequences import Sequences
from adaptiverec.model.streaming import (
    streaming_evaluation_dataset,
    streaming_training_dataset,
)

__all__ = ["RunData", "naming_damaged_shards", "run_data"]

_VALIDATION_BATCH_SIZE = 256
# Of a batch's targets for all items: 256 MB in float32, of which ranking holds a few.
_VALIDATION_SCORES = 2**26


class RunData(NamedTuple):
    """What a run reads.

    Attributes:
        source: The users' sequences, held or read anew each time.
        training: An epoch of training batches.
        validation: The validation targets, all or those of some users.
    """

    source: PreparedData | Sequences
    training: tf.data.Dataset
    validation: tf.data.Dataset


def run_data(
    prepared: PreparedData,
    configuration: dict[str, Any],
    *,
    same_target: bool,
    initial_epoch: int,
) -> RunData:
    """Makes the datasets of a run.

    Args:
        prepared: The prepared directory.
        configuration: The arguments of the training.
        same_target: Whether the model wants sequences of the same target.
        initial_epoch: The number of the first epoch iterated.

    Returns:
        The data.

    Raises:
        ContractError: A shard is damaged, or they do not hold what the metadata says.
        InvalidValueError: There is no training instance, or an argument is outside its
            rule.
    """
    max_length = configuration["max_length"]
    training = {
        "max_length": max_length,
        "batch_size": configuration["batch_size"],
        "instances": configuration["instances"],
        "same_target": same_target,
        "seed": configuration["seed"],
        "initial_epoch": initial_epoch,
    }
    validation = {
        "max_length": max_length,
        "batch_size": min(
            # Never more than in training, where somebody has found what memory holds.
            configuration["batch_size"],
            _VALIDATION_BATCH_SIZE,
            max(_VALIDATION_SCORES // prepared.num_items, 1),
        ),
    }
    source: PreparedData | Sequences = prepared
    if not configuration["stream"]:
        source = prepared.sequences()
    validated = source
    if configuration["validation_users"] is not None:
        validated, _ = sample_users(
            source,
            "validation",
            configuration["validation_users"],
            np.random.default_rng([configuration["seed"], 4]),
        )
    return RunData(
        source,
        training_dataset(source, **training)
        if isinstance(source, Sequences)
        else streaming_training_dataset(source, **training),
        evaluation_dataset(validated, "validation", **validation)
        if isinstance(validated, Sequences)
        else streaming_evaluation_dataset(validated, "validation", **validation),
    )


@contextmanager
def naming_damaged_shards(source: PreparedData | Sequences) -> Iterator[None]:
    """Finds the shard that is to blame where TensorFlow fails in the block.

    Shards are whole when a training begins; but it may take days.

    Raises:
        ContractError: One is no longer whole; any other failure stays what it is.
    """
    try:
        yield
    except tf.errors.OpError:
        collections.deque(source.blocks(), maxlen=0)
        raise
