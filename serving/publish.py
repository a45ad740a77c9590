"""What `adaptiverec export` does: save, reload elsewhere, compare, rename."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tensorflow as tf

from adaptiverec.common.errors import OutputError, OutputExistsError
from adaptiverec.common.files import staged_directory, write_json
from adaptiverec.common.progress import say, steps
from adaptiverec.model.adaptive_rec import AdaptiveRec
from adaptiverec.model.prepared_data import PreparedData
from adaptiverec.model.run import Run
from adaptiverec.model.sequences import Sequences
from adaptiverec.serving import contract
from adaptiverec.serving.parity import Parity, certify, made_up_users, some_users
from adaptiverec.serving.recommender_module import RecommenderModule
from adaptiverec.serving.replay import replay_in_clean_process
from adaptiverec.serving.retrieval import check_retrieval
from adaptiverec.serving.warmup_requests import write_warmup_requests

__all__ = ["publish_version"]

_CLASSIFY_METHOD = "tensorflow/serving/classify"
# The library whose operations a SavedModel with ScaNN needs.
_SCANN_OPERATIONS = "Scann"


@dataclasses.dataclass(frozen=True)
class _Source:
    """What is exported, read once."""

    run: Run
    model: AdaptiveRec
    vocabulary: list[str]
    users: Sequences
    held_out: bool
    retrieval: str


def publish_version(
    run_path: Path,
    base_path: Path,
    *,
    data: str | None,
    retrieval: str,
    parity_users: int,
) -> dict[str, Any]:
    """Exports; see :func:`adaptiverec.serving.export.export`."""
    check_retrieval(retrieval)
    run = Run.open_complete(run_path)
    vocabulary = run.vocabulary()
    popularity = run.popularity()
    if base_path.exists() and not base_path.is_dir():
        raise OutputError(
            f"The base path must be a directory, or not exist yet. Received: {base_path}"
        )
    model = run.load_model()
    held_out = _held_out(run, data, parity_users)
    source = _Source(
        run=run,
        model=model,
        vocabulary=vocabulary,
        users=held_out
        or made_up_users(model.num_items, model.max_length, parity_users),
        held_out=held_out is not None,
        retrieval=retrieval,
    )
    while True:
        path = base_path / str(_next_version(base_path))
        try:
            with steps() as progress, staged_directory(path) as staging:
                progress.start("Exporting", 3)
                exact = _save(staging, source, popularity)
                progress.advance("Exporting")
                _write_extras(staging, source)
                progress.advance("Exporting")
                parity = _compare(staging, source, exact)
                _write_certificate(staging, source, parity)
                progress.advance("Exporting")
        except OutputExistsError:
            # Another export published this version meanwhile.
            continue
        break
    say(
        f"{parity.agreeing_users} of {parity.users} "
        f"{'held-out' if source.held_out else 'made-up'} histories have the same "
        f"{parity.k} best items offline and in the reloaded SavedModel."
    )
    say(f"Published version {path.name}: {path}")
    return {"path": str(path), "version": int(path.name)}


def _next_version(base_path: Path) -> int:
    if not base_path.is_dir():
        return 1
    versions = [int(path.name) for path in base_path.iterdir() if path.name.isdecimal()]
    return max(versions, default=0) + 1


def _held_out(run: Run, data: str | None, count: int) -> Sequences | None:
    if data is None:
        return None
    prepared = PreparedData.open(data)
    run.check_data(prepared)
    return some_users(prepared, count)


def _save(directory: Path, source: _Source, popularity: Any) -> bool:
    """Saves the SavedModel; says whether its retrieval is exact."""
    # The file is gone before the SavedModel is loaded again: it must carry its own copy.
    with tempfile.TemporaryDirectory() as temporary:
        vocabulary_path = Path(temporary) / contract.VOCABULARY
        text = "".join(f"{item}\n" for item in source.vocabulary)
        vocabulary_path.write_bytes(text.encode("utf-8"))
        module = RecommenderModule(
            source.model,
            str(vocabulary_path),
            popularity=popularity,
            retrieval=source.retrieval,
            fingerprint=source.run.fingerprint,
            **source.run.id_normalization,
        )
        tf.saved_model.save(
            module,
            str(directory),
            signatures=module.signatures(),
            options=tf.saved_model.SaveOptions(namespace_whitelist=[_SCANN_OPERATIONS]),
        )
    # TensorFlow 2 writes all signatures as Predict's.
    names = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(
        str(directory)
    )
    names.replace_method_name(contract.CLASSIFY, _CLASSIFY_METHOD)
    names.save()
    return module.is_exact


def _write_extras(directory: Path, source: _Source) -> None:
    extra = directory / contract.EXTRA_DIRECTORY
    extra.mkdir()
    write_warmup_requests(
        extra / contract.WARMUP_REQUESTS, source.vocabulary, source.model.max_length
    )
    write_json(
        extra / contract.RECORD,
        {
            "schema_version": contract.SCHEMA_VERSION,
            "producer": f"adaptiverec {version('adaptiverec')}",
            "tensorflow": tf.__version__,
            "run_fingerprint": source.run.fingerprint,
            "data_fingerprint": source.run.record["data"]["fingerprint"],
            "vocabulary_sha256": source.run.record["data"]["vocabulary_sha256"],
            "id_normalization": source.run.id_normalization,
            "retrieval": source.retrieval,
            "num_items": len(source.vocabulary),
            "max_length": source.model.max_length,
        },
    )


def _compare(directory: Path, source: _Source, exact: bool) -> Parity:
    """Raises :class:`StageError` unless the SavedModel answers as the evaluation does."""
    return certify(
        source.model,
        source.vocabulary,
        source.users,
        functools.partial(replay_in_clean_process, directory),
        exact=exact,
    )


def _write_certificate(directory: Path, source: _Source, parity: Parity) -> None:
    write_json(
        directory / contract.EXTRA_DIRECTORY / contract.PARITY,
        {
            "schema_version": contract.SCHEMA_VERSION,
            "histories": "held out" if source.held_out else "made up",
            **dataclasses.asdict(parity),
            "run_fingerprint": source.run.fingerprint,
            "data_fingerprint": source.run.record["data"]["fingerprint"],
            "vocabulary_sha256": source.run.record["data"]["vocabulary_sha256"],
        },
    )
