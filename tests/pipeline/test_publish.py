"""An output on a file system that is not the local one."""

import shutil
from pathlib import Path

import pytest
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.localfilesystem import LocalFileSystem

from adaptiverec.common import errors
from adaptiverec.pipeline import prepare

SCHEME = "teststore"


class StoreFileSystem(LocalFileSystem):
    """A directory seen as an object store; remembers the renames into place."""

    root = Path()
    renamed: list[str] = []  # noqa: RUF012

    @classmethod
    def scheme(cls):
        return SCHEME

    def _local(self, path):
        return str(self.root / path.removeprefix(f"{SCHEME}://"))

    def join(self, base, *paths):
        return "/".join([base.rstrip("/"), *paths])

    def split(self, path):
        return tuple(path.rsplit("/", 1))

    def mkdirs(self, path):
        super().mkdirs(self._local(path))

    def _list(self, dir_or_prefix):
        for entry in super()._list(self._local(dir_or_prefix)):
            path = f"{SCHEME}://{Path(entry.path).relative_to(self.root)}"
            yield FileMetadata(path, entry.size_in_bytes)

    def exists(self, path):
        return super().exists(self._local(path))

    def create(self, path, *args, **kwargs):
        return super().create(self._local(path), *args, **kwargs)

    def open(self, path, *args, **kwargs):
        return super().open(self._local(path), *args, **kwargs)

    def rename(self, sources, destinations):
        self.renamed.extend(destinations)
        super().rename(map_all(self, sources), map_all(self, destinations))

    def delete(self, paths):
        for path in map_all(self, paths):
            if Path(path).is_dir():
                shutil.rmtree(path)
            else:
                Path(path).unlink()


def map_all(store, paths):
    return [store._local(path) for path in paths]


@pytest.fixture
def store(tmp_path, monkeypatch):
    root = tmp_path / "store"
    (root / "bucket").mkdir(parents=True)
    monkeypatch.setattr(StoreFileSystem, "root", root)
    monkeypatch.setattr(StoreFileSystem, "renamed", [])
    return root


def run(path, **options):
    return prepare(
        **{
            "input": [path],
            "output": f"{SCHEME}://bucket/out",
            "user_column": "user",
            "item_column": "item",
            "time_column": "time",
            "min_user_interactions": 1,
            "min_item_interactions": 1,
            **options,
        }
    )


def test_the_marker_comes_last(store, log, read_prepared, monkeypatch):
    # Spilling needs a disk that all workers share, so here batches travel.
    from adaptiverec.pipeline import driver

    monkeypatch.setattr(driver, "is_local", lambda options: False)
    metadata = run(log("user,item,time\na,x,1\n,x,2\n"))
    prepared = read_prepared(store / "bucket" / "out")
    assert prepared.metadata == metadata
    assert [path.name for path in (store / "bucket").iterdir()] == ["out"]
    published = [
        path.removeprefix(f"{SCHEME}://bucket/out/")
        for path in StoreFileSystem.renamed
        if path.startswith(f"{SCHEME}://bucket/out/")
    ]
    assert published[-1] == "_SUCCESS"
    assert sorted(published) == sorted(prepared.files)


def test_nothing_is_overwritten_or_left(store, log):
    path = log("user,item,time\na,x,1\n")
    out = store / "bucket" / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    with pytest.raises(errors.OutputExistsError, match=f"Received: {SCHEME}://bucket"):
        run(path)
    shutil.rmtree(out)
    with pytest.raises(errors.StageError):
        run(path, min_user_interactions=9)
    assert list((store / "bucket").iterdir()) == []


def test_what_a_killed_run_left_is_replaced(store, log, capsys):
    path = log("user,item,time\na,x,1\n,x,2\n")
    out = store / "bucket" / "out"
    expected = run(path)
    whole = {name: name.read_bytes() for name in out.rglob("*") if name.is_file()}
    # As if it had been killed before it moved its last files.
    (out / "_SUCCESS").unlink()
    (out / "vocabulary.txt").unlink()
    (out / "rejected" / "left.jsonl").write_text("of another version")
    assert run(path) == expected
    assert "bucket/out is not whole" in capsys.readouterr().err
    assert {n: n.read_bytes() for n in out.rglob("*") if n.is_file()} == whole


@pytest.mark.parametrize("mine", ["metadata.json", "notes.txt", "sequences-1.txt"])
def test_what_is_not_certainly_ours_stays(store, log, mine):
    path = log("user,item,time\na,x,1\n")
    out = store / "bucket" / "out"
    if mine != "sequences-1.txt":
        # A whole output, or one with another file beside it.
        run(path)
    if mine == "notes.txt":
        (out / "_SUCCESS").unlink()
    (out / "rejected").mkdir(parents=True, exist_ok=True)
    (out / mine).write_text("mine")
    with pytest.raises(errors.OutputExistsError):
        run(path)
    assert (out / mine).read_text() == "mine"


def test_a_run_that_was_faster_wins(store, log, monkeypatch):
    from adaptiverec.pipeline import publish

    path = log("user,item,time\na,x,1\n")
    write = publish.write_file
    others = []

    def write_and_be_overtaken(places, name, data):
        write(places, name, data)
        if name == "_SUCCESS" and not others:
            others.append(places)
            others.append(run(path))

    monkeypatch.setattr(publish, "write_file", write_and_be_overtaken)
    with pytest.raises(errors.OutputExistsError):
        run(path, num_shards=3)
    out = store / "bucket" / "out"
    assert len(list(out.glob("sequences-*"))) == len(others[1]["shards"]) == 1
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_log_in_the_store(store, tmp_path):
    (store / "bucket" / "log.csv").write_text("user,item,time\na,x,1\n")
    metadata = run(f"{SCHEME}://bucket/*.csv", output=str(tmp_path / "out"))
    assert metadata["input_files"] == [
        {"path": f"{SCHEME}://bucket/log.csv", "bytes": 21}
    ]
