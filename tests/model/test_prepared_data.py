import json
import shutil
from pathlib import Path

import pytest
import tensorflow as tf

from adaptiverec.common.errors import ContractError, NotFoundError
from adaptiverec.common.files import sha256_of_bytes
from adaptiverec.model.prepared_data import PreparedData


@pytest.fixture
def copy(prepared_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared_path, tmp_path / "copy"))


def rewrite_metadata(path: Path, **changes) -> None:
    metadata = json.loads((path / "metadata.json").read_text()) | changes
    (path / "metadata.json").write_text(json.dumps(metadata))
    marker = sha256_of_bytes((path / "metadata.json").read_bytes())
    (path / "_SUCCESS").write_text(marker)


def test_reads_what_tensorflow_reads(prepared_path) -> None:
    prepared = PreparedData.open(str(prepared_path))
    sequences = prepared.sequences()
    user = 0
    for shard in sorted(prepared_path.glob("*.tfrecord")):
        for record in tf.data.TFRecordDataset(str(shard)):
            feature = tf.train.Example.FromString(record.numpy()).features.feature
            start, end = sequences.starts[user : user + 2]
            items = list(feature["item_ids"].int64_list.value)
            assert sequences.items[start:end].tolist() == items
            cuts = [sequences.train_ends[user], sequences.validation_ends[user]]
            split = list(feature["split"].int64_list.value)
            assert [cut - start for cut in cuts] == split
            user += 1
    assert user == sequences.num_users == prepared.metadata["num_users"]
    assert max(sequences.items) == prepared.num_items == len(set(prepared.vocabulary))


def test_no_directory(tmp_path) -> None:
    with pytest.raises(NotFoundError, match="Received: .*nowhere"):
        PreparedData.open(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("name", ["_SUCCESS", "metadata.json"])
def test_half_written(copy, name) -> None:
    (copy / name).unlink()
    with pytest.raises(ContractError, match=f"Received: .*which has no {name}"):
        PreparedData.open(str(copy))


def test_another_schema_version(copy) -> None:
    rewrite_metadata(copy, schema_version=99)
    with pytest.raises(
        ContractError, match="must have schema_version 2;.*Received: 99"
    ):
        PreparedData.open(str(copy))


def test_metadata_changed_afterwards(copy) -> None:
    with (copy / "metadata.json").open("a") as file:
        file.write("\n")
    with pytest.raises(ContractError, match="changed after it was made"):
        PreparedData.open(str(copy))


def test_another_vocabulary(copy) -> None:
    with (copy / "vocabulary.txt").open("a") as file:
        file.write("new-item\n")
    with pytest.raises(ContractError, match="vocabulary must be the one"):
        PreparedData.open(str(copy))


def test_shard_cut_short(copy) -> None:
    shard = next(copy.glob("*.tfrecord"))
    shard.write_bytes(shard.read_bytes()[:-7])
    with pytest.raises(ContractError, match="must be whole TFRecord files"):
        PreparedData.open(str(copy)).sequences()


def test_records_missing(copy) -> None:
    shard = next(copy.glob("*.tfrecord"))
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(shard))]
    with tf.io.TFRecordWriter(str(shard)) as writer:
        for record in records[1:]:
            writer.write(record)
    with pytest.raises(ContractError, match="must hold the 200 users"):
        PreparedData.open(str(copy)).sequences()
