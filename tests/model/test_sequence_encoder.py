import keras
import numpy as np
import pytest
import tensorflow as tf

from adaptiverec.model.low_pass import low_pass_kernel
from adaptiverec.model.sequence_encoder import SequenceEncoder


@pytest.fixture(
    scope="module",
    params=[{}, {"low_pass_share": 0.7}, {"positions_from": "end"}],
    ids=["attention", "low-pass", "from-end"],
)
def encoder(request) -> SequenceEncoder:
    return random_encoder(**request.param)


def random_encoder(**options) -> SequenceEncoder:
    keras.utils.set_random_seed(1)
    encoder = SequenceEncoder(
        num_items=30,
        max_length=20,
        hidden_dim=8,
        inner_dim=16,
        num_heads=2,
        dropout=0.5,
        **options,
    )
    encoder.build()
    # Away from its near-zero start, so that differences would show.
    for weight in encoder.weights:
        weight.assign(weight + 0.3 * keras.random.normal(weight.shape, seed=2))
    return encoder


def rows(lengths, width=20, seed=0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    ids = generator.integers(1, 31, (len(lengths), width)).astype(np.int32)
    ids[np.arange(width)[None, :] >= np.array(lengths)[:, None]] = 0
    return ids


def test_padding_changes_nothing(encoder) -> None:
    ids = rows([3, 5, 1])
    np.testing.assert_allclose(encoder(ids), encoder(ids[:, :5]), rtol=1e-5, atol=1e-6)


def test_groups_of_similar_length_give_the_same(encoder) -> None:
    ids = rows([1, 20, 4, 8, 9, 16, 17, 2, 5])
    np.testing.assert_allclose(
        encoder.encode_by_length(ids), encoder(ids), rtol=1e-5, atol=1e-6
    )


def test_the_last_of_all_positions_gives_the_same(encoder) -> None:
    ids = rows([1, 20, 4, 9, 16])
    last, _, _ = encoder.encode_all_positions(ids)
    np.testing.assert_allclose(last, encoder(ids), rtol=1e-5, atol=1e-5)


def test_no_position_sees_what_comes_after_it(encoder) -> None:
    ids = rows([6])
    changed = ids.copy()
    changed[0, 4:6] = ids[0, 4:6] % 30 + 1
    _, states, _ = encoder.encode_all_positions(ids)
    _, others, _ = encoder.encode_all_positions(changed)
    np.testing.assert_allclose(states[:4], others[:4], rtol=1e-5, atol=1e-6)
    assert np.abs(states[4:] - others[4:]).max() > 1e-2


def test_every_item_and_its_place_matter(encoder) -> None:
    ids = rows([6])
    base = np.asarray(encoder(ids))
    for position in range(6):
        changed = ids.copy()
        changed[0, position] = ids[0, position] % 30 + 1
        assert not np.allclose(encoder(changed), base, atol=1e-4)
    swapped = ids[:, [1, 0, *range(2, 20)]]
    assert not np.allclose(encoder(swapped), base, atol=1e-4)


@pytest.mark.parametrize(
    ("share", "positions_from"), [(0.0, "start"), (0.7, "start"), (0.0, "end")]
)
def test_equals_an_independent_implementation(share, positions_from) -> None:
    """The transformer in NumPy, all positions in all blocks, then the last one."""
    encoder = random_encoder(
        low_pass_share=share, low_pass_frequencies=2, positions_from=positions_from
    )
    ids = rows([7])[0, :7]
    w = {
        weight.path.split("encoder/", 1)[-1]: np.asarray(weight)
        for weight in encoder.weights
    }
    w = {
        path.split("/", 1)[1] if path.startswith("sequence_encoder") else path: value
        for path, value in w.items()
    }

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return x * w[f"{name}/gamma"] + w[f"{name}/beta"]

    def gelu(x):
        from math import erf

        return x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2)))

    places = np.arange(7) if positions_from == "start" else np.arange(7)[::-1]
    x = w["item_embedding/embeddings"][ids] + w["position_embedding/embeddings"][places]
    x = norm(x, "norm")
    ago = np.arange(7)[:, None] - np.arange(7)[None, :]
    smoothing = np.where(ago >= 0, low_pass_kernel(20, 2)[ago], 0.0)
    for block in ("block_0", "block_1"):
        q, k, v = (
            (
                x @ w[f"{block}/attention/{part}/kernel"]
                + w[f"{block}/attention/{part}/bias"]
            )
            .reshape(7, 2, 4)
            .transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = np.einsum("nqd,nkd->nqk", q, k) / np.sqrt(q.shape[-1])
        scores[:, np.triu(np.ones((7, 7), bool), 1)] = -1e9
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = np.einsum("nqk,nkd->qnd", weights, v).reshape(7, 8)
        out = (
            mixed @ w[f"{block}/attention/projection/kernel"]
            + w[f"{block}/attention/projection/bias"]
        )
        attended = norm(x + out, f"{block}/attention_norm")
        if share:
            low = smoothing @ x
            low += w[f"{block}/low_pass/high_scale"] ** 2 * (x - low)
            smoothed = norm(x + low, f"{block}/low_pass_norm")
            attended = (1 - share) * attended + share * smoothed
        x = attended
        inner = gelu(x @ w[f"{block}/inner/kernel"] + w[f"{block}/inner/bias"])
        x = norm(
            x + inner @ w[f"{block}/outer/kernel"] + w[f"{block}/outer/bias"],
            f"{block}/inner_norm",
        )
    np.testing.assert_allclose(encoder(ids[None, :])[0], x[-1], rtol=1e-4, atol=1e-4)


def test_dropout_only_in_training(encoder) -> None:
    ids = rows([5])
    np.testing.assert_array_equal(encoder(ids), encoder(ids))
    assert not np.allclose(encoder(ids, training=True), encoder(ids, training=True))


def test_config_round_trip(encoder) -> None:
    copy = SequenceEncoder.from_config(encoder.get_config())
    copy.build()
    copy.set_weights(encoder.get_weights())
    ids = rows([4, 9])
    np.testing.assert_allclose(copy(ids), encoder(ids), rtol=1e-6)


def test_item_vectors_are_those_of_the_items_alone(encoder) -> None:
    vectors = np.asarray(encoder.item_vectors)
    assert vectors.shape == (30, 8)
    np.testing.assert_array_equal(
        vectors[0], np.asarray(encoder.item_embedding.embeddings)[1]
    )


def test_no_product_of_tensors_of_different_rank(encoder) -> None:
    """TensorFlow 2.21 corrupts the heap in some of them (tensorflow/tensorflow#117700)."""
    spec = tf.TensorSpec([None, None], tf.int32)
    graph = tf.function(encoder).get_concrete_function(spec).graph
    products = [op for op in graph.get_operations() if "MatMul" in op.type]
    assert len(products) > 10
    assert all(len({tensor.shape.rank for tensor in op.inputs}) == 1 for op in products)
    assert not [op for op in graph.get_operations() if "Einsum" in op.type]
