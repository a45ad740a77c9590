"""A recommender of which a file is missing or cut off is not served."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import grpc
import pytest

from adaptiverec.serving.servable import Servable
from adaptiverec.serving.status import RequestError

# All that answers depend on; what an exporter's directory has at the least.
FILES = [
    "saved_model.pb",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
    "assets/vocabulary.txt",
]
# What says that something is amiss with the files.
CODES = {
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    # TensorFlow's reader, of variables that are not there.
    grpc.StatusCode.UNKNOWN,
}


@pytest.mark.parametrize("left", ["nothing", "no file", "half", "all but a byte"])
@pytest.mark.parametrize("name", FILES)
def test_it_is_refused(exported, tmp_path, name, left) -> None:
    path = Path(shutil.copytree(exported, tmp_path / "1"))
    file = path / name
    size = file.stat().st_size
    if left == "no file":
        file.unlink()
    else:
        kept = {"nothing": 0, "half": size // 2, "all but a byte": size - 1}[left]
        os.truncate(file, kept)
    with pytest.raises(RequestError) as caught:
        Servable("toy", 1, path, warm_up=False).close()
    assert caught.value.code in CODES


def test_another_vocabulary_of_as_many_lines_is_refused(exported, tmp_path) -> None:
    path = Path(shutil.copytree(exported, tmp_path / "1"))
    vocabulary = path / "assets" / "vocabulary.txt"
    lines = vocabulary.read_text().splitlines()
    vocabulary.write_text("".join(f"{line}\n" for line in reversed(lines)))
    with pytest.raises(RequestError, match="SHA-256 of its export") as caught:
        Servable("toy", 1, path, warm_up=False).close()
    assert caught.value.code is grpc.StatusCode.DATA_LOSS


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_record_that_is_none_is_refused(exported, tmp_path, text) -> None:
    path = Path(shutil.copytree(exported, tmp_path / "1"))
    (path / "assets.extra" / "adaptiverec.json").write_text(text)
    with pytest.raises(RequestError, match="record of an export"):
        Servable("toy", 1, path, warm_up=False).close()
