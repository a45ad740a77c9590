"""The whole objective of a batch, with each of its options, beside one in NumPy."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from adaptiverec.model.contrastive_objective import ContrastiveObjective

DIM, BATCH = 16, 5
erf = np.vectorize(math.erf)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def negatives() -> np.ndarray:
    index = np.arange(2 * BATCH)
    return (index[:, None] - index) % BATCH != 0


def cosines_of(z: np.ndarray) -> np.ndarray:
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    return unit @ unit.T


def thresholds_of(z1: np.ndarray, layer: ContrastiveObjective) -> np.ndarray:
    hidden_kernel, hidden_bias, kernel, bias = map(
        np.array, layer.threshold.trainable_weights
    )
    x = z1 @ hidden_kernel + hidden_bias
    hidden = 0.5 * x * (1 + erf(x / math.sqrt(2)))
    return 2.1 * (sigmoid(hidden @ kernel + bias)[:, 0] - 0.5)


def info_nce(z: np.ndarray, similarity: str, temperature: float) -> np.ndarray:
    logits = (cosines_of(z) if similarity == "cosine" else z @ z.T) / temperature
    twins = np.roll(np.arange(2 * BATCH), BATCH)
    exponentials = np.exp(logits)
    np.fill_diagonal(exponentials, 0)
    return np.log(exponentials.sum(axis=1)) - logits[np.arange(2 * BATCH), twins]


def adaptive(z: np.ndarray, k: np.ndarray, options: dict) -> tuple:
    """The loss and ``|M+|`` of each row."""
    options = {
        "similarity": "cosine",
        "temperature": 1.0,
        "pair_weights": "outside",
        "denominator": "negatives",
        "assignment": "hard",
        "assignment_temperature": 0.1,
        **options,
    }
    cosines, of_n = cosines_of(z), negatives()
    margins = cosines - np.concatenate([k, k])[:, None]
    shares = (margins >= 0).astype(float)
    if options["assignment"] == "soft":
        shares = sigmoid(margins / options["assignment_temperature"])
    shares = np.where(of_n, shares, 0)
    logits = cosines if options["similarity"] == "cosine" else z @ z.T
    exponentials = np.exp(logits / options["temperature"])
    twins = np.arange(2 * BATCH), np.roll(np.arange(2 * BATCH), BATCH)
    in_sum = of_n - shares if options["denominator"] == "negatives" else of_n
    totals = exponentials[twins] + (in_sum * exponentials).sum(axis=1)
    p = exponentials / totals[:, None]
    numbers = shares.sum(axis=1)
    mass = 0.5 * np.minimum(numbers, 1)
    weights = np.divide(mass, numbers, out=np.ones_like(mass), where=numbers > 0)
    if options["pair_weights"] == "outside":
        losses = -(1 - mass) * np.log(p[twins])
        losses -= (weights[:, None] * shares * np.log(p)).sum(axis=1)
    else:
        losses = -np.log((1 - mass) * p[twins])
        losses -= (shares * np.log(weights[:, None] * p)).sum(axis=1)
    return losses, numbers


OPTIONS = {
    "defaults": {},
    "dot": {"similarity": "dot"},
    "temperature": {"temperature": 0.3},
    "inside": {"pair_weights": "inside"},
    "denominator over all": {"denominator": "all"},
    "soft": {"assignment": "soft"},
    "softer": {"assignment": "soft", "assignment_temperature": 0.5},
    "soft, over all": {"assignment": "soft", "denominator": "all"},
    "quantile": {"threshold_quantile": 0.3},
    "mean": {"threshold_target": "mean"},
    "median": {"threshold_target": "median"},
    "weight": {"threshold_weight": 2.0},
    "start": {"threshold_start": 0.7},
    "two pairs": {"pairs": 2},
}


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_long_epoch_of_views_in_half_precision(dtype_policy, policy) -> None:
    """What is averaged over an epoch is as with the same numbers in float32."""
    generator = np.random.default_rng(4)
    views = generator.normal(size=(300, 2, BATCH, DIM)).astype(np.float32)
    views = tf.cast(tf.cast(views, policy.removeprefix("mixed_")), tf.float32)
    averages = []
    for name in ("float32", policy):
        keras.utils.set_random_seed(3)
        with dtype_policy(name):
            layer = ContrastiveObjective()
            layer.build([((None, DIM), (None, DIM))])

        @tf.function
        def epoch(layer, dtype):
            for step in tf.range(300):
                z1, z2 = tf.unstack(tf.cast(views[step], dtype))
                layer([(z1, z2)])

        epoch(layer, name.removeprefix("mixed_"))
        layer.start_epoch()
        figures = {name: m.result() for name, m in layer.observations.items()}
        figures["q"] = layer.regularizer.previous
        averages.append({name: float(value) for name, value in figures.items()})
    whole, half = averages
    assert whole["threshold_spread"] > 0
    assert half == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_adaptive_objective_of_two_epochs(options) -> None:
    generator = np.random.default_rng(5)
    options = dict(options)
    num_pairs = options.pop("pairs", 1)
    layer = ContrastiveObjective(**options)
    layer.build([((None, DIM), (None, DIM))])
    kernels = [
        w for w in layer.threshold.trainable_weights if w.path.endswith("kernel")
    ]
    for kernel in kernels:
        kernel.assign(generator.normal(size=kernel.shape))
    kind = options.get("threshold_target", "quantile")
    share = 0.5 if kind == "median" else options.get("threshold_quantile", 0.9)

    def statistic(values: np.ndarray) -> float:
        if kind == "mean":
            return values.mean()
        return np.quantile(values, share, method="inverted_cdf")

    previous = None
    for _ in range(2):
        layer.start_epoch()
        seen = []
        for _ in range(2):
            shift = generator.normal(size=(1, 1, DIM))
            pairs = shift + generator.normal(size=(2 * num_pairs, BATCH, DIM))
            pairs = pairs.reshape(num_pairs, 2, BATCH, DIM).astype(np.float32)
            expected: dict[str, list] = {}
            for z1, z2 in pairs:
                z, k = np.concatenate([z1, z2]).astype(float), thresholds_of(z1, layer)
                cosines = cosines_of(z)
                losses, numbers = adaptive(z, k, options)
                seen.append(statistic(cosines[negatives()]))
                apart = 2 - 2 * cosines
                terms = {
                    "contrastive_loss": losses.mean(),
                    "threshold_loss": np.linalg.norm(k - previous) if previous else 0,
                    "threshold_mean": k.mean(),
                    "threshold_spread": k.std(),
                    "num_positives": numbers.mean(),
                    "positive_share": numbers.mean() / (2 * BATCH - 2),
                    "similarity_target": seen[-1],
                    "alignment": np.diagonal(apart, BATCH).mean(),
                    "uniformity": np.log(np.exp(-2 * apart[negatives()]).mean()),
                }
                for name, value in terms.items():
                    expected.setdefault(name, []).append(value)
            for metric in layer.observations.values():
                metric.reset_state()
            loss = float(layer([tuple(pair) for pair in pairs]))
            weight = options.get("threshold_weight", 0.1)
            learn, regular = (
                sum(expected[name]) for name in ("contrastive_loss", "threshold_loss")
            )
            # q comes of a histogram.
            assert loss == pytest.approx(learn + weight * regular, rel=1e-3)
            for name, values in expected.items():
                # The terms of the loss are those of all pairs, as the loss is.
                value = sum(values) if name.endswith("_loss") else np.mean(values)
                found = float(layer.observations[name].result())
                assert found == pytest.approx(value, rel=1e-3, abs=1e-3), name
        previous = float(np.mean(seen))


@pytest.mark.parametrize(
    ("options", "similarity", "temperature"),
    [
        ({}, "dot", 1.0),
        ({"similarity": "cosine", "temperature": 0.2}, "cosine", 0.2),
    ],
)
def test_info_nce_objective(options, similarity, temperature) -> None:
    pairs = np.random.default_rng(2).normal(size=(2, 2, BATCH, DIM)) / 3
    layer = ContrastiveObjective(objective="info_nce", **options)
    layer.build([((None, DIM), (None, DIM))])
    layer.start_epoch()
    expected = sum(
        info_nce(np.concatenate(pair), similarity, temperature).mean() for pair in pairs
    )
    loss = layer([tuple(pair) for pair in pairs.astype(np.float32)])
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    told = float(layer.observations["contrastive_loss"].result())
    assert told == pytest.approx(expected, rel=1e-5)
