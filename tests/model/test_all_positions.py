"""A target at every position: the same loss as that of all prefixes, sooner."""

import itertools

import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from adaptiverec.common.errors import InvalidValueError
from adaptiverec.model.adaptive_rec import AdaptiveRec
from adaptiverec.model.instances import Instances, training_dataset
from adaptiverec.model.prepared_data import Sequences

SMALL = {"max_length": 6, "hidden_dim": 8, "inner_dim": 8, "dropout": 0.0}
# Two users of several items; one whose training part is a single one.
SEQUENCES = Sequences(
    items=np.array([5, 6, 7, 8, 9, 3, 1, 2, 7, 4], np.int32),
    starts=np.array([0, 5, 6, 10]),
    train_ends=np.array([4, 6, 9]),
    validation_ends=np.array([5, 6, 10]),
)


def rows_of(**options) -> list[tuple[list[int], list[int]]]:
    rows = []
    data = training_dataset(SEQUENCES, instances="sequences", **options)
    assert int(data.cardinality()) == len(list(data))
    for inputs, targets in data:
        pairs = zip(inputs["item_ids"].numpy(), targets.numpy(), strict=True)
        rows += [(ids[ids != 0].tolist(), ts[ts != 0].tolist()) for ids, ts in pairs]
    return sorted(rows)


def test_every_position_has_a_target_and_every_target_a_position() -> None:
    expected = [([1, 2], [2, 7]), ([5, 6, 7], [6, 7, 8])]
    assert rows_of(max_length=6) == expected
    assert rows_of(max_length=6, batch_size=1) == expected
    # The first user has three targets, too many for two positions.
    windows = [([1, 2], [2, 7]), ([5], [6]), ([6, 7], [7, 8])]
    assert rows_of(max_length=2) == rows_of(max_length=2, batch_size=1) == windows
    ones = [([1], [2]), ([2], [7]), ([5], [6]), ([6], [7]), ([7], [8])]
    assert rows_of(max_length=1) == ones


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30)), min_size=1, max_size=6),
    st.integers(1, 12),
)
def test_however_long_the_users_each_target_is_one_position(
    sequences_of, users, max_length
) -> None:
    # The items are numbered through: the one after each is the next number.
    number = itertools.count(1)
    sequences = sequences_of(
        [
            (list(itertools.islice(number, length)), min(trained, length), length)
            for length, trained in users
        ]
    )
    instances = Instances.of(sequences, "train")
    rows = instances.covering(max_length)
    begins = np.maximum(instances.starts[rows], instances.targets[rows] - max_length)
    found = [
        place
        for begin, end in zip(begins, instances.targets[rows], strict=True)
        for place in range(begin + 1, end + 1)
    ]
    assert sorted(found) == instances.targets.tolist()
    if not len(rows):
        return
    data = training_dataset(sequences, instances="sequences", max_length=max_length)
    assert sum(len(targets) for _, targets in data) == len(rows)
    for inputs, targets in data:
        inside = targets.numpy() != 0
        np.testing.assert_array_equal(inside, inputs["item_ids"].numpy() != 0)
        np.testing.assert_array_equal(
            targets.numpy()[inside], inputs["item_ids"].numpy()[inside] + 1
        )


def test_the_sequence_of_the_same_target_is_that_of_the_last_position() -> None:
    # The prefix [5, 6] of the first user has the target 7, the third user's last one.
    for inputs, targets in training_dataset(SEQUENCES, instances="sequences"):
        rows = zip(targets.numpy(), inputs["same_target_item_ids"].numpy(), strict=True)
        found = {tuple(t[t != 0]): ids[ids != 0].tolist() for t, ids in rows}
        assert found == {(2, 7): [5, 6], (6, 7, 8): [5, 6, 7]}


def test_no_such_instances() -> None:
    with pytest.raises(InvalidValueError, match="instances must be one of 'prefixes'"):
        training_dataset(SEQUENCES, instances="users")


@pytest.fixture(scope="module", params=[0.0, 0.7], ids=["attention", "low-pass"])
def encoder_model(request) -> AdaptiveRec:
    keras.utils.set_random_seed(2)
    model = AdaptiveRec(20, **SMALL, objective="none", low_pass_share=request.param)
    for weight in model.trainable_weights:
        weight.assign(weight + 0.3 * keras.random.normal(weight.shape, seed=2))
    return model


def padded(lengths, seed=0) -> np.ndarray:
    ids = np.random.default_rng(seed).integers(1, 21, (len(lengths), 6))
    return np.where(np.arange(6) < np.array(lengths)[:, None], ids, 0).astype(np.int32)


