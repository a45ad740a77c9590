"""What is exported: its layout, its signature, its answers; and what is not published."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.saved_model.loader_impl import parse_saved_model
from tensorflow.python.tools import saved_model_cli
from tensorflow_serving.apis import prediction_log_pb2

from adaptiverec.common.errors import (
    ContractError,
    NotFoundError,
    OutputError,
    StageError,
)
from adaptiverec.model.prepared_data import PreparedData
from adaptiverec.model.run import Run
from adaptiverec.model.train import train
from adaptiverec.pipeline import prepare
from adaptiverec.serving import publish
from adaptiverec.serving.export import export
from adaptiverec.serving.parity import Parity
from adaptiverec.serving.recommender_module import RecommenderModule
from adaptiverec.serving.tfrs_layers import factorized_top_k


@pytest.fixture(scope="module")
def base(run_path, tmp_path_factory) -> Path:
    """A base path with versions 3 and 7, something else, and now an export."""
    path = tmp_path_factory.mktemp("models") / "shop"
    for name in ("3", "7", "next", "9 old"):
        (path / name).mkdir(parents=True)
    assert export(run=str(run_path), output=str(path)) == {
        "path": str(path / "8"),
        "version": 8,
    }
    return path


@pytest.fixture(scope="module")
def version(base) -> Path:
    return base / "8"


@pytest.fixture(scope="module")
def vocabulary(catalogue) -> list[str]:
    return catalogue


@pytest.fixture(scope="module")
def model(trained) -> keras.Model:
    return trained


@pytest.fixture(scope="module")
def ask(version, load_artefact):
    """Asks for histories of any lengths."""
    loaded = load_artefact(version)

    def ask(histories: list[list[str]], k: list[int]) -> dict[str, np.ndarray]:
        width = max(map(len, histories))
        rows = [row + [""] * (width - len(row)) for row in histories]
        return loaded(history=np.reshape(np.array(rows, object), [-1, width]), k=k)

    return ask


@pytest.fixture(scope="module")
def meta_graph(version):
    (graph,) = parse_saved_model(str(version)).meta_graphs
    return graph


def files_under(path: Path) -> dict[str, bytes | None]:
    return {
        str(each.relative_to(path)): each.read_bytes() if each.is_file() else None
        for each in path.rglob("*")
    }


# Layout


def test_the_next_version_and_nothing_else_is_made(base) -> None:
    names = {path.name for path in base.iterdir()}
    assert names == {"3", "7", "8", "9 old", "next"}
    assert all(not any((base / name).iterdir()) for name in names - {"8"})


def test_the_layout_is_tensorflow_servings(version) -> None:
    assert {
        name for name, content in files_under(version).items() if content is not None
    } == {
        "saved_model.pb",
        "fingerprint.pb",
        "variables/variables.index",
        "variables/variables.data-00000-of-00001",
        "assets/vocabulary.txt",
        "assets.extra/tf_serving_warmup_requests",
        "assets.extra/adaptiverec.json",
        "assets.extra/parity.json",
    }


def test_the_vocabulary_is_the_prepared_one(version, prepared_path) -> None:
    published = (version / "assets" / "vocabulary.txt").read_bytes()
    assert published == (prepared_path / "vocabulary.txt").read_bytes()


def test_the_record_names_run_and_data(version, run_path, prepared_path) -> None:
    record = json.loads((version / "assets.extra" / "adaptiverec.json").read_text())
    metadata = json.loads((prepared_path / "metadata.json").read_text())
    vocabulary = (version / "assets" / "vocabulary.txt").read_bytes()
    model_file = (run_path / "model.keras").read_bytes()
    assert record.pop("producer").startswith("adaptiverec ")
    assert record == {
        "schema_version": 2,
        "tensorflow": tf.__version__,
        "run_fingerprint": hashlib.sha256(model_file).hexdigest(),
        "data_fingerprint": metadata["fingerprint"],
        "vocabulary_sha256": hashlib.sha256(vocabulary).hexdigest(),
        "id_normalization": {"trim": False, "lowercase": False},
        "retrieval": "exact",
        "num_items": 100,
        "max_length": 8,
    }


def test_warm_up_requests_are_answered(version, load_artefact) -> None:
    loaded = load_artefact(version)
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    batch_sizes: dict[str, set[int]] = {}
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.WhichOneof("log_type") == "classify_log":
            request = log.classify_log.request
            examples = [
                each.SerializeToString() for each in request.input.example_list.examples
            ]
            answer = loaded(request.model_spec.signature_name, inputs=examples)
            assert all(answer["classes"][0])
        else:
            request = log.predict_log.request
            inputs = {
                name: tf.make_ndarray(proto) for name, proto in request.inputs.items()
            }
            answer = loaded(request.model_spec.signature_name, **inputs)
            assert not answer.get("unknown_items", np.zeros(1)).any()
        sizes = batch_sizes.setdefault(request.model_spec.signature_name, set())
        sizes.add(len(next(iter(answer.values()))))
    assert batch_sizes == {
        "serving_default": {1, 32},
        "recommend": {1, 32},
        "recommend_history": {1, 32},
        "score": {1},
        "embed_sequence": {1},
        "embed_item": {8},
        "similar_items": {1},
        "classify": {1},
    }


def test_the_certificate_tells_what_was_compared(version, run_path) -> None:
    certificate = json.loads((version / "assets.extra" / "parity.json").read_text())
    run = Run.open_complete(run_path)
    assert 0 <= certificate.pop("max_score_difference") < 1e-4
    assert certificate == {
        "schema_version": 2,
        "histories": "made up",
        "users": 1000,
        "k": 10,
        "agreeing_users": 1000,
        "run_fingerprint": run.fingerprint,
        "data_fingerprint": run.record["data"]["fingerprint"],
        "vocabulary_sha256": run.record["data"]["vocabulary_sha256"],
    }


# Signature and graph


ROWS = ("string", [-1, -1])
VALUES = ("string", [-1])
LENGTHS = ("int64", [-1])
K = ("int32", [-1])
FLAGS = ("bool", [-1])
SCORES = ("float32", [-1, -1])
RECOMMENDATIONS = {
    "items": ROWS,
    "scores": SCORES,
    "unknown_items": K,
    "fallback": FLAGS,
    "fingerprint": VALUES,
}
EMBEDDING = {"embedding": ("float32", [-1, 16]), "known": FLAGS}
RECOMMEND = (
    {
        "history": ROWS,
        "k": K,
        "exclude": ROWS,
        "allow": ROWS,
        "exclude_history": FLAGS,
    },
    RECOMMENDATIONS,
)
SIGNATURES = {
    "serving_default": RECOMMEND,
    "recommend": RECOMMEND,
    "recommend_history": ({"history": ROWS, "k": K}, RECOMMENDATIONS),
    "recommend_ragged": (
        {
            "history_values": VALUES,
            "history_lengths": LENGTHS,
            "k": K,
            "exclude_values": VALUES,
            "exclude_lengths": LENGTHS,
            "allow_values": VALUES,
            "allow_lengths": LENGTHS,
            "exclude_history": FLAGS,
        },
        RECOMMENDATIONS,
    ),
    "score": (
        {"history": ROWS, "candidates": ROWS},
        {"scores": SCORES, "known": ("bool", [-1, -1]), "fallback": FLAGS},
    ),
    "embed_sequence": ({"history": ROWS}, EMBEDDING),
    "embed_item": ({"items": VALUES}, EMBEDDING),
    "similar_items": (
        {"items": VALUES, "k": K},
        {"items": ROWS, "scores": SCORES, "known": FLAGS},
    ),
    "classify": ({"inputs": VALUES}, {"classes": ROWS, "scores": SCORES}),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_signatures_are_the_contracts(meta_graph, name) -> None:
    signature = meta_graph.signature_def[name]
    method = "classify" if name == "classify" else "predict"
    assert signature.method_name == f"tensorflow/serving/{method}"

    def described(tensors: Any) -> dict[str, tuple[str, list[int]]]:
        return {
            name: (
                tf.dtypes.as_dtype(tensor.dtype).name,
                [dim.size for dim in tensor.tensor_shape.dim],
            )
            for name, tensor in tensors.items()
        }

    assert (described(signature.inputs), described(signature.outputs)) == (
        SIGNATURES[name]
    )


def test_there_is_no_other_signature(meta_graph) -> None:
    assert set(meta_graph.signature_def) == {*SIGNATURES, "__saved_model_init_op"}


def test_all_inputs_but_the_history_have_defaults(meta_graph) -> None:
    def defaults(name: str) -> dict[str, list]:
        protos = meta_graph.signature_def[name].defaults
        return {key: tf.make_ndarray(proto).tolist() for key, proto in protos.items()}

    expected = {
        "k": [10],
        "exclude": [[b""]],
        "allow": [[b""]],
        "exclude_history": [True],
    }
    assert defaults("serving_default") == defaults("recommend") == expected
    assert defaults("recommend_ragged") == {
        "k": [10],
        "exclude_values": [],
        "exclude_lengths": [0],
        "allow_values": [],
        "allow_lengths": [0],
        "exclude_history": [True],
    }
    assert defaults("similar_items") == {"k": [10]}
    assert defaults("recommend_history") == {}


def test_the_vocabulary_is_the_only_asset(meta_graph) -> None:
    assert [asset.filename for asset in meta_graph.asset_file_def] == ["vocabulary.txt"]


def test_the_item_matrix_is_there_once_and_never_copied(meta_graph, version) -> None:
    variables = tf.train.list_variables(str(version / "variables" / "variables"))
    # Of rows of 16, one more than items, in whole blocks.
    wide = [name for name, shape in variables if shape[1:] == [16] and shape[0] > 16]
    assert len(wide) == 1
    nodes = [
        node
        for function in meta_graph.graph_def.library.function
        for node in function.node_def
    ]
    # It makes every later read of the variable a copy of the whole.
    gathers = [node for node in nodes if node.op == "ResourceGather"]
    assert {node.attr["dtype"].type for node in gathers} == {tf.string.as_datatype_enum}


def test_no_product_is_of_the_kind_that_corrupts_memory(meta_graph) -> None:
    """A batch of products with one row each and a kernel of rank 2."""
    nodes = [
        node
        for function in meta_graph.graph_def.library.function
        for node in function.node_def
    ]
    # All of rank 3 is attention's, of activations alone.
    for function in meta_graph.graph_def.library.function:
        reads = {node.name for node in function.node_def if node.op == "ReadVariableOp"}
        for node in function.node_def:
            if node.op.startswith("BatchMatMul"):
                assert not {name.split(":")[0] for name in node.input} & reads
    assert not [node for node in nodes if node.op in ("Einsum", "Tensordot")]


def test_the_graph_has_stock_operations_alone(meta_graph) -> None:
    assert list(meta_graph.meta_info_def.tags) == ["serve"]
    functions = meta_graph.graph_def.library.function
    nodes = list(meta_graph.graph_def.node)
    nodes += [node for function in functions for node in function.node_def]
    operations = {node.op for node in nodes}
    names = {function.signature.name for function in functions}
    # What runs in Python, or is compiled by XLA, or comes from a library of operations.
    bad = ("PyFunc", "Xla", "XLA", "Scann", ">")
    assert not [op for op in operations - names if any(part in op for part in bad)]
    attributes = {name for node in nodes for name in node.attr}
    attributes |= {name for function in functions for name in function.attr}
    assert "_XlaMustCompile" not in attributes
    # Placed by whoever loads it; only what reads and writes files names the CPU.
    assert all(node.device in ("", "/device:CPU:0", "/device:CPU:*") for node in nodes)
    # The stock server has these, and so does this process without any plug-in.
    registered = set(dir(tf.raw_ops))
    assert operations - names <= registered


# The operations with which models have been asked in the runtimes of TensorFlow 2.14.1 and
# 2.20.0, that of the stock image. Try them there before adding to these.
TRIED = """
AddV2 All Any Assert AssignVariableOp BatchMatMulV2 BiasAdd BroadcastTo Cast ConcatV2 Const
Cumsum DisableCopyOnRead Equal Erfc ExpandDims Fill FloorDiv FloorMod GatherNd GatherV2
Greater GreaterEqual HashTableV2 Identity If InitializeTableFromTextFileV2 Less LessEqual
LogicalAnd LogicalNot LogicalOr LookupTableFindV2 LowerBound MatMul Max Maximum Mean
MergeV2Checkpoints Minimum Mul Neg NoOp NotEqual Pack ParseExampleV2 Placeholder
PlaceholderWithDefault Prod Range ReadVariableOp Reshape ResourceGather RestoreV2 Rsqrt
SaveV2 ScatterNd Select SelectV2 Shape ShardedFilename Size Softmax Split Square Squeeze
StatefulPartitionedCall StatelessWhile StaticRegexFullMatch StridedSlice StringJoin
StringLower StringStrip Sub Sum TensorScatterUpdate Tile TopKV2 Transpose
UnsortedSegmentSum UpperBound VarHandleOp VarIsInitializedOp Where
"""


def test_older_runtimes_can_read_the_graph(meta_graph) -> None:
    functions = meta_graph.graph_def.library.function
    nodes = list(meta_graph.graph_def.node)
    nodes += [node for function in functions for node in function.node_def]
    names = {function.signature.name for function in functions}
    assert {node.op for node in nodes} - names <= set(TRIED.split())
    # An attribute that an older runtime does not know is fine at its default alone.
    assert meta_graph.meta_info_def.stripped_default_attrs
    # TensorFlow 2.14 reads graphs that ask for a version up to 1575.
    assert meta_graph.graph_def.versions.min_consumer <= 1575


def test_it_answers_elsewhere_in_a_process_that_has_tensorflow_alone(
    version, run_path, prepared_path, tmp_path, ask, vocabulary
) -> None:
    elsewhere = Path(shutil.copytree(version, tmp_path / "elsewhere"))
    graph = (elsewhere / "saved_model.pb").read_bytes()
    # Of the run and the vocabulary it was made from nothing is left, not even a path.
    for path in (run_path, prepared_path):
        assert str(path).encode() not in graph
    history = [vocabulary[:3], vocabulary[5:8]]
    code = f"""
