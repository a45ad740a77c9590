"""Reads a SavedModel into a session, and trusts nothing that its directory says."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.saved_model import loader_impl

from adaptiverec.serving.export_check import check_export
from adaptiverec.serving.graph_import import can_be_split, import_by_piece
from adaptiverec.serving.status import RequestError, status_code

__all__ = ["check_directory", "load_saved_model"]

# What a graph with weights has. A SavedModel that has lost them loads without a word, and
# then fails with every request.
_VARIABLE_OPS = frozenset({"VarHandleOp", "VariableV2", "Variable"})


def check_directory(path: Path, servable: str) -> None:
    """Raises unless there is a directory whose size can be found out.

    Before it loads a version, tensorflow_model_server adds up how large its files are. A
    file with a number for its name, or a link to nothing, is found out there.

    Args:
        path: What has a number for its name.
        servable: Which version of which model, for the message.

    Raises:
        RequestError: INTERNAL, with tensorflow_model_server's words.
    """
    reason = f"{path} not found"
    if path.exists():
        try:
            os.scandir(path).close()
            return
        except OSError as error:
            reason = f"{path}; {error.strerror}"
    raise RequestError(
        grpc.StatusCode.INTERNAL,
        f"Error while attempting to reserve resources to load servable {servable}: "
        f"{reason}",
    )


def load_saved_model(
    path: Path,
    tags: Sequence[str] = (tf.saved_model.SERVING,),
    session_config: config_pb2.ConfigProto | None = None,
) -> tuple[tf.compat.v1.Session, dict[str, meta_graph_pb2.SignatureDef]]:
    """Loads a SavedModel with the runtime that tensorflow_model_server has, too.

    Beyond what that does: nothing outside the directory is read, by a link or by the name
    of an asset; and a directory is refused where something is seen to be missing, or
    changes while it is read. Both make a version that is still being copied a version to
    be tried again, not one that serves.

    Args:
        path: The SavedModel directory.
        tags: Which of its graphs.
        session_config: Threads and memory of the session.

    Returns:
        The session, in a graph of its own, and the signatures by name.

    Raises:
        RequestError: The code and message of TensorFlow, where it cannot be loaded;
            FAILED_PRECONDITION, it leads out of its directory; DATA_LOSS, it has lost its
            variables, or is an export with another vocabulary; UNAVAILABLE, it changed
            meanwhile.
    """
    before = _contents(path)
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph, config=session_config)
    try:
        with graph.as_default(), _without_deprecation_note():
            loader = loader_impl.SavedModelLoader(str(path))
            meta_graph = loader.get_meta_graph_def_from_tags(list(tags))
            _check_contents(meta_graph, path)
            check_export(path)
            _load(loader, session, meta_graph, list(tags))
        if _contents(path) != before:
            raise RequestError(
                grpc.StatusCode.UNAVAILABLE,
                f"The SavedModel changed while it was loaded. Received: {path}",
            )
        # Copies: the meta graph holds the whole graph and is dropped.
        signatures = {}
        for key, signature in meta_graph.signature_def.items():
            signatures[key] = meta_graph_pb2.SignatureDef()
            signatures[key].CopyFrom(signature)
    except Exception as error:
        session.close()
        if isinstance(error, RequestError):
            raise
        raise _load_error(path, tags, error) from error
    # Ops are only looked up from now on.
    graph.finalize()
    return session, signatures


def _load(
    loader: loader_impl.SavedModelLoader,
    session: tf.compat.v1.Session,
    meta_graph: meta_graph_pb2.MetaGraphDef,
    tags: list[str],
) -> None:
    """As the loader's own `load`, which imports the graph at one go."""
    if not can_be_split(meta_graph):
        loader.load(session, tags)
        return
    import_by_piece(meta_graph)
    saver = None
    if meta_graph.HasField("saver_def"):
        saver = tf.compat.v1.train.Saver(saver_def=meta_graph.saver_def)
    loader.restore_variables(session, saver)
    loader.run_init_ops(session, tags)


def _contents(path: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file, and a refusal of what leads out of the directory.

    Links within are fine: to another file of the version, or of the releases beside it.
    """
    home = path.resolve().parent
    contents = {}
    for directory, folders, files in os.walk(path, onerror=_raise):
        for name in [*folders, *files]:
            entry = Path(directory, name)
            if entry.is_symlink() and not entry.resolve().is_relative_to(home):
                raise RequestError(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"A SavedModel must not lead out of its directory. Received: {entry}",
                )
            if name in files:
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue
                contents[str(entry)] = (status.st_size, status.st_mtime_ns)
    return contents


def _raise(error: OSError) -> None:
    code = grpc.StatusCode.PERMISSION_DENIED
    if error.errno == errno.ENOENT:
        code = grpc.StatusCode.NOT_FOUND
    raise RequestError(code, str(error))


def _check_contents(meta_graph: meta_graph_pb2.MetaGraphDef, path: Path) -> None:
    assets = Path(os.path.normpath(path / tf.saved_model.ASSETS_DIRECTORY))
    for asset in meta_graph.asset_file_def:
        file = Path(os.path.normpath(assets / asset.filename))
        if not file.is_relative_to(assets):
            raise RequestError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "An asset must lie in the assets directory of its SavedModel. Received: "
                f"{asset.filename!r}",
            )
        if not file.exists():
            raise RequestError(grpc.StatusCode.NOT_FOUND, f"{file}; No such file")
    index = path / tf.saved_model.VARIABLES_DIRECTORY / "variables.index"
    if not index.exists() and any(
        node.op in _VARIABLE_OPS for node in meta_graph.graph_def.node
    ):
        raise RequestError(
            grpc.StatusCode.DATA_LOSS,
            f"The graph has variables, and there are none at {index}",
        )


def _load_error(path: Path, tags: Sequence[str], error: Exception) -> RequestError:
    if isinstance(error, tf.errors.OpError):
        return RequestError(status_code(error.error_code), error.message)
    # The loader is in Python; these are the C++ loader's codes and words.
    if isinstance(error, RuntimeError):
        wanted = "".join(f"{tag} " for tag in tags)
        return RequestError(
            grpc.StatusCode.NOT_FOUND,
            f"Could not find meta graph def matching supplied tags: {{ {wanted}}}. To "
            "inspect available tag-sets in the SavedModel, please use the SavedModel "
            "CLI: `saved_model_cli`",
        )
    if isinstance(error, OSError | DecodeError):
        for name, kind in (("saved_model.pb", "binary"), ("saved_model.pbtxt", "text")):
            if (path / name).exists():
                return RequestError(
                    grpc.StatusCode.DATA_LOSS,
                    f"Can't parse {path / name} as {kind} proto",
                )
        return RequestError(
            grpc.StatusCode.NOT_FOUND,
            "Could not find SavedModel .pb or .pbtxt at supplied export directory path: "
            f"{path}. Check that the directory exists and that you have the right "
            "permissions for accessing it.",
        )
    return RequestError(grpc.StatusCode.UNKNOWN, f"{type(error).__name__}: {error}")


@contextmanager
def _without_deprecation_note() -> Iterator[None]:
    """The loader is deprecated for training; TensorFlow Serving uses it as ever."""

    def keep(record: logging.LogRecord) -> bool:
        return "is deprecated" not in record.getMessage()

    logger = tf.get_logger()
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
