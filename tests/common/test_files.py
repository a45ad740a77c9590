"""Directories that appear whole or not at all; JSON that is never half a file."""

import hashlib
import json
import os
import stat

import pytest

from adaptiverec.common.errors import OutputError, OutputExistsError
from adaptiverec.common.files import (
    check_output_is_free,
    read_json,
    sha256_of_bytes,
    staged_directory,
    write_json,
)


def names(directory) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_directory_appears_when_it_is_whole(tmp_path) -> None:
    out = tmp_path / "deep" / "er" / "out"
    with staged_directory(out) as staging:
        assert not out.exists()
        (staging / "a").mkdir()
        (staging / "a" / "file").write_text("whole")
        # On the same file system, so that it can be renamed.
        assert staging.parent == out.parent
        assert staging.name.startswith(".")
    assert (out / "a" / "file").read_text() == "whole"
    assert names(out.parent) == ["out"]


def test_a_published_directory_is_open_to_others_as_the_umask_says(tmp_path) -> None:
    before = os.umask(0o027)
    try:
        with staged_directory(tmp_path / "out"):
            pass
    finally:
        assert os.umask(before) == 0o027
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o750


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_block_that_raises_leaves_nothing(tmp_path, error) -> None:
    def work() -> None:
        with staged_directory(tmp_path / "out") as staging:
            (staging / "file").write_text("half")
            raise error

    with pytest.raises(error):
        work()
    assert names(tmp_path) == []


def test_an_empty_directory_may_be_there(tmp_path) -> None:
    (tmp_path / "out").mkdir()
    with staged_directory(tmp_path / "out") as staging:
        (staging / "file").touch()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["file"]


@pytest.mark.parametrize("kind", ["file", "empty file", "full directory", "dead link"])
def test_nothing_is_overwritten(tmp_path, kind) -> None:
    out = tmp_path / "out"
    if kind == "full directory":
        out.mkdir()
        (out / "mine").write_text("mine")
    elif kind == "dead link":
        out.symlink_to(tmp_path / "nowhere")
    else:
        out.write_text("mine" if kind == "file" else "")
    before = out.lstat()
    entered = False
    with pytest.raises(OutputExistsError) as caught, staged_directory(out):
        entered = True
    assert not entered
    assert str(caught.value) == (
        "The output must not exist yet, since nothing is ever overwritten. "
        f"Received: {out}"
    )
    assert out.lstat() == before
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_an_output_that_appears_meanwhile_is_not_overwritten(tmp_path, kind) -> None:
    out = tmp_path / "out"

    def work() -> None:
        with staged_directory(out) as staging:
            (staging / "file").write_text("ours")
            if kind == "file":
                out.write_text("theirs")
            else:
                out.mkdir()
                (out / "file").write_text("theirs")

    with pytest.raises(OutputExistsError):
        work()
    assert names(tmp_path) == ["out"]
    assert (out if kind == "file" else out / "file").read_text() == "theirs"


@pytest.mark.parametrize("below", ["out", "deep/out"])
def test_a_place_that_cannot_be_written(tmp_path, below) -> None:
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" / below
    with pytest.raises(OutputError) as caught, staged_directory(out):
        pass
    message = str(caught.value)
    assert message.startswith("The output must be a path that can be written. Received")
    assert str(out) in message
    assert (tmp_path / "file").read_text() == "mine"


def test_a_path_that_is_free(tmp_path) -> None:
    check_output_is_free(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    check_output_is_free(tmp_path / "empty")
    with pytest.raises(OutputExistsError):
        check_output_is_free(tmp_path)


def test_json_is_for_people_and_diffs(tmp_path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"b": 1, "a": ["\u00e9", None]})
    expected = '{\n  "b": 1,\n  "a": [\n    "\u00e9",\n    null\n  ]\n}\n'
    assert path.read_bytes() == expected.encode("utf-8")
    assert list(read_json(path)) == ["b", "a"]
    assert names(tmp_path) == ["a.json"]


def test_json_takes_the_place_of_the_last_one_whole_or_not(
    tmp_path, monkeypatch
) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"version": 1})
    with pytest.raises(TypeError):
        write_json(path, {"version": object()})
    assert json.loads(path.read_text()) == {"version": 1}

    class FullDiskError(OSError):
        pass

    def half(self, text, **_) -> None:
        self.write_bytes(text.encode()[:5])
        raise FullDiskError

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "write_text", half)
        with pytest.raises(FullDiskError):
            write_json(path, {"version": 2})
    assert json.loads(path.read_text()) == {"version": 1}
    write_json(path, {"version": 3})
    assert json.loads(path.read_text()) == {"version": 3}
    assert names(tmp_path) == ["a.json"]


def test_sha256() -> None:
    # FIPS 180-2, B.1.
    assert sha256_of_bytes(b"abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    assert sha256_of_bytes(b"") == hashlib.new("sha256").hexdigest()
