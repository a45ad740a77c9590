"""Encoding without padding, beside encoding a padded batch by plain layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adaptiverec.model.packed_batch import PackedBatch
from adaptiverec.model.sequence_encoder import SequenceEncoder

WIDTH = 20


@pytest.fixture(scope="module", params=[1, 2], ids=["one head", "two heads"])
def encoder(request) -> SequenceEncoder:
    keras.utils.set_random_seed(1)
    encoder = SequenceEncoder(
        num_items=30,
        max_length=WIDTH,
        hidden_dim=8,
        inner_dim=16,
        num_heads=request.param,
        dropout=0.0,
    )
    encoder.build()
    for weight in encoder.weights:
        weight.assign(weight + 0.3 * keras.random.normal(weight.shape, seed=2))
    return encoder


def rows(lengths) -> np.ndarray:
    ids = np.random.default_rng(len(lengths)).integers(1, 31, (len(lengths), WIDTH))
    ids[np.arange(WIDTH)[None, :] >= np.array(lengths)[:, None]] = 0
    return ids.astype(np.int32)


@pytest.mark.parametrize("length", [1, 5, 20, 513, 3000])
def test_no_sequence_is_padded_to_more_than_twice_its_length(length) -> None:
    item_ids = np.zeros((1, 3000), np.int32)
    item_ids[0, :length] = 1
    batch = PackedBatch.by_length(tf.constant(item_ids), tf.constant([length]))
    states = tf.ones([length, 2])
    widths = []

    def attention(query, key, value):
        if query.shape[0]:
            widths.append(query.shape[2])
        return value

    batch.attend(attention, states, states, states, num_heads=1)
    (width,) = widths
    assert length <= width <= max(4, 2 * length - 1)


def plain_encode(encoder, item_ids):
    """Every position through every block, keys and values made; Keras' own functions."""
    lengths = np.maximum((item_ids != 0).sum(axis=1), 1)
    batch = len(item_ids)
    x = tf.gather(encoder.item_embedding.embeddings.value, item_ids)
    # Padding trains no embedding, nor where it stands for an empty sequence.
    x = tf.where(item_ids[:, :, None] != 0, x, tf.stop_gradient(x))
    x = x + encoder.position_embedding.embeddings.value[None, :WIDTH]

    def norm(layer, x):
        mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
        return (x - mean) / tf.sqrt(variance + layer.epsilon) * layer.gamma + layer.beta

    def dense(layer, x):
        return tf.tensordot(x, layer.kernel.value, 1) + layer.bias

    x = norm(encoder.norm, x)
    later = np.triu(np.ones((WIDTH, WIDTH), bool), 1)
    for block in encoder.blocks:
        layer = block.attention
        shape = [batch, WIDTH, block.num_heads, -1]
        q, k, v = (
            tf.reshape(dense(part, x), shape)
            for part in (layer.query, layer.key, layer.value)
        )
        scores = tf.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(q.shape[-1])
        weights = tf.nn.softmax(tf.where(later, -1e9, scores))
        mixed = tf.reshape(tf.einsum("bhqk,bkhd->bqhd", weights, v), x.shape)
        x = norm(block.attention_norm, x + dense(layer.projection, mixed))
        inner = tf.nn.gelu(dense(block.inner, x), approximate=False)
        x = norm(block.inner_norm, x + dense(block.outer, inner))
    return tf.gather(x, lengths - 1, batch_dims=1)


def with_gradients(encode, encoder):
    with tf.GradientTape() as tape:
        output = encode()
        weights = np.random.default_rng(3).normal(size=output.shape)
        total = tf.reduce_sum(output * weights.astype(np.float32))
    gradients = tape.gradient(total, [w.value for w in encoder.trainable_weights])
    return [output, *(tf.convert_to_tensor(gradient) for gradient in gradients)]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, WIDTH), min_size=1, max_size=12))
@example([1])
@example([0])
@example([WIDTH] * 3)
@example([4, 5, 8, 9, 16, 17, 1, 20])
def test_values_and_gradients(encoder, lengths) -> None:
    ids = rows(lengths)
    expected = with_gradients(lambda: plain_encode(encoder, ids), encoder)
    for encode in (encoder.encode_by_length, encoder):
        found = with_gradients(
            lambda encode=encode: encode(ids, training=True), encoder
        )
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


def test_by_length_worked_by_hand() -> None:
    ids = np.array([[7, 8, 9, 0], [5, 0, 0, 0], [0, 0, 0, 0], [1, 2, 3, 4]], np.int32)
    batch = PackedBatch.by_length(tf.constant(ids), tf.constant([3, 1, 0, 4]))
    # Shortest first; the empty one counts as a token of padding.
    np.testing.assert_array_equal(batch.item_ids, [5, 0, 7, 8, 9, 1, 2, 3, 4])
    np.testing.assert_array_equal(batch.positions, [0, 0, 0, 1, 2, 0, 1, 2, 3])
    np.testing.assert_array_equal(batch.last_tokens, [0, 1, 4, 8])
    np.testing.assert_array_equal(batch.last_positions, [0, 0, 2, 3])
    np.testing.assert_array_equal(
        batch.in_order(tf.constant([1, 2, 0, 3])), [0, 1, 2, 3]
    )


@pytest.mark.parametrize("num_heads", [1, 2])
def test_attention_gets_each_sequence_and_gives_it_back(num_heads) -> None:
    ids = rows([3, 20, 5, 1, 9])
    lengths = tf.constant([3, 20, 5, 1, 9])
    batch = PackedBatch.by_length(tf.constant(ids), lengths)
    tokens = tf.random.stateless_normal([38, 4], [1, 2])

    def first_of_each(query, key, value):
        return tf.broadcast_to(value[:, :, :1], tf.shape(query))

    found = batch.attend(first_of_each, tokens, tokens, tokens, num_heads=num_heads)
    starts = np.repeat([0, 1, 4, 9, 18], [1, 3, 5, 9, 20])
    np.testing.assert_array_equal(found, tokens.numpy()[starts])
