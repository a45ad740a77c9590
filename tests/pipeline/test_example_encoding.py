import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptiverec.pipeline import tfrecord
from adaptiverec.pipeline.example_encoding import encode_examples

tf = pytest.importorskip("tensorflow")

int64 = st.integers(-(2**63), 2**63 - 1)
# Around the sizes at which a varint gets one byte longer.
edges = st.sampled_from([n for bits in range(0, 63, 7) for n in (2**bits - 1, 2**bits)])
user = st.tuples(
    st.text(max_size=200),
    st.lists(
        st.tuples(st.one_of(edges, st.integers(1, 2**31)), st.one_of(edges, int64)),
        min_size=1,
        max_size=40,
    ),
    st.tuples(st.integers(0, 300), st.integers(0, 300)),
)


def encode(users, *, before=0, after=0):
    lengths = [len(events) for _, events, _ in users]
    events = [event for _, events, _ in users for event in events]
    return encode_examples(
        pa.array([user_id for user_id, _, _ in users], pa.string()),
        np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        np.array([item for item, _ in events], np.int64),
        np.array([time for _, time in events], np.int64),
        np.array([split for _, _, split in users], np.int64).reshape(-1, 2),
        before=before,
        after=after,
    )


def tensorflow_bytes(user_id, events, split):
    def integers(values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    user_bytes = tf.train.BytesList(value=[user_id.encode()])
    feature = {
        "user_id": tf.train.Feature(bytes_list=user_bytes),
        "item_ids": integers([item for item, _ in events]),
        "timestamps": integers([time for _, time in events]),
        "split": integers(split),
    }
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    return example.SerializeToString(deterministic=True)


@given(st.lists(user, max_size=5))
@settings(max_examples=60)
def test_bytes_are_those_of_tensorflow(users):
    records = encode(users, before=3, after=2)
    for (user_id, events, split), start, length in zip(
        users, records.starts, records.lengths, strict=True
    ):
        data = records.buffer[start : start + length].tobytes()
        assert data == tensorflow_bytes(user_id, events, split)
    room = len(records.buffer) - records.lengths.sum()
    assert room == 5 * len(users)


def test_golden():
    # tf.train.Example(...).SerializeToString(deterministic=True).hex() of TensorFlow
    # 2.21, with user_id=[b"u"], item_ids=[1, 300], timestamps=[10**15, -1] and
    # split=[1, 2].
    records = encode([("u", [(1, 10**15), (300, -1)], (1, 2))])
    assert records.buffer.tobytes().hex() == GOLDEN


def test_long_sequences_have_long_lengths():
    # Enough that the length of every enclosing message takes three bytes or more.
    events = [(2**31, 10**15 + n) for n in range(60_000)]
    records = encode([("u", events, (59_998, 59_999))])
    assert records.buffer.tobytes() == tensorflow_bytes("u", events, (59_998, 59_999))


def test_tensorflow_reads_the_frames(tmp_path):
    users = [(f"user-{n}", [(n + 1, n)] * (n + 1), (n, n)) for n in range(200)]
    records = encode(users, before=tfrecord.HEADER_BYTES, after=tfrecord.FOOTER_BYTES)
    data = tfrecord.fill_frames(records.buffer, records.starts, records.lengths)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.write_bytes(data)
    with tf.io.TFRecordWriter(str(theirs)) as writer:
        for each in users:
            writer.write(tensorflow_bytes(*each))
    assert data == theirs.read_bytes()
    read = list(tf.data.TFRecordDataset(str(ours)).as_numpy_iterator())
    assert read == [tensorflow_bytes(*each) for each in users]


def test_nothing_is_an_empty_file():
    records = encode([], before=12, after=4)
    assert tfrecord.fill_frames(records.buffer, records.starts, records.lengths) == b""


GOLDEN = (
    "0a5e0a130a086974656d5f69647312071a050a0301ac020a0f0a0573706c697412061a04"
    "0a0201020a240a0a74696d657374616d707312161a140a1280809aa6eaafe301ffffffff"
    "ffffffffff010a100a07757365725f696412050a030a0175"
)
