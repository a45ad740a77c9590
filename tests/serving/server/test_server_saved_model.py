"""What is refused to be loaded: what leads elsewhere, and what is still being copied."""

from __future__ import annotations

import os
import shutil

import grpc
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from adaptiverec.serving import saved_model
from adaptiverec.serving.servable import Servable
from adaptiverec.serving.status import RequestError

PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


class Words(tf.Module):
    """Tells whether a text is a line of a file."""

    def __init__(self, file):
        initializer = tf.lookup.TextFileInitializer(
            str(file),
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        self.table = tf.lookup.StaticHashTable(initializer, -1)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def find(self, text):
        return {"row": self.table.lookup(text)}


@pytest.fixture
def version(tmp_path):
    """A SavedModel with an asset, and a secret outside of the base path."""
    (tmp_path / "words.txt").write_text("a\nb\n")
    (tmp_path / "secret.txt").write_text("password\n")
    module = Words(tmp_path / "words.txt")
    path = tmp_path / "base" / "1"
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.find})
    return path


def rows(path, *words):
    servable = Servable("toy", 1, path)
    tensor = tf.make_tensor_proto(list(words))
    outputs = servable.run("", {"text": tensor})
    servable.close()
    return outputs["row"].tolist()


def refusal(path):
    with pytest.raises(RequestError) as caught:
        Servable("toy", 1, path)
    return caught.value.code, caught.value.message


def rename_asset(path, name):
    """Says in the SavedModel that its asset lies elsewhere."""
    file = path / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    model.meta_graphs[0].asset_file_def[0].filename = name
    file.write_bytes(model.SerializeToString())


def test_reads_its_assets(version):
    assert rows(version, "b", "password", "a") == [1, -1, 0]


@pytest.mark.parametrize(
    "name", ["../../../secret.txt", "/etc/passwd", "..", "x/../../saved_model.pb"]
)
def test_an_asset_lies_in_the_assets(version, name):
    rename_asset(version, name)
    code, message = refusal(version)
    assert code == PRECONDITION
    assert message.endswith(f"assets directory of its SavedModel. Received: {name!r}")


def test_an_asset_that_is_not_there(version):
    (version / "assets" / "words.txt").unlink()
    code, message = refusal(version)
    assert code == grpc.StatusCode.NOT_FOUND
    assert "words.txt" in message


@pytest.mark.parametrize("what", ["assets/words.txt", "assets", "saved_model.pb"])
def test_nothing_leads_out_of_the_base_path(version, tmp_path, what):
    away = tmp_path / "away"
    shutil.move(version / what, away)
    (version / what).symlink_to(away)
    code, message = refusal(version)
    assert code == PRECONDITION
    assert message == (
        f"A SavedModel must not lead out of its directory. Received: {version / what}"
    )


def test_links_between_versions_are_fine(version):
    shared = version.parent / "words-of-all.txt"
    (version / "assets" / "words.txt").rename(shared)
    (version / "assets" / "words.txt").symlink_to(shared)
    assert rows(version, "b") == [1]


def test_a_version_that_changes_while_it_is_loaded(version, monkeypatch):
    import_by_piece = saved_model.import_by_piece

    def import_and_copy_on(meta_graph):
        import_by_piece(meta_graph)
        with (version / "assets" / "words.txt").open("a") as file:
            file.write("c\n")

    with monkeypatch.context() as patch:
        patch.setattr(saved_model, "import_by_piece", import_and_copy_on)
        assert refusal(version) == (
            grpc.StatusCode.UNAVAILABLE,
            f"The SavedModel changed while it was loaded. Received: {version}",
        )
    assert rows(version, "c") == [2]


def test_a_version_without_its_variables(toys, tmp_path):
    path = tmp_path / "1"
    shutil.copytree(toys(1), path)
    shutil.rmtree(path / "variables")
    code, message = refusal(path)
    assert code == grpc.StatusCode.DATA_LOSS
    assert message.startswith("The graph has variables, and there are none at")


def test_a_version_whose_variables_are_cut_off(toys, tmp_path):
    path = tmp_path / "1"
    shutil.copytree(toys(1), path)
    data = next((path / "variables").glob("variables.data*"))
    os.truncate(data, 2)
    assert refusal(path)[0] in {
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.OUT_OF_RANGE,
    }


def test_a_version_without_a_saved_model(tmp_path):
    assert refusal(tmp_path) == (
        grpc.StatusCode.NOT_FOUND,
        "Could not find SavedModel .pb or .pbtxt at supplied export directory path: "
        f"{tmp_path}. Check that the directory exists and that you have the right "
        "permissions for accessing it.",
    )


def test_a_version_that_has_gone(tmp_path):
    assert refusal(tmp_path / "1") == (
        grpc.StatusCode.INTERNAL,
        "Error while attempting to reserve resources to load servable {name: toy "
        f"version: 1}}: {tmp_path / '1'} not found",
    )


def test_a_copy_without_a_rename_is_served_once_it_is_whole(
    start, publish, toys, helpers, tmp_path
):
    base = tmp_path / "base"
    publish(base, 1)
    _, caller = start(
        base, max_num_load_retries=10**6, load_retry_interval_micros=10_000
    )
    # As by `cp`, one file after the other, under the eyes of the server.
    answers = set()
    source = toys(2)
    for file in sorted(source.rglob("*")):
        target = base / "2" / file.relative_to(source)
        if file.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        data = file.read_bytes()
        with target.open("wb") as out:
            for part in (data[: len(data) // 2], data[len(data) // 2 :]):
                out.write(part)
                out.flush()
                answers.add(caller.number())
    helpers.wait_until(lambda: caller.number() == (2, 2.0))
    # Never the half of it.
    assert answers <= {(1, 1.0), (2, 2.0)}
