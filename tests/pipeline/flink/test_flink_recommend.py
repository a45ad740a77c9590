"""Recommendations for everybody on a Flink cluster: TensorFlow in Beam's workers there."""

from __future__ import annotations

import shutil

import pytest

from adaptiverec.common import errors
from adaptiverec.serving import batch_recommend

pytestmark = pytest.mark.flink


@pytest.mark.parametrize("file_format", ["parquet", "tfrecord"])
def test_the_same_bytes_as_on_the_local_runner(
    cluster, contents, base_path, prepared_path, tmp_path, file_format
):
    for name, beam_options in (("local", ()), ("flink", cluster.beam_options())):
        batch_recommend(
            model=str(base_path),
            data=str(prepared_path),
            output=str(tmp_path / name),
            k=7,
            num_shards=4,
            format=file_format,
            beam_options=beam_options,
        )
    expected = contents(tmp_path / "local")
    assert len(expected["metadata"]["shards"]) == 4
    assert expected["metadata"]["num_recommendations"] > 0
    assert contents(tmp_path / "flink") == expected
    job = cluster.jobs()[0]
    assert job["state"] == "FINISHED"
    assert cluster.task_managers_of(job["jid"]) == {"task-manager-1", "task-manager-2"}


def test_a_model_that_does_not_load(cluster, base_path, prepared_path, tmp_path):
    """Told in the words of the local runner, with nothing written."""
    model = tmp_path / "model" / "1"
    model.parent.mkdir()
    shutil.copytree(base_path / "1", model)
    (model / "variables" / "variables.index").write_bytes(b"damaged")
    messages = []
    for beam_options in ((), cluster.beam_options()):
        with pytest.raises(errors.StageError) as caught:
            batch_recommend(
                model=str(model.parent),
                data=str(prepared_path),
                output=str(tmp_path / "out"),
                beam_options=beam_options,
            )
        messages.append(str(caught.value))
        assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert messages[0].startswith("The model must load and answer. Received: ")
    assert messages[1] == messages[0]
