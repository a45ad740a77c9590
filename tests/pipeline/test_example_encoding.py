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
# Ratings, types of event, and two texts that are passed through, for 200 interactions;
# 127 bytes are the most that have a length of one byte.
texts = st.text(max_size=4).map(lambda text: text * 40)
kept = st.fixed_dictionaries(
    {},
    optional={
        "ratings": st.lists(st.floats(width=32), min_size=200, max_size=200),
        "event_types": st.lists(
            st.sampled_from(["", "buy", "x" * 127, "x" * 128]),
            min_size=200,
            max_size=200,
        ),
        # Sorted by bytes, one is before and one behind "item_ids".
        "extra/note": st.lists(texts, min_size=200, max_size=200),
        "extra/\u00e9": st.lists(texts, min_size=200, max_size=200),
    },
)


def encode(users, kept=None, *, times=True, text="string", **room):
    lengths = [len(events) for _, events, _ in users]
    events = [event for _, events, _ in users for event in events]
    kept = {name: values[: len(events)] for name, values in (kept or {}).items()}
    ratings, event_types = kept.pop("ratings", None), kept.pop("event_types", None)
    return encode_examples(
        pa.array([user_id for user_id, _, _ in users], pa.string()),
        np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        np.array([item for item, _ in events], np.int64),
        np.array([time for _, time in events], np.int64) if times else None,
        np.array([split for _, _, split in users], np.int64).reshape(-1, 2),
        ratings=None if ratings is None else np.array(ratings, np.float64),
        event_types=None if event_types is None else pa.array(event_types, text),
        extras={
            name.removeprefix("extra/"): pa.array(values, text)
            for name, values in kept.items()
        },
        **room,
    )


def integers(values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def floats(values):
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def strings(values):
    encoded = [value.encode() for value in values]
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))


def tensorflow_bytes(user_id, events, split, kept=None, *, times=True):
    feature = {
        "user_id": strings([user_id]),
        "item_ids": integers([item for item, _ in events]),
        "split": integers(split),
    }
    if times:
        feature["timestamps"] = integers([time for _, time in events])
    for name, values in (kept or {}).items():
        feature[name] = floats(values) if name == "ratings" else strings(values)
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


@given(st.lists(user, max_size=5), kept, st.booleans(), st.booleans())
@settings(max_examples=60)
def test_what_else_is_kept(users, kept, times, large):
    text = "large_string" if large else "string"
    records = encode(users, kept, times=times, text=text)
    begin = 0
    for (user_id, events, split), start, length in zip(
        users, records.starts, records.lengths, strict=True
    ):
        mine = {
            name: values[begin : begin + len(events)] for name, values in kept.items()
        }
        begin += len(events)
        data = records.buffer[start : start + length].tobytes()
        assert data == tensorflow_bytes(user_id, events, split, mine, times=times)


def test_sliced_texts():
    # As they are when a shard is encoded part by part.
    values = pa.array(["cut off", "a", "", "b" * 300]).slice(1)
    records = encode_examples(
        pa.array(["zero", "u", "v"]).slice(1),
        np.array([0, 1, 3]),
        np.array([1, 2, 3]),
        None,
        np.array([[1, 1], [2, 2]]),
        event_types=values,
    )
    expected = tensorflow_bytes(
        "u", [(1, 0)], (1, 1), {"event_types": ["a"]}, times=False
    ) + tensorflow_bytes(
        "v", [(2, 0), (3, 0)], (2, 2), {"event_types": ["", "b" * 300]}, times=False
    )
    assert records.buffer.tobytes() == expected


def test_ratings_that_no_float32_holds():
    records = encode([("u", [(1, 0), (2, 0)], (2, 2))], {"ratings": [1e300, 0.1]})
    example = tf.train.Example.FromString(records.buffer.tobytes())
    (first, second) = example.features.feature["ratings"].float_list.value
    assert first == float("inf")
    assert second == np.float32(0.1)


def test_golden_with_all_that_is_kept():
    # import tensorflow as tf
    # def ints(*v): return tf.train.Feature(int64_list=tf.train.Int64List(value=v))
    # def texts(*v): return tf.train.Feature(bytes_list=tf.train.BytesList(value=v))
    # floats = tf.train.Feature(float_list=tf.train.FloatList(value=[0.5, -3.25]))
    # example = tf.train.Example(features=tf.train.Features(feature={
    #     "user_id": texts(b"u"), "item_ids": ints(1, 300), "split": ints(1, 2),
    #     "ratings": floats, "event_types": texts(b"buy", b""),
    #     "extra/note": texts("\u00e9".encode(), b"x" * 130)}))
    # print(example.SerializeToString(deterministic=True).hex())   # TensorFlow 2.21
    records = encode(
        [("u", [(1, 0), (300, 0)], (1, 2))],
        {
            "ratings": [0.5, -3.25],
            "event_types": ["buy", ""],
            "extra/note": ["\u00e9", "x" * 130],
        },
        times=False,
    )
    assert records.buffer.tobytes().hex() == GOLDEN_WITH_ALL


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
GOLDEN_WITH_ALL = (
    "0a89020a180a0b6576656e745f747970657312090a070a036275790a000a9b010a0a6578"
    "7472612f6e6f7465128c010a89010a02c3a90a8201" + "78" * 130 + "0a130a086974"
    "656d5f69647312071a050a0301ac020a170a07726174696e6773120c120a0a080000003f"
    "000050c00a0f0a0573706c697412061a040a0201020a100a07757365725f696412050a03"
    "0a0175"
)