def prefixes_of(item_ids) -> list[np.ndarray]:
    rows = []
    for row in item_ids:
        for end in range(1, np.count_nonzero(row) + 1):
            rows.append(np.where(np.arange(6) < end, row, 0))
    return rows


def test_the_state_at_each_item_is_that_of_its_prefix(encoder_model) -> None:
    item_ids = padded([3, 6, 1])
    encoder = encoder_model.encoder
    last, states, batch = encoder.encode_all_positions(item_ids)
    np.testing.assert_allclose(last, encoder(item_ids), rtol=1e-4, atol=1e-5)
    # The packed batch has its sequences by length.
    expected = encoder(np.array(prefixes_of(item_ids[[2, 0, 1]])))
    np.testing.assert_allclose(states, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(batch.tokens_of(item_ids), batch.item_ids)


def loss_and_gradients(model, inputs, targets, weights=None):
    with tf.GradientTape() as tape:
        loss, _ = model.total_loss(inputs, tf.constant(targets), weights)
    gradients = tape.gradient(loss, model.trainable_weights)
    return [loss, *(tf.convert_to_tensor(g) for g in gradients)]


@pytest.mark.parametrize("candidates", ["all", "unseen"])
def test_the_loss_is_that_of_all_prefixes(encoder_model, candidates) -> None:
    model = AdaptiveRec.from_config(
        {**encoder_model.get_config(), "next_item_candidates": candidates}
    )
    model.set_weights(encoder_model.get_weights())
    item_ids, targets = padded([3, 6, 1]), padded([3, 6, 1], seed=1)
    found = loss_and_gradients(model, item_ids, targets)
    prefixes = np.array(prefixes_of(item_ids))
    expected = loss_and_gradients(model, prefixes, targets[targets != 0])
    fixed = model.total_loss(item_ids, tf.constant(targets), fixed_shapes=True).total
    assert float(fixed) == pytest.approx(float(found[0]), rel=1e-5)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_positions_without_a_target_and_weights(encoder_model) -> None:
    item_ids, targets = padded([3, 6, 1]), padded([3, 6, 1], seed=1)
    targets[1, :4] = 0
    found = loss_and_gradients(
        encoder_model, item_ids, targets, np.array([1.0, 2.0, 0.5])
    )
    keep = [0, 1, 2, 7, 8, 9]
    expected = loss_and_gradients(
        encoder_model,
        np.array(prefixes_of(item_ids))[keep],
        targets[targets != 0],
        np.array([1, 1, 1, 2, 2, 0.5], np.float32),
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 1), (3, 6, 1)])
def test_targets_of_another_shape_are_refused(encoder_model, shape) -> None:
    # Too few would otherwise be read as those of other positions.
    with pytest.raises(InvalidValueError, match=r"one at each position. Received: tar"):
        encoder_model.total_loss(padded([3, 6, 1]), np.ones(shape, np.int32))


@pytest.mark.parametrize("views", ["us_x", "un"])
def test_the_contrast_is_that_of_the_last_positions(views) -> None:
    model = AdaptiveRec(20, **SMALL, objective="info_nce", views=views)
    inputs = {
        "item_ids": padded([3, 6, 1]),
        "same_target_item_ids": padded([2, 2, 4], seed=3),
    }
    targets = padded([3, 6, 1], seed=1)
    last = targets[np.arange(3), [2, 5, 0]]
    contrasts = []
    for given in (targets, last):
        total, next_item = model.total_loss(inputs, tf.constant(given))
        contrasts.append(float(total - next_item))
    assert contrasts[0] == pytest.approx(contrasts[1], rel=1e-4)


@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning:keras")
def test_fit_learns_from_all_positions() -> None:
    keras.utils.set_random_seed(0)
    starts = np.arange(32) % 12
    # Items count upwards around a catalogue of 12, so the next one is certain.
    ids = (starts[:, None] + np.arange(7)) % 12 + 1
    inputs = {"item_ids": ids[:, :6], "same_target_item_ids": ids[:, :6]}
    data = tf.data.Dataset.from_tensor_slices((inputs, ids[:, 1:])).batch(16)
    test = tf.data.Dataset.from_tensor_slices((inputs, ids[:, 6])).batch(16)
    model = AdaptiveRec(12, **SMALL, num_blocks=1, objective="none")
    model.compile(keras.optimizers.Adam(0.02))
    model.fit(data, epochs=30, verbose=0)
    assert model.evaluate(test, return_dict=True, verbose=0)["ndcg@10"] > 0.9
