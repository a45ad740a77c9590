"""What `adaptiverec export` does: save, reload elsewhere, compare, rename."""

from __future__ import annotations

import random
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from adaptiverec.common.errors import OutputError, OutputExistsError, StageError
from adaptiverec.common.files import staged_directory, write_json
from adaptiverec.common.progress import say, steps
from adaptiverec.model.adaptive_rec import AdaptiveRec
from adaptiverec.model.run import Run
from adaptiverec.serving import contract
from adaptiverec.serving.recommender_module import RecommenderModule
from adaptiverec.serving.replay import replay_in_clean_process

__all__ = ["publish_version"]

_NUM_COMPARED = 100
_COMPARED_K = 10
# Between two orders of float32 summation; far below what ranks items apart.
_SCORE_TOLERANCE = 1e-4


def publish_version(run_path: Path, base_path: Path) -> dict[str, Any]:
    """Exports; see :func:`adaptiverec.serving.export.export`."""
    run = Run.open_complete(run_path)
    vocabulary = run.vocabulary()
    if base_path.exists() and not base_path.is_dir():
        raise OutputError(
            f"The base path must be a directory, or not exist yet. Received: {base_path}"
        )
    model = run.load_model()
    while True:
        path = base_path / str(_next_version(base_path))
        try:
            with steps() as progress, staged_directory(path) as staging:
                progress.start("Exporting", 3)
                _save(staging, model, vocabulary, run.id_normalization)
                progress.advance("Exporting")
                _write_extras(staging, run, model, vocabulary)
                progress.advance("Exporting")
                _compare(staging, model, vocabulary)
                progress.advance("Exporting")
        except OutputExistsError:
            # Another export published this version meanwhile.
            continue
        break
    say(f"Published version {path.name}: {path}")
    return {"path": str(path), "version": int(path.name)}


def _next_version(base_path: Path) -> int:
    if not base_path.is_dir():
        return 1
    versions = [int(path.name) for path in base_path.iterdir() if path.name.isdecimal()]
    return max(versions, default=0) + 1


def _save(
    directory: Path,
    model: AdaptiveRec,
    vocabulary: list[str],
    id_normalization: dict[str, bool],
) -> None:
    # The file is gone before the SavedModel is loaded again: it must carry its own copy.
    with tempfile.TemporaryDirectory() as temporary:
        vocabulary_path = Path(temporary) / contract.VOCABULARY
        text = "".join(f"{item}\n" for item in vocabulary)
        vocabulary_path.write_bytes(text.encode("utf-8"))
        module = RecommenderModule(model, str(vocabulary_path), **id_normalization)
        tf.saved_model.save(
            module,
            str(directory),
            signatures={contract.SIGNATURE: module.recommend},
        )


def _write_extras(
    directory: Path, run: Run, model: AdaptiveRec, vocabulary: list[str]
) -> None:
    extra = directory / contract.EXTRA_DIRECTORY
    extra.mkdir()
    with tf.io.TFRecordWriter(str(extra / contract.WARMUP_REQUESTS)) as writer:
        for batch_size in (1, 32):
            writer.write(_warmup_log(vocabulary, batch_size).SerializeToString())
    write_json(
        extra / contract.RECORD,
        {
            "schema_version": contract.SCHEMA_VERSION,
            "producer": f"adaptiverec {version('adaptiverec')}",
            "run_fingerprint": run.fingerprint,
            "data_fingerprint": run.record["data"]["fingerprint"],
            "vocabulary_sha256": run.record["data"]["vocabulary_sha256"],
            "num_items": len(vocabulary),
            "max_length": model.max_length,
        },
    )


def _warmup_log(
    vocabulary: list[str], batch_size: int
) -> prediction_log_pb2.PredictionLog:
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = contract.SIGNATURE
    histories = [[vocabulary[row % len(vocabulary)]] for row in range(batch_size)]
    request.inputs["history"].CopyFrom(tf.make_tensor_proto(histories))
    request.inputs["k"].CopyFrom(tf.make_tensor_proto([10] * batch_size, tf.int32))
    return prediction_log_pb2.PredictionLog(
        predict_log=prediction_log_pb2.PredictLog(request=request)
    )


def _compare(directory: Path, model: AdaptiveRec, vocabulary: list[str]) -> None:
    """Raises :class:`StageError` unless the SavedModel answers as the model does."""
    dense, raw = _sample_histories(model, vocabulary)
    k = min(_COMPARED_K, model.num_items)
    answer = replay_in_clean_process(directory, raw, k)
    row_of = {item: index + 1 for index, item in enumerate(vocabulary)}
    for ids, history, items, scores in zip(
        dense, raw, answer["items"], answer["scores"], strict=True
    ):
        sequence = np.zeros((1, model.max_length), np.int32)
        recent = ids[-model.max_length :]
        sequence[0, : len(recent)] = recent
        inputs = {"item_ids": sequence, "seen_item_ids": np.array([ids], np.int32)}
        all_scores = np.asarray(model(inputs))[0]
        best = np.asarray(model.recommend(inputs, k)[1])[0]
        served = [row_of[item] for item in items if item]
        expected = best[np.isfinite(best)]
        # By score and not by item: equal scores may stand in either order.
        agrees = (
            len(served) == len(set(served)) == len(expected)
            and not set(served) & set(ids)
            and np.allclose(scores[: len(served)], expected, atol=_SCORE_TOLERANCE)
            and np.allclose(all_scores[served], expected, atol=_SCORE_TOLERANCE)
        )
        if not agrees:
            raise StageError(
                "The reloaded SavedModel must recommend what the Keras model does. "
                f"Received: for the history {history[-5:]} (its end), {items} with "
                f"scores {scores}; expected scores {expected.tolist()}"
            )


def _sample_histories(
    model: AdaptiveRec, vocabulary: list[str]
) -> tuple[list[list[int]], list[list[str]]]:
    """Histories of all lengths, up to longer than the model sees, as dense and raw ids."""
    generator = random.Random(0)
    longest = model.max_length + 5
    dense = [
        [generator.randint(1, model.num_items) for _ in range(1 + index % longest)]
        for index in range(_NUM_COMPARED)
    ]
    raw = [[vocabulary[item_id - 1] for item_id in history] for history in dense]
    return dense, raw
