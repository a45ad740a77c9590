"""Graphs imported piece by piece, beside those imported at one go."""

from __future__ import annotations

import pytest
import tensorflow as tf
from tensorflow.python.saved_model.loader_impl import parse_saved_model

from adaptiverec.serving import graph_import
from adaptiverec.serving.graph_import import can_be_split, import_by_piece


class Calls(tf.Module):
    """Functions that call functions, and state that they read after changing it."""

    def __init__(self) -> None:
        self.count = tf.Variable(0)

    @tf.function
    def inner(self, x):
        return tf.cond(tf.reduce_sum(x) > 0, lambda: x + 1, lambda: x - 1)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def outer(self, x):
        self.count.assign_add(1)
        return {
            "y": self.inner(x) * self.inner(2 * x),
            "count": self.count.read_value(),
        }


def meta_graph_of(path):
    (meta_graph,) = parse_saved_model(str(path)).meta_graphs
    return meta_graph


@pytest.fixture
def calls(tmp_path):
    """It, under two signatures."""
    module = Calls()
    signatures = {"serving_default": module.outer, "serving": module.outer}
    tf.saved_model.save(module, str(tmp_path / "calls"), signatures=signatures)
    return meta_graph_of(tmp_path / "calls")


def imported(meta_graph, importing):
    with tf.Graph().as_default() as graph:
        importing(meta_graph)
        return graph.as_graph_def()


def at_one_go(meta_graph):
    tf.graph_util.import_graph_def(
        meta_graph.graph_def,
        name="",
        producer_op_list=meta_graph.meta_info_def.stripped_op_list,
    )


def assert_same_graph(found, expected):
    def by_name(graph):
        nodes = {node.name: node for node in graph.node}
        functions = {each.signature.name: each for each in graph.library.function}
        return nodes, functions, list(graph.library.gradient)

    assert by_name(found) == by_name(expected)


def test_the_graph_of_an_export_is_the_same(exported):
    meta_graph = meta_graph_of(exported)
    assert can_be_split(meta_graph)
    assert_same_graph(
        imported(meta_graph, import_by_piece), imported(meta_graph, at_one_go)
    )


@pytest.mark.parametrize("most_nodes", [1, 10_000])
def test_the_graph_of_calls_within_calls_is_the_same(calls, monkeypatch, most_nodes):
    monkeypatch.setattr(graph_import, "_MOST_NODES", most_nodes)
    # One is needed by another, one comes after a node without an output, and one has the
    # name of a scope.
    call = next(n for n in calls.graph_def.node if n.name == "StatefulPartitionedCall")
    for name in ("scope", "late"):
        copy = calls.graph_def.node.add()
        copy.CopyFrom(call)
        copy.name = name
    copy.input.append("^nothing")
    calls.graph_def.node.add(name="nothing", op="NoOp", input=["^scope/one"])
    calls.graph_def.node.add(name="scope/one", op="NoOp")
    assert_same_graph(imported(calls, import_by_piece), imported(calls, at_one_go))


def test_the_call_of_each_signature_comes_alone(exported, monkeypatch):
    pieces = []
    whole = tf.graph_util.import_graph_def

    def import_graph_def(piece, **kwargs):
        pieces.append([node.name for node in piece.node])
        return whole(piece, **kwargs)

    monkeypatch.setattr(tf.graph_util, "import_graph_def", import_graph_def)
    meta_graph = meta_graph_of(exported)
    imported(meta_graph, import_by_piece)
    alone = {names[0] for names in pieces if len(names) == 1}
    assert alone >= {
        output.name.partition(":")[0]
        for key, signature in meta_graph.signature_def.items()
        if key != "__saved_model_init_op"
        for output in signature.outputs.values()
    }


def test_what_tensorflow_1_wrote_is_not_split(calls):
    calls.collection_def["variables"].bytes_list.value.append(b"x")
    assert not can_be_split(calls)
    del calls.collection_def["variables"]
    assert can_be_split(calls)
    calls.ClearField("object_graph_def")
    assert not can_be_split(calls)
