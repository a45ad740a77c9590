"""Each fast path beside the plain formula: values, and gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptiverec.model.adaptive_contrastive_loss import adaptive_contrastive_loss
from adaptiverec.model.gelu import gelu
from adaptiverec.model.info_nce_loss import info_nce_loss
from adaptiverec.model.layer_norm import LayerNorm
from adaptiverec.model.look_up import look_up
from adaptiverec.model.masked_logsumexp import masked_logsumexp
from adaptiverec.model.next_item_loss import next_item_loss
from adaptiverec.model.similarity import (
    pairwise_similarity,
    twin_similarity,
    twin_similarity_of_views,
)

SEEDS = st.integers(0, 2**32 - 1)
several = settings(max_examples=15, deadline=None)


def values_and_gradients(function, inputs, upstream_seed=9):
    """The output, and the gradients of a random weighting of it."""
    inputs = [tf.constant(value) for value in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        output = function(*inputs)
        weights = np.random.default_rng(upstream_seed).normal(size=output.shape)
        total = tf.reduce_sum(output * weights.astype(np.float32))
    gradients = tape.gradient(total, inputs, unconnected_gradients="zero")
    gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
    return [output, *gradients]


def assert_same(fast, plain, inputs, *, rtol=1e-4, atol=1e-5):
    found = values_and_gradients(fast, inputs)
    expected = values_and_gradients(plain, inputs)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def normal(seed, *shape, scale=1.0):
    generator = np.random.default_rng(seed)
    return (scale * generator.normal(size=shape)).astype(np.float32)


@several
@given(SEEDS, st.integers(1, 6), st.sampled_from([0.1, 1.0, 30.0]))
def test_layer_norm(seed, rows, scale) -> None:
    ours, theirs = (
        LayerNorm(epsilon=1e-6),
        keras.layers.LayerNormalization(epsilon=1e-6),
    )
    inputs = [
        normal(seed, rows, 8, scale=scale),
        normal(seed + 1, 8),
        normal(seed + 2, 8),
    ]

    def applied(layer):
        layer.build((None, 8))

        def function(x, gamma, beta):
            return layer(x) * gamma + beta

        return function

    assert_same(applied(ours), applied(theirs), inputs, rtol=1e-3, atol=1e-3 / scale)


def test_layer_norm_trains_scale_and_shift_as_keras_does() -> None:
    x, upstream = normal(1, 5, 8), normal(2, 5, 8)
    found = []
    for layer_class in (LayerNorm, keras.layers.LayerNormalization):
        layer = layer_class(epsilon=1e-12)
        layer.build((None, 8))
        layer.set_weights([normal(3, 8), normal(4, 8)])
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(layer(x) * upstream)
        found.append(tape.gradient(total, layer.trainable_variables))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_layer_norm_of_equal_elements_is_the_shift() -> None:
    layer = LayerNorm(epsilon=1e-6)
    layer.build((None, 4))
    layer.beta.assign([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(
        layer(np.full((2, 4), 7, np.float32)), [[1, 2, 3, 4]] * 2
    )


@several
@given(SEEDS, st.integers(0, 9))
def test_look_up(seed, count) -> None:
    indices = np.random.default_rng(seed).integers(0, 5, count)
    plain = lambda table: tf.gather(tf.identity(table), indices)  # noqa: E731
    assert_same(lambda table: look_up(table, indices), plain, [normal(seed, 5, 3)])


def test_look_up_of_padding_trains_nothing() -> None:
    table = tf.constant(normal(0, 4, 2))
    with tf.GradientTape() as tape:
        tape.watch(table)
        rows = look_up(table, tf.constant([[0, 3], [0, 0], [3, 1]]), padding=0)
        total = tf.reduce_sum(rows)
    np.testing.assert_array_equal(rows[1], table.numpy()[[0, 0]])
    np.testing.assert_array_equal(
        tape.gradient(total, table), [[0, 0], [1, 1], [0, 0], [2, 2]]
    )


def test_gelu() -> None:
    x = np.array([-40, -6, -1, -1e-3, 0, 1e-3, 0.5, 1, 6, 40], np.float32)
    plain = lambda x: keras.activations.gelu(x, approximate=False)  # noqa: E731
    assert_same(gelu, plain, [x], atol=1e-6)


def plain_next_item_loss(targets):
    def function(f, vectors):
        scores = tf.matmul(f, vectors, transpose_b=True)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(targets - 1, scores)

    return function


@several
@given(SEEDS, st.integers(1, 5), st.integers(1, 7), st.sampled_from([0.1, 1, 5, 40]))
def test_next_item_loss(seed, batch, num_items, scale) -> None:
    targets = np.random.default_rng(seed).integers(1, num_items + 1, batch)
    assert_same(
        lambda f, vectors: next_item_loss(f, vectors, targets),
        plain_next_item_loss(targets),
        [normal(seed, batch, 4, scale=scale), normal(seed + 1, num_items, 4)],
        # What f is rounded to is what its multiples differ by.
        atol=1e-5 * max(1, scale / 10),
    )


@several
@given(SEEDS, st.integers(1, 5), st.integers(1, 7), st.sampled_from([0.1, 1, 40]))
def test_next_item_loss_of_smoothed_labels(seed, batch, num_items, scale) -> None:
    generator = np.random.default_rng(seed)
    targets = generator.integers(1, num_items + 1, batch)
    share = generator.uniform(0.01, 0.9)

    def plain(f, vectors):
        labels = (1 - share) * tf.one_hot(targets - 1, num_items) + share / num_items
        scores = tf.matmul(f, vectors, transpose_b=True)
        return tf.nn.softmax_cross_entropy_with_logits(labels, scores)

    assert_same(
        lambda f, vectors: next_item_loss(f, vectors, targets, label_smoothing=share),
        plain,
        [normal(seed, batch, 4, scale=scale), normal(seed + 1, num_items, 4)],
        atol=1e-5 * max(1, scale / 10),
    )


@several
@given(SEEDS, st.integers(1, 5), st.sampled_from([0.1, 5, 40]))
def test_next_item_loss_among_unseen_items(seed, batch, scale) -> None:
    generator = np.random.default_rng(seed)
    targets = generator.integers(1, 8, batch)
    # With padding, repeats and, at times, the target itself.
    history = generator.integers(0, 8, (batch, 4))

    def plain(f, vectors):
        losses = []
        for row, target in enumerate(targets):
            others = set(range(1, 8)) - set(history[row].tolist()) - {target}
            kept = tf.constant([target, *others]) - 1
            scores = tf.linalg.matvec(tf.gather(vectors, kept), f[row])
            losses.append(tf.reduce_logsumexp(scores) - scores[0])
        return tf.stack(losses)

    assert_same(
        lambda f, vectors: next_item_loss(f, vectors, targets, history),
        plain,
        [normal(seed, batch, 4, scale=scale), normal(seed + 1, 7, 4)],
        atol=1e-5 * max(1, scale / 10),
    )


def test_next_item_loss_of_a_target_whose_share_is_0() -> None:
    # e^-200 is no float32: the loss is the difference of the scores all the same.
    f, vectors = np.array([[100.0]], np.float32), np.array([[1.0], [-1.0]], np.float32)
    assert float(next_item_loss(f, vectors, [2])[0]) == pytest.approx(200)
    found = values_and_gradients(lambda f: next_item_loss(f, vectors, [2]), [f])
    expected = values_and_gradients(
        lambda f: plain_next_item_loss(np.array([2]))(f, vectors), [f]
    )
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6)


@several
@given(SEEDS, st.sampled_from([0.1, 1.0, 50.0]))
def test_masked_logsumexp(seed, scale) -> None:
    mask = np.random.default_rng(seed).random((4, 5)) < 0.5
    mask[:, seed % 5] = True
    mask[1] = np.arange(5) == 2
    plain = lambda x: tf.reduce_logsumexp(tf.where(mask, x, -1e30), axis=1)  # noqa: E731
    logits = normal(seed, 4, 5, scale=scale)
    assert_same(lambda x: masked_logsumexp(x, mask), plain, [logits])


@pytest.mark.parametrize("kind", ["cosine", "dot"])
def test_twins_of_views_are_those_of_the_matrix(kind) -> None:
    assert_same(
        lambda views: twin_similarity_of_views(views, kind),
        lambda views: twin_similarity(pairwise_similarity(views, kind)),
        [normal(5, 6, 4)],
    )


SOFT = 0.2


def plain_adaptive_loss(kind, temperature, pair_weights, denominator, assignment):
    """The formula, row by row and pair by pair."""

    def function(views, thresholds):
        unit = views / tf.norm(views, axis=1, keepdims=True)
        cosines = tf.matmul(unit, unit, transpose_b=True)
        dots = tf.matmul(views, views, transpose_b=True)
        logits = (cosines if kind == "cosine" else dots) / temperature
        size, losses = views.shape[0], []
        for i in range(size):
            twin = (i + size // 2) % size
            share, rest = {}, {}
            for j in set(range(size)) - {i, twin}:
                margin = cosines[i, j] - thresholds[i]
                share[j] = tf.sigmoid(margin / SOFT)
                rest[j] = tf.sigmoid(-margin / SOFT)
                if assignment == "hard":
                    share[j] = tf.constant(float(margin >= 0))
                    rest[j] = 1 - share[j]
            number = sum(share.values(), tf.constant(0.0))
            summed = tf.exp(logits[i, twin])
            for j, w in rest.items():
                in_sum = w if denominator == "negatives" else 1.0
                summed += in_sum * tf.exp(logits[i, j])
            p = tf.exp(logits[i]) / summed
            mass = 0.5 * tf.minimum(number, 1)
            weight = mass / number if float(number) else 0.0
            if pair_weights == "outside":
                loss = -(1 - mass) * tf.math.log(p[twin])
                for j, w in share.items():
                    loss -= weight * w * tf.math.log(p[j])
            else:
                loss = -tf.math.log((1 - mass) * p[twin])
                for j, w in share.items():
                    loss -= w * tf.math.log(weight * p[j]) if float(w) else 0.0
            losses.append(loss)
        return tf.stack(losses)

    return function


def adaptive_loss(kind, temperature, pair_weights, denominator, assignment):
    def function(views, thresholds):
        return adaptive_contrastive_loss(
            pairwise_similarity(views, kind),
            thresholds,
            twin_similarity_of_views(views, kind),
            cosines=pairwise_similarity(views),
            temperature=temperature,
            pair_weights=pair_weights,
            denominator=denominator,
            assignment=assignment,
            assignment_temperature=SOFT,
        ).loss

    return function


@settings(max_examples=40, deadline=None)
@given(
    SEEDS,
    st.integers(1, 4),
    st.sampled_from([-2.0, -0.3, 0.1, 0.4, 2.0]),
    st.booleans(),
    st.tuples(
        st.sampled_from(["cosine", "dot"]),
        st.sampled_from([1.0, 0.5]),
        st.sampled_from(["outside", "inside"]),
        st.sampled_from(["negatives", "all"]),
        st.sampled_from(["hard", "soft"]),
    ),
)
def test_adaptive_loss(seed, batch, threshold, equal_rows, options) -> None:
    """One sequence; all others positive, and none; two sequences alike."""
    views = normal(seed, 2 * batch, 3)
    if equal_rows:
        views[-1] = views[0]
    thresholds = np.full(2 * batch, threshold, np.float32)
    thresholds += normal(seed + 1, 2 * batch, scale=0.01)
    assert_same(
        adaptive_loss(*options),
        plain_adaptive_loss(*options),
        [views, thresholds],
        rtol=1e-3,
        atol=1e-4,
    )


@several
@given(SEEDS, st.integers(1, 4), st.sampled_from([1.0, 0.1]))
def test_info_nce_loss(seed, batch, temperature) -> None:
    def fast(views):
        return info_nce_loss(
            pairwise_similarity(views, "dot"),
            twin_similarity_of_views(views, "dot"),
            temperature=temperature,
        )

    def plain(views):
        logits = tf.matmul(views, views, transpose_b=True) / temperature
        others = tf.where(tf.eye(2 * batch, dtype=tf.bool), -1e30, logits)
        twins = tf.constant(np.roll(np.arange(2 * batch), batch))
        return -tf.gather(tf.nn.log_softmax(others), twins, batch_dims=1)

    assert_same(fast, plain, [normal(seed, 2 * batch, 3)], rtol=1e-3, atol=1e-4)
