"""The requests that a version is warmed up with, signature by signature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    predict_pb2,
    prediction_log_pb2,
)

from adaptiverec.serving import contract

__all__ = ["write_warmup_requests"]

_K = 10
# Alone, and as a server that batches puts them together.
_BATCH_SIZES = (1, 32)


def write_warmup_requests(path: Path, vocabulary: list[str], max_length: int) -> None:
    """Writes a TFRecord file of `PredictionLog`.

    Histories are as long as the model sees, so that memory is taken before the first
    caller comes.

    Args:
        path: The file.
        vocabulary: Raw item ids.
        max_length: The longest history, in items.
    """
    with tf.io.TFRecordWriter(str(path)) as writer:
        for log in _logs(vocabulary, max_length):
            writer.write(log.SerializeToString(deterministic=True))


def _logs(
    vocabulary: list[str], max_length: int
) -> list[prediction_log_pb2.PredictionLog]:
    item_ids = np.resize(np.array(vocabulary[:1000], object), (32, max_length))
    one = item_ids[:1]
    logs = []
    for name in (contract.SIGNATURE, contract.RECOMMEND):
        for size in _BATCH_SIZES:
            logs.append(_predict(name, **_recommend(item_ids[:size])))
    for size in _BATCH_SIZES:
        k = np.full(size, _K, np.int32)
        logs.append(_predict(contract.RECOMMEND_HISTORY, history=item_ids[:size], k=k))
    # What a row without a known item, and one with a limit, take is taken by others.
    odd = _recommend(np.full((1, max_length), "", object))
    logs.append(_predict(contract.SIGNATURE, **odd))
    logs.append(_predict(contract.SIGNATURE, **{**_recommend(one), "allow": one}))
    # Not recommend_ragged: a server that batches refuses its requests, since not all of
    # their tensors have a row for each history, and then would refuse the version.
    logs += [
        _predict(contract.SCORE, history=one, candidates=one),
        _predict(contract.EMBED_SEQUENCE, history=one),
        _predict(contract.EMBED_ITEM, items=one[0]),
        _predict(contract.SIMILAR_ITEMS, items=one[0, :1], k=np.array([_K], np.int32)),
        _classify(one[0].tolist()),
    ]
    return logs


def _recommend(history: np.ndarray) -> dict[str, np.ndarray]:
    size = len(history)
    return {
        "history": history,
        "k": np.full(size, _K, np.int32),
        "exclude": np.full((size, 1), "", object),
        "allow": np.full((size, 1), "", object),
        "exclude_history": np.full(size, True),
    }


def _predict(signature: str, **inputs: Any) -> prediction_log_pb2.PredictionLog:
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        dtype = tf.string if value.dtype == object else value.dtype
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value, dtype, value.shape))
    return prediction_log_pb2.PredictionLog(
        predict_log=prediction_log_pb2.PredictLog(request=request)
    )


def _classify(history: list[str]) -> prediction_log_pb2.PredictionLog:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.signature_name = contract.CLASSIFY
    example = request.input.example_list.examples.add()
    values = [item.encode() for item in history]
    example.features.feature["history"].bytes_list.value.extend(values)
    return prediction_log_pb2.PredictionLog(
        classify_log=prediction_log_pb2.ClassifyLog(request=request)
    )
