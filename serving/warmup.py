"""The requests that a SavedModel brings along, to be run before it serves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from adaptiverec.serving.status import RequestError

__all__ = ["has_warmup", "run_warmup"]

# Where tensorflow_model_server looks, and how many records it takes.
_WARMUP_FILE = Path("assets.extra", "tf_serving_warmup_requests")
_MAX_RECORDS = 1000


def has_warmup(path: Path) -> bool:
    """Whether a SavedModel brings such a file along.

    Args:
        path: The SavedModel directory.
    """
    return (path / _WARMUP_FILE).exists()


def run_warmup(
    path: Path,
    answer: Callable[[prediction_log_pb2.PredictionLog], None],
    iterations: int = 1,
) -> int:
    """Runs the warm-up file of a SavedModel, a TFRecord file of PredictionLog.

    Args:
        path: The SavedModel directory; it must have such a file.
        answer: Answers one record's request; a :class:`RequestError` ends the warm-up.
        iterations: How often each is answered.

    Returns:
        How many records there were.

    Raises:
        RequestError: That of a request; or the file cannot be read, has a record that is
            no PredictionLog, or more than 1,000.
    """
    file = path / _WARMUP_FILE
    # Not in a graph that the caller is building.
    with tf.init_scope():
        records = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    count = 0
    while True:
        try:
            record = next(records, None)
        except tf.errors.DataLossError as error:
            raise RequestError(
                grpc.StatusCode.DATA_LOSS,
                f"{error.message}. Please verify your warmup data is in TFRecord format.",
            ) from error
        if record is None:
            return count
        log = _log(record, file)
        for _ in range(iterations):
            answer(log)
        count += 1
        if count > _MAX_RECORDS:
            raise RequestError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"Number of warmup records exceeds the maximum ({_MAX_RECORDS}) at "
                f"{file}",
            )


def _log(record: bytes, file: Path) -> prediction_log_pb2.PredictionLog:
    try:
        return prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError as error:
        # Without the record itself: it may be somebody's history.
        raise RequestError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"Failed to parse warmup record from {file}",
        ) from error
