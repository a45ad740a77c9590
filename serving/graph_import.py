"""A graph imported piece by piece, so that a server can answer meanwhile.

TensorFlow imports a graph with the interpreter's lock held: a tenth of a second in which no
thread of Python runs, and every request waits. Most of it goes into the functions that are
called: for each call, TensorFlow works out the shapes of all that is called within. Between
two pieces others have their turn.
"""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.python.saved_model import constants

__all__ = ["can_be_split", "import_by_piece"]

_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
# A piece of functions, a few milliseconds.
_MOST_NODES = 200


def can_be_split(meta_graph: meta_graph_pb2.MetaGraphDef) -> bool:
    """Whether a graph is one that `tf.saved_model.save` writes.

    TensorFlow 1 kept what belongs to a graph in collections, and only the whole import
    brings those back. TensorFlow 2 has one of them left, for older readers: what is to
    run at the end of loading, which is a signature, too.

    Args:
        meta_graph: Of a SavedModel.
    """
    collections = set(meta_graph.collection_def)
    if constants.INIT_OP_SIGNATURE_KEY in meta_graph.signature_def:
        collections.discard(constants.MAIN_OP_KEY)
    return meta_graph.HasField("object_graph_def") and not collections


def import_by_piece(meta_graph: meta_graph_pb2.MetaGraphDef) -> None:
    """Adds a graph to the default one, as `tf.import_graph_def(…, name="")` does.

    Args:
        meta_graph: The graph, and the definitions of its operations.
    """
    graph = tf.compat.v1.get_default_graph()
    operations = meta_graph.meta_info_def.stripped_op_list
    for piece in _pieces(meta_graph.graph_def):
        # What the last calls are given stands in the graph already.
        inputs = {
            name: graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
            for name in _outside_inputs(piece)
        }
        tf.graph_util.import_graph_def(
            piece, name="", input_map=inputs, producer_op_list=operations
        )


def _pieces(whole: graph_pb2.GraphDef) -> Iterator[graph_pb2.GraphDef]:
    """The functions, some at a time; all nodes but the last calls; each of those."""
    piece = graph_pb2.GraphDef(versions=whole.versions)
    num_nodes = 0
    for function in whole.library.function:
        piece.library.function.append(function)
        num_nodes += len(function.node_def)
        if num_nodes >= _MOST_NODES:
            yield piece
            piece = graph_pb2.GraphDef(versions=whole.versions)
            num_nodes = 0
    last = _last_calls(whole)
    piece.library.gradient.extend(whole.library.gradient)
    piece.node.extend(node for node in whole.node if node.name not in last)
    yield piece
    for node in whole.node:
        if node.name in last:
            yield graph_pb2.GraphDef(versions=whole.versions, node=[node])


def _last_calls(whole: graph_pb2.GraphDef) -> set[str]:
    """Names of the calls that no other node needs, as those of signatures are.

    Not those that come after a node which has no output, since a piece cannot name it; and
    not those whose name is another's scope, since that name would be taken.
    """
    needed: set[str] = set()
    scopes: set[str] = set()
    for node in whole.node:
        needed.update(_source(name) for name in node.input)
        parts = node.name.split("/")
        scopes.update("/".join(parts[:end]) for end in range(1, len(parts)))
    return {
        node.name
        for node in whole.node
        if node.op in _CALLS
        and node.name not in needed
        and node.name not in scopes
        and not any(name.startswith("^") for name in node.input)
    }


def _outside_inputs(piece: graph_pb2.GraphDef) -> set[str]:
    inside = {node.name for node in piece.node}
    return {
        name
        for node in piece.node
        for name in node.input
        if _source(name) not in inside
    }


def _source(name: str) -> str:
    return name.removeprefix("^").partition(":")[0]
