"""The requests that a SavedModel brings along to be run before it serves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from adaptiverec.serving.status import RequestError

__all__ = ["warmup_requests"]

# Where tensorflow_model_server looks, and how many records it takes.
_WARMUP_FILE = Path("assets.extra", "tf_serving_warmup_requests")
_MAX_RECORDS = 1000


def warmup_requests(path: Path) -> Iterator[predict_pb2.PredictRequest]:
    """Reads the warm-up file of a SavedModel, a TFRecord file of PredictionLog.

    Args:
        path: The SavedModel directory.

    Yields:
        The requests in order; none where there is no such file.

    Raises:
        RequestError: The file cannot be read, has a record that is no PredictLog, or
            more than 1,000.
    """
    file = path / _WARMUP_FILE
    if not file.exists():
        return
    # Not in a graph that the caller is building.
    with tf.init_scope():
        records = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    for count in range(_MAX_RECORDS + 1):
        try:
            record = next(records, None)
        except tf.errors.DataLossError as error:
            raise RequestError(
                grpc.StatusCode.DATA_LOSS,
                f"{error.message}. The warm-up file must be in TFRecord format.",
            ) from error
        if record is None:
            return
        if count == _MAX_RECORDS:
            raise RequestError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"Number of warmup records exceeds the maximum ({_MAX_RECORDS}) at "
                f"{file}",
            )
        yield _request(record, file)


def _request(record: bytes, file: Path) -> predict_pb2.PredictRequest:
    try:
        log = prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError as error:
        raise RequestError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"Failed to parse warmup record from {file}",
        ) from error
    kind = log.WhichOneof("log_type")
    if kind != "predict_log":
        raise RequestError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"Unsupported log_type for warmup: {kind} in {file}",
        )
    return log.predict_log.request
