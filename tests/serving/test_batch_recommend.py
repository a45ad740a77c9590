"""Recommendations for all users of a prepared directory: the server's own, in files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from adaptiverec.common import errors
from adaptiverec.pipeline import prepare
from adaptiverec.serving import ModelServer, batch_recommend
from adaptiverec.serving.batch_frames import framed
from adaptiverec.serving.batch_plan import Part, plan_shards

Row = tuple[str, list[str], list[float], int, bool]


@dataclasses.dataclass
class User:
    """A user of the prepared data, read by TensorFlow alone."""

    name: str
    items: list[str]
    split: list[int]


@pytest.fixture(scope="module")
def users(prepared_path: Path, catalogue: list[str]) -> list[User]:
    features = {
        "user_id": tf.io.FixedLenFeature([], tf.string),
        "item_ids": tf.io.RaggedFeature(tf.int64),
        "split": tf.io.FixedLenFeature([2], tf.int64),
    }
    files = sorted(map(str, prepared_path.glob("sequences-*")))
    found = []
    for record in tf.data.TFRecordDataset(files):
        parsed = tf.io.parse_single_example(record, features)
        found.append(
            User(
                parsed["user_id"].numpy().decode(),
                [catalogue[item - 1] for item in parsed["item_ids"].numpy()],
                parsed["split"].numpy().tolist(),
            )
        )
    return found


@pytest.fixture(scope="module")
def served(base_path: Path) -> Iterator[Callable[..., Row]]:
    """What a server of the same artefact answers over gRPC, a user a request."""
    server = ModelServer(
        model_base_path=base_path, model_name="shop", port=0, enable_model_warmup=False
    )
    with server, grpc.insecure_channel(server.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def ask(user: str, history: list[str], k: int, **inputs: object) -> Row:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "shop"
            inputs = {
                "history": np.array([history], object).reshape(1, -1),
                "k": np.array([k], np.int32),
                **inputs,
            }
            for name, value in inputs.items():
                proto = tf.make_tensor_proto(value)
                if name == "history":
                    proto = tf.make_tensor_proto(value, tf.string)
                request.inputs[name].CopyFrom(proto)
            outputs = stub.Predict(request, timeout=30).outputs
            items = [item.decode() for item in outputs["items"].string_val if item]
            return (
                user,
                items,
                list(outputs["scores"].float_val)[: len(items)],
                outputs["unknown_items"].int_val[0],
                outputs["fallback"].bool_val[0],
            )

        yield ask


def rows_of_parquet(directory: Path) -> list[Row]:
    rows = []
    for path in sorted(directory.glob("recommendations-*.parquet")):
        table = pq.read_table(path).to_pylist()
        rows += [tuple(row.values()) for row in table]
    return rows


def rows_of_tfrecord(directory: Path) -> list[Row]:
    rows = []
    for path in sorted(map(str, directory.glob("recommendations-*.tfrecord"))):
        for record in tf.data.TFRecordDataset(path):
            example = tf.train.Example.FromString(record.numpy())
            feature = example.features.feature
            rows.append(
                (
                    feature["user_id"].bytes_list.value[0].decode(),
                    [item.decode() for item in feature["items"].bytes_list.value],
                    list(feature["scores"].float_list.value),
                    feature["unknown_items"].int64_list.value[0],
                    bool(feature["fallback"].int64_list.value[0]),
                )
            )
    return rows


def assert_same(found: list[Row], expected: list[Row]) -> None:
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    assert [row[3:] for row in found] == [row[3:] for row in expected]
    for row, other in zip(found, expected, strict=True):
        # Rows of a batch may be summed up in another order than a row alone.
        assert row[2] == pytest.approx(other[2], rel=1e-4, abs=1e-5)


@pytest.fixture(scope="module")
def whole(base_path: Path, prepared_path: Path, tmp_path_factory) -> tuple[Path, dict]:
    """The job as it runs by default, but in three files."""
    output = tmp_path_factory.mktemp("batch") / "out"
    metadata = batch_recommend(
        model=str(base_path),
        data=str(prepared_path),
        output=str(output),
        k=5,
        num_shards=3,
        batch_size=32,
    )
    return output, metadata


def test_answers_are_the_servers(whole, users, served) -> None:
    output, metadata = whole
    found = rows_of_parquet(output)
    assert [row[0] for row in found] == [user.name for user in users]
    # Every fifth user over gRPC.
    assert_same(found[::5], [served(user.name, user.items, 5) for user in users[::5]])
    assert metadata["num_users"] == len(users) == 200
    assert metadata["num_recommendations"] == sum(len(row[1]) for row in found)
    assert metadata["num_users_with_fallback"] == 0
    assert metadata["num_unknown_items"] == 0


def test_the_output_says_what_it_is(whole, base_path, prepared_path) -> None:
    output, metadata = whole
    text = (output / "metadata.json").read_bytes()
    assert json.loads(text) == metadata
    assert (output / "_SUCCESS").read_text().strip() == hashlib.sha256(text).hexdigest()
    shards = metadata["shards"]
    assert [shard["num_users"] for shard in shards] == [66, 67, 67]
    assert sorted(path.name for path in output.iterdir()) == sorted(
        ["_SUCCESS", "metadata.json", *(shard["file"] for shard in shards)]
    )
    for shard in shards:
        data = (output / shard["file"]).read_bytes()
        assert shard["sha256"] == hashlib.sha256(data).hexdigest()
        assert shard["num_bytes"] == len(data)
    record = json.loads((base_path / "1/assets.extra/adaptiverec.json").read_text())
    prepared = json.loads((prepared_path / "metadata.json").read_text())
    assert metadata["model"]["version"] == 1
    assert metadata["model"]["run_fingerprint"] == record["run_fingerprint"]
    assert metadata["data"]["fingerprint"] == prepared["fingerprint"]
    assert metadata["data"]["model_was_trained_on_it"] is True
    assert metadata["schema_version"] == 1


def test_filters_history_and_tfrecord(
    base_path, prepared_path, users, catalogue, served, tmp_path
) -> None:
    excluded, allowed = catalogue[3:6], [*catalogue[::3], "nobody's"]
    (tmp_path / "exclude.txt").write_text("\r\n".join(excluded))
    (tmp_path / "allow.txt").write_text("\n".join(allowed) + "\n\n")
    metadata = batch_recommend(
        model=str(base_path / "1"),
        data=str(prepared_path),
        output=str(tmp_path / "out"),
        k=40,
        history="before_test",
        exclude_history=False,
        exclude_file=str(tmp_path / "exclude.txt"),
        allow_file=str(tmp_path / "allow.txt"),
        format="tfrecord",
    )
    expected = [
        served(
            user.name,
            user.items[: user.split[1]],
            40,
            exclude=[excluded],
            allow=[allowed],
            exclude_history=[False],
        )
        for user in users[:10]
    ]
    found = rows_of_tfrecord(tmp_path / "out")
    assert_same(found[:10], expected)
    # 34 of a hundred, less the one or two that are excluded.
    remaining = set(allowed[:-1]) - set(excluded)
    assert all(set(row[1]) == remaining for row in found)
    assert metadata["num_users_with_fewer_than_k"] == 200
    assert metadata["id_lists"]["allow_file"]["ids"] == len(allowed)


@pytest.fixture(scope="module")
def later_data(prepared_path, catalogue, tmp_path_factory) -> Path:
    """Sequences of later users over a vocabulary that has grown; one knows no old item."""
    base = tmp_path_factory.mktemp("later")
    lines = ["user,item,time"]
    lines += [f"u{n},{catalogue[n + m]},{m}" for n in range(9) for m in range(3)]
    lines += [f"stranger,new-{m},{m}" for m in range(3)]
    lines += ["u1,new-1,7"]
    (base / "log.csv").write_text("\n".join(lines) + "\n")
    prepare(
        input=[str(base / "log.csv")],
        output=str(base / "data"),
        user_column="user",
        item_column="item",
        time_column="time",
        min_user_interactions=1,
        min_item_interactions=1,
        base_vocabulary=str(prepared_path),
        output_compression="gzip",
        num_shards=2,
        report=False,
    )
    return base / "data"


def test_new_sequences_with_a_vocabulary_that_has_grown(
    base_path, later_data, catalogue, served, tmp_path
) -> None:
    metadata = batch_recommend(
        model=str(base_path),
        data=str(later_data),
        output=str(tmp_path / "out"),
        k=3,
        num_shards=3,
    )
    found = {row[0]: row for row in rows_of_parquet(tmp_path / "out")}
    assert len(found) == 10
    assert_same([found["u4"]], [served("u4", catalogue[4:7], 3)])
    assert_same([found["u1"]], [served("u1", [*catalogue[1:4], "new-1"], 3)])
    assert found["u1"][3:] == (1, False)
    assert found["stranger"][3:] == (3, True)
    assert metadata["data"]["model_was_trained_on_it"] is False
    assert metadata["num_users_with_fallback"] == 1
    assert metadata["num_unknown_items"] == 4


def test_an_empty_history_is_popularitys(
    base_path, later_data, served, tmp_path
) -> None:
    # By leave-one-out, a user of three items has one to train on; the split by time puts
    # all of the last days' users wholly into the test.
    log = tmp_path / "log.csv"
    items = [
        line.split("\t")[0]
        for line in (later_data / "popularity.tsv").read_text().splitlines()[1:]
    ]
    log.write_text("user,item,time\n" + f"a,{items[0]},1\nb,{items[1]},9\n")
    prepare(
        input=[str(log)],
        output=str(tmp_path / "data"),
        user_column="user",
        item_column="item",
        time_column="time",
        min_user_interactions=1,
        min_item_interactions=1,
        base_vocabulary=str(later_data),
        split="time",
        validation_start="1970-01-01T00:00:04",
        test_start="1970-01-01T00:00:05",
        report=False,
    )
    batch_recommend(
        model=str(base_path),
        data=str(tmp_path / "data"),
        output=str(tmp_path / "out"),
        k=3,
        history="before_validation",
    )
    found = {row[0]: row for row in rows_of_parquet(tmp_path / "out")}
    assert_same([found["b"]], [served("b", [], 3)])
    assert found["b"][4] is True
    assert found["a"][4] is False


# What is refused


def test_data_that_do_not_match(base_path, later_data, prepared_path, tmp_path) -> None:
    options = {"model": str(base_path), "output": str(tmp_path / "out")}
    with pytest.raises(errors.ContractError, match="by its fingerprint"):
        batch_recommend(**options, data=str(later_data), match="data")
    log = tmp_path / "log.csv"
    log.write_text("user,item,time\na,x,1\na,y,2\n")
    prepare(
        input=[str(log)],
        output=str(tmp_path / "data"),
        user_column="user",
        item_column="item",
        time_column="time",
        min_user_interactions=1,
        min_item_interactions=1,
        report=False,
    )
    with pytest.raises(errors.ContractError, match="match=nothing takes any. Received"):
        batch_recommend(**options, data=str(tmp_path / "data"))
    assert not (tmp_path / "out").exists()
    metadata = batch_recommend(**options, data=str(tmp_path / "data"), match="nothing")
    assert metadata["num_unknown_items"] == 2


def test_models_and_data_that_are_none(base_path, prepared_path, tmp_path) -> None:
    def run(**options: object) -> None:
        batch_recommend(
            **{
                "model": str(base_path),
                "data": str(prepared_path),
                "output": str(tmp_path / "out"),
                **options,
            }
        )

    altered = tmp_path / "altered"
    shutil.copytree(base_path / "1", altered)
    with (altered / "assets" / "vocabulary.txt").open("a") as file:
        file.write("more\n")
    empty, bad, full = tmp_path / "empty", tmp_path / "bad", tmp_path / "full"
    empty.write_text("\n\n")
    bad.write_bytes(b"\xff\n")
    full.mkdir()
    (full / "mine").touch()
    (tmp_path / "none").mkdir()
    for options, error, message in (
        ({"model": str(tmp_path / "no")}, errors.NotFoundError, "base path must be"),
        ({"model": str(tmp_path / "none")}, errors.NotFoundError, "at least one vers"),
        ({"model": str(altered)}, errors.ContractError, "vocabulary must be the one"),
        ({"data": str(tmp_path / "no")}, errors.NotFoundError, "must be a directory"),
        ({"data": str(tmp_path / "none")}, errors.ContractError, "must be whole"),
        ({"output": str(full)}, errors.OutputExistsError, "must not exist yet"),
        ({"allow_file": str(empty)}, errors.InvalidValueError, "an item id at least"),
        ({"exclude_file": str(bad)}, errors.InvalidValueError, "text file in UTF-8"),
        ({"exclude_file": "no"}, errors.NotFoundError, "exclude_file must be a file"),
        ({"k": 0}, errors.InvalidValueError, "k must be at least 1. Received: 0"),
        ({"k": True}, errors.InvalidValueError, "k must be a whole number"),
        ({"k": 2**31}, errors.InvalidValueError, "k must be at most"),
        ({"format": "csv"}, errors.InvalidValueError, "format must be one of"),
        ({"history": "some"}, errors.InvalidValueError, "history must be one of"),
        ({"match": "x"}, errors.InvalidValueError, "match must be one of"),
        ({"num_shards": 0}, errors.InvalidValueError, "num_shards must be at least"),
        ({"data": ""}, errors.InvalidValueError, "data must not be empty"),
        ({"beam_options": ["--ruler=x"]}, errors.InvalidValueError, "flags of Beam"),
    ):
        with pytest.raises(error, match=message):
            run(**options)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("damage", ["a bit", "cut off", "a record more"])
def test_damaged_sequences(base_path, prepared_path, tmp_path, damage) -> None:
    data = tmp_path / "data"
    shutil.copytree(prepared_path, data)
    (shard,) = data.glob("sequences-*")
    content = bytearray(shard.read_bytes())
    if damage == "a bit":
        content[len(content) // 2] ^= 1
    elif damage == "cut off":
        del content[-9:]
    else:
        content += framed(b"")
    shard.write_bytes(content)
    with pytest.raises(errors.StageError, match="Received: .*sequences-00000"):
        batch_recommend(
            model=str(base_path), data=str(data), output=str(tmp_path / "out")
        )
    assert not (tmp_path / "out").exists()


def test_a_model_that_breaks_meanwhile(
    base_path, prepared_path, tmp_path, monkeypatch
) -> None:
    from adaptiverec.serving import batch_driver

    model = tmp_path / "1"
    shutil.copytree(base_path / "1", model)

    def break_it(*args: object) -> None:
        shutil.rmtree(model / "variables")

    monkeypatch.setattr(batch_driver, "check_match", break_it)
    with pytest.raises(errors.StageError, match="load and answer. Received: DATA_LOSS"):
        batch_recommend(
            model=str(model), data=str(prepared_path), output=str(tmp_path / "out")
        )
    assert not list(tmp_path.glob("*out*"))


# All or nothing

JOB = """
import json, sys
from adaptiverec.serving import batch_recommend, batch_write
write = batch_write.HashedFile.write
def slowly(self, data):
    # In one piece, since two shards may be written at once.
    print("writing\\n", end="", flush=True)
    sys.stdin.readline()
    return write(self, data)