import json, sys
import tensorflow as tf
assert not [name for name in sys.modules if name.startswith("adaptiverec")]
signature = tf.saved_model.load({str(elsewhere)!r}).signatures["recommend"]
answer = signature(
    history=tf.constant({history!r}),
    k=tf.constant([4]),
    exclude=tf.constant([[""]]),
    allow=tf.constant([[""]]),
    exclude_history=tf.constant([True]),
)
print(json.dumps([[item.decode() for item in row] for row in answer["items"].numpy()]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    expected = ask(history, [4])["items"]
    assert json.loads(done.stdout) == [
        [item.decode() for item in row] for row in expected
    ]


CLI_HISTORY = "history={0!r};k=[4]"


def test_what_saved_model_cli_calls_runs_it(version, tmp_path, vocabulary, ask) -> None:
    feeds = saved_model_cli.load_inputs_from_input_arg_string(
        "", CLI_HISTORY.format([vocabulary[:3]]), ""
    )
    # It feeds what it is given alone: the rest are the graph's own defaults.
    saved_model_cli.run_saved_model_with_feed_dict(
        str(version), "serve", "serving_default", feeds, str(tmp_path), False
    )
    assert np.load(tmp_path / "items.npy", allow_pickle=True).tolist() == (
        ask([vocabulary[:3]], [4])["items"].tolist()
    )


@pytest.mark.slow
def test_saved_model_cli_runs_it(version, tmp_path, vocabulary, ask) -> None:
    command = [
        str(Path(sys.executable).with_name("saved_model_cli")),
        *("run", "--dir", str(version)),
        *("--tag_set", "serve", "--signature_def", "serving_default"),
        *("--input_exprs", CLI_HISTORY.format([vocabulary[:3]])),
        *("--outdir", str(tmp_path)),
    ]
    subprocess.run(command, capture_output=True, check=True)
    assert np.load(tmp_path / "items.npy", allow_pickle=True).tolist() == (
        ask([vocabulary[:3]], [4])["items"].tolist()
    )


# Answers


@pytest.mark.parametrize("k", [10, 100])
def test_the_answers_are_the_models_for_every_user(
    ask, model, prepared_path, vocabulary, k
) -> None:
    sequences = PreparedData.open(str(prepared_path)).sequences()
    histories = np.split(sequences.items, sequences.starts[1:-1])
    assert len(histories) == 200
    assert max(map(len, histories)) > model.max_length
    recent = np.zeros([200, model.max_length], np.int32)
    seen = np.zeros([200, max(map(len, histories))], np.int32)
    for row, history in enumerate(histories):
        last = history[-model.max_length :]
        recent[row, : len(last)] = last
        seen[row, : len(history)] = history
    inputs = {"item_ids": recent, "seen_item_ids": seen}
    all_scores = np.asarray(model(inputs))
    _, best_scores = map(np.asarray, model.recommend(inputs, k))

    answer = ask([[vocabulary[i - 1] for i in history] for history in histories], [k])
    assert not answer["unknown_items"].any()
    dense = {item.encode(): row + 1 for row, item in enumerate(vocabulary)}
    for row, history in enumerate(histories):
        items = [dense[item] for item in answer["items"][row] if item]
        assert len(items) == min(k, 100 - len(set(history.tolist())))
        assert len(set(items)) == len(items)
        assert not set(items) & set(history.tolist())
        # By scores, since two items of the same score may stand in either order.
        scores = answer["scores"][row, : len(items)]
        np.testing.assert_allclose(scores, best_scores[row, : len(items)], atol=1e-5)
        np.testing.assert_allclose(scores, all_scores[row, items], atol=1e-5)
        assert not answer["scores"][row, len(items) :].any()
        assert not answer["items"][row, len(items) :].any()


def assert_same(one: dict, other: dict) -> None:
    np.testing.assert_array_equal(one["items"], other["items"])
    np.testing.assert_allclose(one["scores"], other["scores"], atol=1e-5)


def test_unknown_items_are_skipped_and_counted(ask, vocabulary) -> None:
    a, b, c = vocabulary[10:13]
    known = ask([[a, b, c]], [5])
    # An id is known as a whole and as it is written.
    mixed = ask([["new", a, "new", b, a.upper(), c, c + " "]], [5])
    assert known["unknown_items"].tolist() == [0]
    assert mixed["unknown_items"].tolist() == [4]
    assert_same(known, mixed)


def test_unknown_items_take_no_place_of_known_ones(ask, vocabulary) -> None:
    # Of more items than the model sees, the last eight that it knows count.
    known = vocabulary[10:18]
    mixed = [part for item in known for part in (item, "new", "newer")]
    answer = ask([[*vocabulary[20:25], *mixed]], [5])
    assert answer["unknown_items"].tolist() == [16]
    np.testing.assert_allclose(
        ask([known], [100])["scores"].max(), answer["scores"].max(), atol=1e-5
    )


def test_padding_anywhere_changes_nothing(ask, vocabulary) -> None:
    a, b, c = vocabulary[10:13]
    plain = ask([[a, b, c]], [5])
    for padded in (
        ["", "", a, b, c],
        ["", a, "", "", b, "", c, ""],
        [a, b, c, *[""] * 30],
    ):
        answer = ask([padded], [5])
        assert_same(answer, plain)
        assert answer["unknown_items"].tolist() == [0]


def test_an_item_that_comes_again_is_a_second_interaction(
    ask, model, vocabulary
) -> None:
    twice = ask([[vocabulary[3], vocabulary[3]]], [3])
    scores = np.asarray(model(np.array([[4, 4]], np.int32)))[0]
    best = np.sort(np.delete(scores, [0, 4]))[::-1][:3]
    np.testing.assert_allclose(twice["scores"][0], best, atol=1e-5)


def test_each_row_is_answered_by_itself_with_its_own_k(ask, vocabulary) -> None:
    histories = [vocabulary[:1], vocabulary[4:16], ["new", vocabulary[30]]]
    answer = ask(histories, [2, 5, 1])
    assert answer["items"].shape == (3, 5)
    assert answer["unknown_items"].tolist() == [0, 0, 1]
    for row, k in enumerate([2, 5, 1]):
        mine = {name: answer[name][row : row + 1, :k] for name in ("items", "scores")}
        assert_same(mine, ask([histories[row]], [k]))
        assert all(answer["items"][row, :k])
        assert not any(answer["items"][row, k:])
        assert not answer["scores"][row, k:].any()


def test_one_k_is_for_all_rows(ask, vocabulary) -> None:
    histories = [vocabulary[:1], vocabulary[4:16]]
    assert_same(ask(histories, [3]), ask(histories, [3, 3]))


# The greatest is what the type holds.
@pytest.mark.parametrize("k", [98, 100, 1000, 2**31 - 1])
def test_more_than_there_are(ask, vocabulary, k) -> None:
    answer = ask([vocabulary[:3], [vocabulary[7], "", ""]], [k, 1])
    items = [item for item in answer["items"][0] if item]
    assert set(items) == {item.encode() for item in vocabulary[3:]}
    assert len(items) == 97
    assert not any(answer["items"][0, 97:])
    assert not answer["scores"][0, 97:].any()
    assert np.all(np.diff(answer["scores"][0, :97]) <= 0)


def test_a_history_of_the_whole_catalogue_leaves_nothing(ask, vocabulary) -> None:
    answer = ask([vocabulary], [4])
    assert answer["items"].tolist() == [[b""] * 4]
    assert answer["scores"].tolist() == [[0.0] * 4]


@pytest.mark.parametrize(
    ("histories", "k", "message"),
    [
        ([["known"]], [0], "[k must be at least 1. Received:] [0]"),
        ([["known"]], [-5], "[k must be at least 1. Received:] [-5]"),
        ([["known"], ["known"]], [3, 0], "[k must be at least 1. Received:] [3 0]"),
        (
            [["known"], ["known"]],
            [1, 2, 3],
            "[k must have one element, or one for each history. Received:] [3] [for "
            "histories:] [2]",
        ),
        (
            [["known"]],
            [],
            "[k must have one element, or one for each history. Received:] [0] [for "
            "histories:] [1]",
        ),
    ],
)
def test_requests_that_are_refused(ask, vocabulary, histories, k, message) -> None:
    rows = [[vocabulary[0]] for _ in histories]
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        ask(rows, k)
    assert message in caught.value.message


# Side effects


def test_keras_is_still_keras_3_beside_tensorflow_recommenders(tmp_path) -> None:
    factorized_top_k()
    assert keras.__version__.startswith("3.")
    assert tf.keras.__version__ == keras.__version__
    assert tf.keras.Model is keras.Model
    assert sys.modules["tensorflow"] is tf
    assert "TF_USE_LEGACY_KERAS" not in os.environ
    small = keras.Sequential([keras.layers.Input([2]), keras.layers.Dense(3)])
    small.compile("adam", "mse")
    small.fit(np.ones([4, 2]), np.ones([4, 3]), verbose=0)
    small.save(tmp_path / "small.keras")
    again = keras.saving.load_model(tmp_path / "small.keras")
    np.testing.assert_array_equal(
        again.predict(np.ones([1, 2]), verbose=0),
        small.predict(np.ones([1, 2]), verbose=0),
    )


# What is not published


@pytest.fixture
def answers_in_process(monkeypatch, load_artefact):
    """Lets a function alter the reloaded model's answers before they are compared."""

    def alter(change) -> None:
        def replay(directory: Path, histories: list[list[str]], k: int) -> dict:
            loaded = load_artefact(directory)
            width = max(map(len, histories))
            rows = [row + [""] * (width - len(row)) for row in histories]
            outputs = loaded(history=np.array(rows, object), k=[k])
            answer = {
                "items": [[item.decode() for item in row] for row in outputs["items"]],
                "scores": outputs["scores"].tolist(),
            }
            change(answer, histories)
            return answer

        monkeypatch.setattr(publish, "replay_in_clean_process", replay)

    return alter


def two_items_change_places(answer: dict, histories: list) -> None:
    row = answer["items"][-1]
    row[0], row[-1] = row[-1], row[0]


def one_score_is_off(answer: dict, histories: list) -> None:
    answer["scores"][7][3] += 0.01


def an_item_is_missing(answer: dict, histories: list) -> None:
    answer["items"][2][-1] = ""


def a_seen_item_comes_back(answer: dict, histories: list) -> None:
    answer["items"][5][0] = histories[5][0]


@pytest.mark.parametrize(
    "change",
    [
        two_items_change_places,
        pytest.param(one_score_is_off, marks=pytest.mark.slow),
        pytest.param(an_item_is_missing, marks=pytest.mark.slow),
        pytest.param(a_seen_item_comes_back, marks=pytest.mark.slow),
    ],
)
def test_a_model_that_answers_otherwise_is_not_published(
    run_path, tmp_path, answers_in_process, change
) -> None:
    answers_in_process(change)
    (tmp_path / "models" / "1").mkdir(parents=True)
    with pytest.raises(StageError) as caught:
        export(run=str(run_path), output=str(tmp_path / "models"))
    assert str(caught.value).startswith(
        "The reloaded SavedModel must recommend what the Keras model does. Received: "
    )
    assert [path.name for path in tmp_path.rglob("*")] == ["models", "1"]


def test_a_model_that_is_not_answered_for_elsewhere_is_not_published(
    run_path, tmp_path, monkeypatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\ncat > /dev/null\necho no such vocabulary >&2\nexit 1")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(
        StageError, match="a process of its own. Received: no such vocabulary$"
    ):
        export(run=str(run_path), output=str(tmp_path / "models"))
    assert not any((tmp_path / "models").iterdir())


@pytest.mark.slow
def test_a_model_that_does_not_load_elsewhere_is_not_published(
    run_path, tmp_path, monkeypatch
) -> None:
    def lose_the_vocabulary(directory: Path, *_: Any) -> None:
        (directory / "assets" / "vocabulary.txt").unlink()

    monkeypatch.setattr(publish, "_write_extras", lose_the_vocabulary)
    (tmp_path / "models").mkdir()
    with pytest.raises(
        StageError, match="must load and answer in a process of its own"
    ):
        export(run=str(run_path), output=str(tmp_path / "models"))
    assert [path.name for path in tmp_path.rglob("*")] == ["models"]


def test_two_exports_at_once_make_two_versions(run_path, tmp_path, monkeypatch) -> None:
    def meanwhile_another_is_published(*_: Any) -> Parity:
        theirs = tmp_path / "1"
        if not theirs.exists():
            theirs.mkdir()
            (theirs / "saved_model.pb").write_text("theirs")
        return Parity(users=1, k=1, max_score_difference=0.0, agreeing_users=1)

    monkeypatch.setattr(publish, "_compare", meanwhile_another_is_published)
    assert export(run=str(run_path), output=str(tmp_path))["version"] == 2
    assert (tmp_path / "1" / "saved_model.pb").read_text() == "theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_a_base_path_that_is_a_file(run_path, tmp_path) -> None:
    path = tmp_path / "models"
    path.write_text("mine")
    with pytest.raises(OutputError) as caught:
        export(run=str(run_path), output=str(path))
    assert str(caught.value) == (
        f"The base path must be a directory, or not exist yet. Received: {path}"
    )
    with pytest.raises(OutputError, match="must be a path that can be written. Receiv"):
        export(run=str(run_path), output=str(path / "below"))
    assert files_under(tmp_path) == {"models": b"mine"}


def test_no_run(tmp_path) -> None:
    with pytest.raises(NotFoundError, match="must be a directory made by .*Received: "):
        export(run=str(tmp_path / "none"), output=str(tmp_path / "models"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("status", "must be complete; .*Received: .* whose status is 'training'"),
        ("model", "must be complete"),
        ("vocabulary", "vocabulary must be the one of its training .*Received: "),
        ("popularity", r"int64 of shape \[100\]. Received: int64 \[3\] in "),
        ("no popularity", "must hold popularity.npy; train again .*Received: "),
    ],
)
def test_a_run_that_is_not_whole(run_path, tmp_path, wrong, message) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("run.json", "model.keras", "vocabulary.txt", "popularity.npy"):
        shutil.copy(run_path / name, run)
    if wrong == "status":
        record = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({**record, "status": "training"}))
    elif wrong == "model":
        (run / "model.keras").unlink()
    elif wrong == "vocabulary":
        (run / "vocabulary.txt").write_text("other\n")
    elif wrong == "popularity":
        np.save(run / "popularity.npy", np.arange(3))
    else:
        (run / "popularity.npy").unlink()
    before = files_under(tmp_path)
    with pytest.raises(ContractError, match=message):
        export(run=str(run), output=str(tmp_path / "models"))
    assert files_under(tmp_path) == before


# Ids as they are

# Of other scripts, one composed and decomposed, with spaces where they matter.
STRANGE_IDS = [
    "\u65e5\u672c\u8a9e",
    "caf\u00e9",
    "cafe\u0301",
    "\U0001f3a8",
    "two words",
    " before",
    "after ",
    "comma, semicolon;",
    'quote"inside',
    "back\\slash",
    "-dash",
    "[bold]",
    "#1",
    "0",
    "a" * 500,
]


def test_ids_are_served_as_they_are(model, tmp_path) -> None:
    # The first as many of a hundred items.
    ids = [*STRANGE_IDS, *(str(number) for number in range(1, 86))]
    path = tmp_path / "vocabulary.txt"
    path.write_bytes("".join(f"{item}\n" for item in ids).encode())
    module = RecommenderModule(model, str(path), popularity=np.ones(100))
    answer = module.recommend_history(
        tf.constant([[item] for item in STRANGE_IDS]), tf.constant([100])
    )
    assert not answer["unknown_items"].numpy().any()
    for item, row in zip(STRANGE_IDS, answer["items"].numpy(), strict=True):
        recommended = [other.decode("utf-8") for other in row if other]
        assert sorted(recommended) == sorted(set(ids) - {item})


@pytest.mark.slow
def test_ids_go_through_the_whole_line_as_they_are(
    tmp_path, tiny_training, load_artefact
) -> None:
    generator = random.Random(0)
    with (tmp_path / "log.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "item", "time"])
        for user in range(30):
            for time, item in enumerate(generator.sample(STRANGE_IDS, 12)):
                writer.writerow([f"user {user}", item, time])
    prepare(
        input=[str(tmp_path / "log.csv")],
        output=str(tmp_path / "data"),
        user_column="user",
        item_column="item",
        time_column="time",
    )
    train(
        data=str(tmp_path / "data"),
        output=str(tmp_path / "run"),
        epochs=1,
        objective="none",
        **tiny_training,
    )
    path = export(run=str(tmp_path / "run"), output=str(tmp_path / "models"))["path"]
    histories = [[item.encode()] for item in STRANGE_IDS]
    answer = load_artefact(path)(history=histories, k=[len(STRANGE_IDS)])
    assert not answer["unknown_items"].any()
    for item, row in zip(STRANGE_IDS, answer["items"], strict=True):
        recommended = [other.decode("utf-8") for other in row if other]
        assert sorted(recommended) == sorted(set(STRANGE_IDS) - {item})


@pytest.fixture(scope="module")
def recommend_normalized(model, prepared_path):
    """The function that is exported of data with `trim_ids` and `lowercase_ids`."""
    path = str(prepared_path / "vocabulary.txt")
    popularity = np.ones(model.num_items)
    module = RecommenderModule(
        model, path, popularity=popularity, trim=True, lowercase=True
    )

    def recommend(history: list[str]) -> dict[str, list]:
        outputs = module.recommend(tf.constant([history]), tf.constant([5]))
        return {name: value.numpy().tolist() for name, value in outputs.items()}

    return recommend


def test_ids_are_normalized_as_the_log_was(recommend_normalized, vocabulary) -> None:
    written = [f" {item.upper()}\t" for item in vocabulary[:3]]
    assert written != vocabulary[:3]
    plain = recommend_normalized(vocabulary[:3])
    assert plain["unknown_items"] == [0]
    assert recommend_normalized(written) == plain
    # White space alone is padding then.
    assert recommend_normalized([*written, " "]) == plain


def test_ids_stay_as_they_are_otherwise(ask, vocabulary) -> None:
    written = [vocabulary[0], f" {vocabulary[1]}", vocabulary[2].upper()]
    assert ask([written], [5])["unknown_items"].tolist() == [2]