batch_write.HashedFile.write = slowly
batch_recommend(**json.loads(sys.argv[1]))
"""


# Another process takes long to import TensorFlow and Beam.
@pytest.mark.slow
def test_a_killed_run_leaves_nothing_that_looks_whole(
    base_path, prepared_path, tmp_path, capsys
) -> None:
    options = {
        "model": str(base_path),
        "data": str(prepared_path),
        "output": str(tmp_path / "out"),
        "num_shards": 2,
    }
    with subprocess.Popen(
        [sys.executable, "-c", JOB, json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        assert process.stdout.readline() == b"writing\n"
        os.killpg(process.pid, signal.SIGKILL)
    assert not (tmp_path / "out").exists()
    (leftover,) = tmp_path.glob(".out.incomplete-*")
    assert not (leftover / "_SUCCESS").exists()
    batch_recommend(**options)
    assert f"Note: {leftover} was left by a run" in capsys.readouterr().err
    assert len(rows_of_parquet(tmp_path / "out")) == 200
    with pytest.raises(errors.OutputExistsError):
        batch_recommend(**options)


@pytest.mark.slow
def test_what_the_command_says(base_path, prepared_path, tmp_path) -> None:
    """Nothing of the libraries' own."""
    paths = {"model": base_path, "data": prepared_path, "output": tmp_path / "out"}
    flags = [f"--{name}={path}" for name, path in paths.items()]
    done = subprocess.run(
        [sys.executable, "-m", "adaptiverec.common", "batch-recommend", *flags],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == ""
    *progress, last, summary = done.stderr.splitlines()
    assert all(line.startswith("Recommending: ") for line in progress)
    assert last == "Recommending: 200/200"
    assert summary.startswith("Recommended 2,000 items to 200 users, ")


@pytest.mark.slow
def test_a_script_that_calls_it_ends_quietly(
    base_path, prepared_path, tmp_path
) -> None:
    """The model is loaded in the script's own process, and must be closed there."""
    script = (
        "import json, sys\n"
        "from adaptiverec.serving import batch_recommend\n"
        "batch_recommend(**json.loads(sys.argv[1]))\n"
    )
    options = {
        "model": str(base_path),
        "data": str(prepared_path),
        "output": str(tmp_path / "out"),
        "num_shards": 1,
    }
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(options)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "Exception" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Recommended 2,000 items")


# The plan and the frames


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 50), max_size=6), st.one_of(st.none(), st.integers(1, 20))
)
def test_every_user_is_in_one_shard_in_order(sizes, num_shards) -> None:
    files = [(f"f{number}", size) for number, size in enumerate(sizes)]
    plans = plan_shards(files, num_shards)
    assert len(plans) == (num_shards or 1)
    assert [plan.number for plan in plans] == list(range(len(plans)))
    named = [
        (part.file, record)
        for plan in plans
        for part in plan.parts
        for record in range(part.start, part.stop)
    ]
    assert named == [(file, n) for file, size in files for n in range(size)]
    counts = [sum(part.stop - part.start for part in plan.parts) for plan in plans]
    assert max(counts) - min(counts) <= 1


def test_shards_follow_from_the_users() -> None:
    assert len(plan_shards([("a", 16_384)])) == 1
    assert len(plan_shards([("a", 16_384), ("b", 1)])) == 2
    assert plan_shards([]) == [(0, ())]
    assert plan_shards([("a", 3)], 1) == [(0, (Part("a", 0, 3, 3),))]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.binary(max_size=40), max_size=5))
def test_frames_are_tensorflows(records) -> None:
    path = Path("/dev/shm") / f"frames-{os.getpid()}"
    try:
        path.write_bytes(b"".join(map(framed, records)))
        read = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    finally:
        path.unlink(missing_ok=True)
    assert read == records
