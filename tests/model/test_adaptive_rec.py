"""The model as Keras users use it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from adaptiverec.common.errors import InvalidValueError, StageError
from adaptiverec.model.adaptive_rec import AdaptiveRec
from adaptiverec.model.callbacks import StopOnNaN
from adaptiverec.model.ranking import target_ranks

pytestmark = pytest.mark.filterwarnings(
    # Keras remarks that a dataset shuffles itself, whatever fit() is told.
    "ignore:`shuffle=True` was passed:UserWarning:keras"
)

NUM_ITEMS = 12
SMALL = {
    "max_length": 6,
    "hidden_dim": 8,
    "num_blocks": 1,
    "inner_dim": 8,
    "dropout": 0.1,
}

# A graph takes longer to make than these tests' steps take.
eagerly_and_in_a_graph = pytest.mark.parametrize(
    "run_eagerly", [True, pytest.param(False, marks=pytest.mark.slow)]
)


def cyclic_batches(*, same_target: bool = True, seed: int = 0) -> tf.data.Dataset:
    """Sequences that count upwards around the catalogue, so the next item is certain."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 7, 64)
    starts = generator.integers(0, NUM_ITEMS, 64)
    step = np.arange(6)
    ids = (starts[:, None] + step) % NUM_ITEMS + 1
    ids = np.where(step < lengths[:, None], ids, 0).astype(np.int32)
    targets = ((starts + lengths) % NUM_ITEMS + 1).astype(np.int32)
    inputs = {"item_ids": ids, "seen_item_ids": ids}
    if same_target:
        last = (targets - 2) % NUM_ITEMS + 1
        inputs["same_target_item_ids"] = np.pad(last[:, None], [[0, 0], [0, 5]])
    return tf.data.Dataset.from_tensor_slices((inputs, targets)).batch(32)


@pytest.fixture(scope="module")
def trained() -> tuple[AdaptiveRec, keras.callbacks.History]:
    keras.utils.set_random_seed(0)
    model = AdaptiveRec(NUM_ITEMS, **SMALL)
    model.compile(keras.optimizers.Adam(0.02))
    data = cyclic_batches()
    history = model.fit(data, validation_data=data, epochs=40, verbose=0)
    return model, history


def test_fit_learns(trained) -> None:
    _, history = trained
    assert history.history["val_recall@5"][-1] == 1.0
    assert history.history["val_ndcg@10"][-1] > 0.9
    assert history.history["loss"][-1] < history.history["loss"][0] / 2


def test_diagnostics_are_reported_every_epoch(trained) -> None:
    _, history = trained
    logs = history.history
    assert set(logs) >= {
        "next_item_loss",
        "contrastive_loss",
        "threshold_loss",
        "threshold_mean",
        "threshold_spread",
        "num_positives",
        "positive_share",
        "similarity_target",
        "alignment",
        "uniformity",
    }
    # No target in the first epoch; from then on the thresholds are drawn to it.
    assert logs["threshold_loss"][0] == 0
    assert all(loss > 0 for loss in logs["threshold_loss"][1:])
    assert all(0 <= share <= 1 for share in logs["positive_share"])
    np.testing.assert_allclose(
        np.array(logs["num_positives"]) / 62, logs["positive_share"], rtol=1e-4
    )


@pytest.mark.parametrize("views", ["us_x", "us"])
def test_total_loss_is_the_weighted_sum(views) -> None:
    model = AdaptiveRec(NUM_ITEMS, **SMALL, views=views)
    # A graph takes longer to make than these steps take.
    model.compile(keras.optimizers.Adam(0.02), run_eagerly=True)
    history = model.fit(cyclic_batches(), epochs=3, verbose=0)
    logs = {name: np.array(values) for name, values in history.history.items()}
    expected = logs["next_item_loss"] + 0.1 * (
        logs["contrastive_loss"] + 0.1 * logs["threshold_loss"]
    )
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"objective": "none"},
        {"objective": "none", "low_pass_share": 0.5, "num_blocks": 2},
        {"objective": "info_nce", "views": "us_x"},
        {"views": "us_x"},
        {"views": "us", "temperature": 0.2, "assignment": "soft", "denominator": "all"},
        {"views": "su", "similarity": "dot", "pair_weights": "inside"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_gradients_are_those_of_finite_differences(options) -> None:
    keras.utils.set_random_seed(5)
    # So few pairs that none crosses its threshold on the way.
    inputs, targets = next(iter(cyclic_batches().unbatch().batch(5)))
    model = AdaptiveRec(NUM_ITEMS, **{**SMALL, "dropout": 0.0, **options})
    # An epoch, after which thresholds have a target.
    model.compile(keras.optimizers.Adam(0.02), run_eagerly=True)
    model.fit(cyclic_batches(), epochs=1, verbose=0)

    @tf.function
    def loss() -> tf.Tensor:
        return model.total_loss(inputs, targets).total

    with tf.GradientTape() as tape:
        total = loss()
    gradients = tape.gradient(total, model.trainable_weights)
    generator = np.random.default_rng(0)
    step = 1e-3
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        gradient = tf.convert_to_tensor(gradient).numpy()
        value = weight.numpy()
        random = generator.normal(size=value.shape)
        # One direction says whether the gradient is there, the other whether it is all.
        for direction in (gradient, random):
            direction = direction / max(np.linalg.norm(direction), 1e-9)
            losses = []
            for sign in (1, -1):
                weight.assign(value + sign * step * direction)
                losses.append(float(loss()))
            weight.assign(value)
            slope = (losses[0] - losses[1]) / (2 * step)
            expected = float(np.sum(gradient * direction))
            assert slope == pytest.approx(expected, rel=0.01, abs=2e-3), weight.path


@eagerly_and_in_a_graph
@pytest.mark.parametrize("objective", ["info_nce", "adaptive"])
def test_a_batch_of_one_sequence_trains_without_a_contrast(
    objective, run_eagerly
) -> None:
    model = AdaptiveRec(NUM_ITEMS, **SMALL, objective=objective)
    model.compile(keras.optimizers.Adam(0.02), run_eagerly=run_eagerly)
    inputs, targets = next(iter(cyclic_batches().unbatch().batch(1)))
    logs = model.fit(inputs, targets, epochs=3, verbose=0).history
    assert all(np.isfinite(values).all() for values in logs.values())
    np.testing.assert_allclose(logs["contrastive_loss"], 0, atol=1e-5)
    assert logs["loss"][2] < logs["loss"][0]


def test_evaluate_ranks_the_whole_catalogue(trained) -> None:
    model, _ = trained
    data = cyclic_batches(seed=5)
    result = model.evaluate(data, return_dict=True, verbose=0)
    ranks = np.concatenate(
        [target_ranks(model.predict(x, verbose=0), y) for x, y in data]
    )
    assert result["recall@5"] == pytest.approx(np.mean(ranks <= 5))
    assert result["mrr@10"] == pytest.approx(
        np.mean(np.where(ranks <= 10, 1 / ranks, 0))
    )


def test_predict_scores_every_item_by_its_dense_id(trained) -> None:
    model, _ = trained
    ids = np.array([[3, 4, 5, 0, 0, 0]], np.int32)
    scores = model.predict(ids, verbose=0)
    assert scores.shape == (1, NUM_ITEMS + 1)
    assert scores[0, 0] == -np.inf
    assert scores[0].argmax() == 6


def test_recommend_leaves_out_what_was_seen(trained) -> None:
    model, _ = trained
    ids = np.array([[3, 4, 5, 0, 0, 0]], np.int32)
    recommended, scores = model.recommend(ids, k=9)
    assert recommended[0, 0] == 6
    assert not set(np.asarray(recommended)[0]) & {0, 3, 4, 5}
    assert np.all(np.diff(np.asarray(scores)[0]) <= 0)
    seen = {"item_ids": ids, "seen_item_ids": np.array([[6, 3]], np.int32)}
    assert 6 not in np.asarray(model.recommend(seen, k=5)[0])
    assert {3, 4, 5} & set(
        np.asarray(model.recommend(ids, 12, exclude_seen=False)[0])[0]
    )


def test_keras_file_round_trip(trained, tmp_path) -> None:
    model, _ = trained
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    ids = next(iter(cyclic_batches()))[0]
    np.testing.assert_allclose(
        copy.predict(ids, verbose=0)[:, 1:],
        model.predict(ids, verbose=0)[:, 1:],
        rtol=1e-5,
    )
    regularizer, original = copy.contrast.regularizer, model.contrast.regularizer
    assert float(regularizer.previous) == pytest.approx(float(original.previous))
    # It is compiled as it was, with its optimizer's state.
    assert int(copy.optimizer.iterations) == int(model.optimizer.iterations)


def assert_equal_training(one: AdaptiveRec, other: AdaptiveRec, *logs: dict) -> None:
    """Two models that have had the same steps, and what their epochs reported."""
    first, second = logs
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_allclose(second[name], values, rtol=1e-4, err_msg=name)
    for a, b in zip(one.trainable_weights, other.trainable_weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5, err_msg=a.path)


def test_a_loaded_file_goes_on_as_the_model_would(tmp_path) -> None:
    keras.utils.set_random_seed(0)
    # Keras leaves the state of random generators, so of dropout, out of its files.
    model = AdaptiveRec(NUM_ITEMS, **{**SMALL, "dropout": 0.0})
    model.compile(keras.optimizers.Adam(0.02), run_eagerly=True)
    model.fit(cyclic_batches(), epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    copy.run_eagerly = True
    logs = [m.fit(cyclic_batches(), epochs=2, verbose=0).history for m in (model, copy)]
    assert_equal_training(model, copy, *logs)


@pytest.mark.parametrize(
    "options",
    [
        {"objective": "none"},
        {"objective": "info_nce", "views": "augment"},
        {"objective": "info_nce", "views": "us"},
        {"views": "un", "assignment": "soft", "pair_weights": "inside"},
        {"views": "su", "denominator": "all", "threshold_target": "mean"},
        {"objective": "none", "next_item": "sampled_softmax"},
        {"objective": "none", "next_item": "gbce"},
    ],
    ids=lambda options: "-".join(options.values()),
)
@eagerly_and_in_a_graph
def test_every_system_takes_a_step_that_trains_all_its_weights(
    options, run_eagerly
) -> None:
    keras.utils.set_random_seed(0)
    model = AdaptiveRec(NUM_ITEMS, **SMALL, **options)
    model.compile(run_eagerly=run_eagerly)
    before = [np.array(weight) for weight in model.trainable_weights]
    needs_twin = options.get("views") in ("us", "su")
    batch = cyclic_batches(same_target=needs_twin).take(1)
    # In the second epoch thresholds have a target.
    logs = model.fit(batch, epochs=2, verbose=0).history
    assert all(np.isfinite(values).all() for values in logs.values())
    unchanged = [
        weight.path
        for weight, old in zip(model.trainable_weights, before, strict=True)
        if np.array_equal(weight, old)
    ]
    assert unchanged == []


def test_views_are_encoded_together_on_a_gpu_to_the_same_losses(monkeypatch) -> None:
    model = AdaptiveRec(NUM_ITEMS, **SMALL | {"dropout": 0.0}, views="us")
    inputs, targets = next(iter(cyclic_batches()))
    encode, rows = model.encoder.encode_by_length, []

    def encode_and_count(item_ids, **options):
        rows.append(len(item_ids))
        return encode(item_ids, **options)

    monkeypatch.setattr(model.encoder, "encode_by_length", encode_and_count)
    apart = model.total_loss(inputs, targets)
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [kind])
    together = model.total_loss(inputs, targets)
    np.testing.assert_allclose(together, apart, rtol=1e-5)
    assert rows == [32, 32, 32, 96]


def test_equal_seeds_give_equal_models() -> None:
    scores = []
    for _ in range(2):
        keras.utils.set_random_seed(7)
        model = AdaptiveRec(NUM_ITEMS, **SMALL, objective="info_nce", views="un")
        model.compile(run_eagerly=True)
        model.fit(cyclic_batches(), epochs=1, verbose=0)
        scores.append(model.predict(np.array([[1, 2, 0, 0, 0, 0]]), verbose=0))
    np.testing.assert_array_equal(*scores)


def test_evaluation_gives_the_mean_cross_entropy() -> None:
    keras.utils.set_random_seed(4)
    model = AdaptiveRec(NUM_ITEMS, **SMALL, objective="none")
    model.compile()
    model.set_weights([5 * weight for weight in model.get_weights()])
    inputs, targets = next(iter(cyclic_batches().unbatch().batch(64)))
    scores = model.predict(inputs, verbose=0)[:, 1:].astype(float)
    of_targets = scores[np.arange(64), targets.numpy() - 1]
    expected = np.log(np.exp(scores).sum(axis=1)) - of_targets
    found = model.evaluate(inputs, targets, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(expected.mean(), rel=1e-5)


def test_the_loss_among_unseen_items_is_that_of_the_ranking() -> None:
    keras.utils.set_random_seed(4)
    losses = {}
    for candidates in ("all", "unseen"):
        model = AdaptiveRec(
            NUM_ITEMS,
            **{**SMALL, "dropout": 0.0},
            objective="none",
            next_item_candidates=candidates,
        )
        model.set_weights([5 * weight for weight in model.get_weights()])
        scores = model.predict(GOOD, verbose=0).astype(float)
        losses[candidates] = float(model.total_loss(GOOD, np.array([4, 2])).total)
        expected = []
        for row, history, target in zip(scores, GOOD, [4, 2], strict=True):
            kept = set(range(1, NUM_ITEMS + 1))
            if candidates == "unseen":
                kept -= set(history.tolist())
            expected.append(np.log(np.exp(row[list(kept)]).sum()) - row[target])
        assert losses[candidates] == pytest.approx(np.mean(expected), rel=1e-5)


def test_labels_are_smoothed_in_training_alone() -> None:
    keras.utils.set_random_seed(4)
    model = AdaptiveRec(
        NUM_ITEMS,
        **{**SMALL, "dropout": 0.0},
        objective="none",
        label_smoothing=0.2,
    )
    model.compile()
    model.set_weights([5 * weight for weight in model.get_weights()])
    targets = np.array([4, 2])
    scores = model.predict(GOOD, verbose=0)[:, 1:].astype(float)
    log_shares = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    of_targets = log_shares[np.arange(2), targets - 1]
    smoothed = 0.8 * of_targets + 0.2 * log_shares.mean(axis=1)
    found = float(model.total_loss(GOOD, targets).total)
    assert found == pytest.approx(-smoothed.mean(), rel=1e-5)
    evaluated = model.evaluate(GOOD, targets, verbose=0, return_dict=True)
    assert evaluated["loss"] == pytest.approx(-of_targets.mean(), rel=1e-5)


def test_removing_seen_items_is_a_switch() -> None:
    keras.utils.set_random_seed(1)
    model = AdaptiveRec(NUM_ITEMS, **SMALL, objective="none")
    model.compile()
    kept = model.evaluate(cyclic_batches(), return_dict=True, verbose=0)
    strict = AdaptiveRec(NUM_ITEMS, **SMALL, objective="none", exclude_seen=True)
    strict.set_weights(model.get_weights())
    strict.compile()
    removed = strict.evaluate(cyclic_batches(), return_dict=True, verbose=0)
    # Fewer candidates, and never the target among those that went.
    assert removed["mrr@10"] > kept["mrr@10"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_items": 0}, "num_items must be at least 1. Received: 0"),
        ({"num_heads": 3}, "hidden_dim must be a positive multiple of num_heads. Rec"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\). Received: 1.0"),
        (
            {"objective": "bpr"},
            "objective must be one of 'adaptive', .*Received: 'bpr'",
        ),
        (
            {"positions_from": "left"},
            "positions_from must be one of 'start', 'end'. Received: 'left'",
        ),
        ({"views": "x"}, "views must be one of 'us_x', .*Received: 'x'"),
        ({"next_item": "bpr"}, "next_item must be one of 'softmax', .*Received: 'bpr'"),
        (
            {"next_item": "gbce", "next_item_candidates": "unseen"},
            "next_item_candidates='unseen' needs next_item='softmax'. .*'gbce'",
        ),
        ({"label_smoothing": 1}, r"label_smoothing must be in \[0, 1\). Received: 1"),
        (
            {"label_smoothing": 0.1, "next_item_candidates": "unseen"},
            "label_smoothing needs .*Received: label_smoothing=0.1, .*'unseen'",
        ),
        (
            {"label_smoothing": 0.1, "next_item": "gbce"},
            "label_smoothing needs .*Received: .*next_item='gbce'",
        ),
        ({"gbce_calibration": 2}, "gbce_calibration must be at most 1. Received: 2"),
        ({"temperature": 0.0}, "temperature must be above 0. Received: 0.0"),
        ({"ks": (0,)}, "ks must be at least 1. Received: 0"),
    ],
)
def test_bad_arguments(options, message) -> None:
    with pytest.raises(InvalidValueError, match=message):
        AdaptiveRec(**{"num_items": 5, **options})


@pytest.mark.parametrize(
    "argument", [{"loss": "mse"}, {"metrics": ["accuracy"]}, {"loss_weights": [1.0]}]
)
def test_compile_takes_no_loss_and_no_metrics(argument) -> None:
    ((name, value),) = argument.items()
    with pytest.raises(InvalidValueError) as caught:
        AdaptiveRec(5, **SMALL).compile(**argument)
    assert f"compile() takes none. Received: {name}={value!r}" in str(caught.value)


def test_an_evaluation_in_mid_epoch_leaves_the_thresholds_target_alone() -> None:
    def fit(*callbacks) -> np.ndarray:
        keras.utils.set_random_seed(4)
        model = AdaptiveRec(NUM_ITEMS, **{**SMALL, "dropout": 0.0})
        # A graph takes longer to make than these steps take.
        model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        data = cyclic_batches()
        model.fit(
            data, epochs=2, validation_data=data, callbacks=list(callbacks), verbose=0
        )
        state = model.contrast.regularizer
        values = (state.previous, state.has_previous, state.sum, state.count)
        return np.array([float(value) for value in values])

    class EvaluateAtEachStep(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None) -> None:
            self.model.evaluate(cyclic_batches(), verbose=0)

    plain = fit()
    # The first epoch's two batches made the target; the second's two make the next one.
    assert plain[1] == 1
    assert plain[3] == 2
    np.testing.assert_allclose(fit(EvaluateAtEachStep()), plain, rtol=1e-6)


def test_a_term_that_is_no_number_is_named_with_its_step() -> None:
    # So low that similarities over it are infinite; the next item's loss knows nothing
    # of it.
    model = AdaptiveRec(NUM_ITEMS, **SMALL, temperature=1e-42)
    model.compile(run_eagerly=True)
    with pytest.raises(
        StageError,
        match=r"Received: contrastive_loss not finite at step 1 of epoch 1$",
    ):
        model.fit(cyclic_batches(), verbose=0, callbacks=[StopOnNaN()])
    stop = StopOnNaN()
    stop.on_epoch_begin(4)
    stop.on_train_batch_end(6, {"loss": 1.0, "threshold_loss": 2.0})
    with pytest.raises(
        StageError, match="threshold_loss not finite at step 8 of epoch 5$"
    ):
        stop.on_train_batch_end(7, {"loss": np.nan, "a": 0.0, "threshold_loss": np.inf})
    with pytest.raises(StageError, match="Received: loss not finite in epoch 6$"):
        stop.on_epoch_end(5, {"loss": np.inf, "val_loss": 1.0})


def test_rows_padded_in_front_are_refused() -> None:
    model = AdaptiveRec(NUM_ITEMS, **SMALL, objective="none")
    model.compile()
    ids = np.array([[0, 0, 0, 1, 2, 3]], np.int32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="padded at the end"):
        model.evaluate(ids, np.array([4]), verbose=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="padded at the end"):
        model.predict(ids, verbose=0)


GOOD = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 0, 0, 0, 0]], np.int32)


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        ({"item_ids": GOOD + 9 * (GOOD == 3)}, [4, 6], None),
        ({"item_ids": GOOD + 10 * (GOOD == 3)}, [4, 6], "item_ids must be dense ids"),
        ({"item_ids": -GOOD}, [4, 6], "from 0 to num_items=12"),
        ({"same_target_item_ids": GOOD + 12}, [4, 6], "same_target_item_ids must be d"),
        ({"same_target_item_ids": GOOD[:, ::-1]}, [4, 6], "same_.*_ids must be padded"),
        ({}, [4, 0], "targets must be dense ids from 1 to num_items=12"),
        ({}, [13, 6], "targets must be dense ids from 1"),
        ({"item_ids": np.pad(GOOD, [[0, 0], [0, 1]])}, [4, 6], "at most max_length=6"),
        ({"item_ids": GOOD[0]}, [4], r"of shape \[batch, length\].*Received: \(.*6,\)"),
    ],
)
def test_inputs_outside_the_contract(inputs, targets, message) -> None:
    model = AdaptiveRec(NUM_ITEMS, **SMALL)
    model.compile(run_eagerly=True)
    batch = {"item_ids": GOOD, "same_target_item_ids": GOOD, **inputs}
    if message is None:
        model.train_on_batch(batch, np.array(targets))
        return
    with pytest.raises(
        (InvalidValueError, tf.errors.InvalidArgumentError), match=message
    ):
        model.train_on_batch(batch, np.array(targets))


def test_evaluation_wants_one_target_a_sequence_and_rows_of_a_known_width() -> None:
    model = AdaptiveRec(NUM_ITEMS, **SMALL, objective="none")
    model.compile()
    with pytest.raises(
        InvalidValueError, match=r"of shape \[batch\].*Received: \(.*6\)"
    ):
        model.evaluate(GOOD, GOOD, verbose=0)
    ragged = tf.data.Dataset.from_generator(
        lambda: [([1, 2], 3), ([4], 5)],
        output_signature=(
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([], tf.int32),
        ),
    )
    with pytest.raises(InvalidValueError, match=r"columns .* must be known, as after"):
        model.fit(ragged.padded_batch(2), verbose=0)
    known = ragged.padded_batch(2, padded_shapes=([6], []))
    known = known.apply(tf.data.experimental.assert_cardinality(1))
    assert np.isfinite(model.fit(known, verbose=0).history["loss"]).all()


def test_positions_without_any_target_add_nothing() -> None:
    model = AdaptiveRec(NUM_ITEMS, **SMALL, objective="none")
    losses = model.total_loss(GOOD, tf.zeros_like(GOOD))
    assert float(losses.total) == 0.0


def test_inputs_without_what_is_needed() -> None:
    model = AdaptiveRec(NUM_ITEMS, **SMALL)
    model.compile(run_eagerly=True)
    with pytest.raises(InvalidValueError, match="same_target_item_ids"):
        model.fit(cyclic_batches(same_target=False), verbose=0)
    with pytest.raises(InvalidValueError, match=r"key 'item_ids'. Received: \['ids'\]"):
        model({"ids": np.zeros((1, 6), np.int32)})
    with pytest.raises(InvalidValueError, match="k must be at least 1. Received: 0"):
        model.recommend(np.array([[1]], np.int32), k=0)


def test_fit_and_evaluate_want_targets() -> None:
    model = AdaptiveRec(NUM_ITEMS, **SMALL, objective="none")
    model.compile(run_eagerly=True)
    for method in (model.fit, model.evaluate):
        with pytest.raises(InvalidValueError, match="as the target.*inputs alone"):
            method(GOOD, verbose=0)


@pytest.mark.parametrize("seen", [13, -1])
def test_seen_items_are_of_the_catalogue(seen) -> None:
    inputs = {"item_ids": GOOD, "seen_item_ids": np.full((2, 3), seen, np.int32)}
    model = AdaptiveRec(NUM_ITEMS, **SMALL, objective="none", exclude_seen=True)
    model.compile()
    message = "seen_item_ids must be dense ids from 0 to num_items=12"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        model.recommend(inputs)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        model.evaluate(inputs, np.array([5, 6]), verbose=0)


def test_figures_come_once_each_in_a_list_as_in_a_dictionary() -> None:
    model = AdaptiveRec(NUM_ITEMS, **SMALL, objective="none")
    model.compile()
    targets = np.array([5, 6])
    named = model.evaluate(GOOD, targets, return_dict=True, verbose=0)
    listed = model.evaluate(GOOD, targets, verbose=0)
    # The next-item loss has no figure of its own where nothing is trained.
    names = [name for name in model.metrics_names if name in named]
    assert listed == pytest.approx([named[name] for name in names])
    assert len(listed) == len(named)
    assert len(model.train_on_batch(GOOD, targets)) == 2


@pytest.fixture
def under(dtype_policy):
    """Makes a model under a policy."""

    def under(policy: str, **options) -> AdaptiveRec:
        with dtype_policy(policy):
            return AdaptiveRec(NUM_ITEMS, **{**SMALL, **options})

    return under


@pytest.mark.parametrize("fixed_shapes", [False, True])
@pytest.mark.parametrize("next_item", ["softmax", "sampled_softmax"])
def test_half_precision_adds_up_the_gradients_of_many_rows(
    under, fixed_shapes, next_item
) -> None:
    # A sum of ones in bfloat16 ends at 256.
    rows, targets = np.tile(GOOD[:1], [4096, 1]), np.full(4096, 7)
    gradients = []
    for policy in ("float32", "mixed_bfloat16"):
        keras.utils.set_random_seed(8)
        model = under(policy, dropout=0.0, objective="none", next_item=next_item)
        for weight in model.trainable_weights:
            weight.assign(weight * 10)
        with tf.GradientTape() as tape:
            loss = model.total_loss(rows, targets, fixed_shapes=fixed_shapes).total
        tables = [
            model.encoder.item_embedding.embeddings,
            model.encoder.position_embedding.embeddings,
        ]
        gradients.append(tape.gradient(loss, tables))
    for whole, half in zip(*gradients, strict=True):
        assert float(tf.norm(half - whole)) < 0.03 * float(tf.norm(whole))


def test_half_precision_ranks_with_whole_scores(under) -> None:
    keras.utils.set_random_seed(8)
    model = under("mixed_bfloat16", objective="none")
    scores = model.predict(GOOD, verbose=0)[:, 1:]
    rounded = tf.cast(tf.cast(scores, tf.bfloat16), tf.float32).numpy()
    assert (scores != rounded).mean() > 0.9


@pytest.mark.parametrize(
    "num_steps", [2, pytest.param(3, marks=pytest.mark.slow, id="more than there are")]
)
def test_several_steps_at_once_are_the_same_steps(num_steps) -> None:
    models, logs = [], []
    for steps_per_execution in (1, num_steps):
        keras.utils.set_random_seed(3)
        model = AdaptiveRec(NUM_ITEMS, **SMALL)
        optimizer = keras.optimizers.Adam(0.02)
        model.compile(optimizer, steps_per_execution=steps_per_execution)
        # The second epoch's thresholds have the target that the first's steps made.
        logs.append(model.fit(cyclic_batches(), epochs=2, verbose=0).history)
        models.append(model)
    assert_equal_training(*models, *logs)


@eagerly_and_in_a_graph
@pytest.mark.parametrize(
    "policy",
    [
        pytest.param("float32", marks=pytest.mark.slow),
        "mixed_bfloat16",
        pytest.param("mixed_float16", marks=pytest.mark.slow),
    ],
)
def test_fit_predict_and_evaluate_in_half_precision_and_several_steps_at_once(
    under, policy, run_eagerly
) -> None:
    keras.utils.set_random_seed(3)
    model = under(policy)
    assert model.encoder.blocks[0].compute_dtype == policy.removeprefix("mixed_")
    before = [np.array(weight) for weight in model.trainable_weights]
    model.compile("adam", steps_per_execution=2, run_eagerly=run_eagerly)
    history = model.fit(cyclic_batches(), epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    after = model.trainable_weights
    assert any(
        (a != b).any() for a, b in zip(before, map(np.array, after), strict=True)
    )
    inputs, _ = next(iter(cyclic_batches()))
    assert np.isfinite(model.predict(inputs, verbose=0)[:, 1:]).all()
    assert np.isfinite(model.evaluate(cyclic_batches(), verbose=0)).all()


def layers_of(layer: keras.Layer) -> list[keras.Layer]:
    return [layer, *(inner for own in layer._layers for inner in layers_of(own))]


def test_a_file_keeps_its_precision_whatever_the_policy_where_it_is_loaded(
    under, tmp_path
) -> None:
    keras.utils.set_random_seed(8)
    saved = under("mixed_bfloat16", low_pass_share=0.5, num_blocks=2)
    saved.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    keras.utils.set_random_seed(8)
    asked = AdaptiveRec(
        NUM_ITEMS,
        **{**SMALL, "num_blocks": 2},
        low_pass_share=0.5,
        dtype="mixed_bfloat16",
    )
    expected = saved.predict(GOOD, verbose=0)
    for model in (loaded, asked):
        np.testing.assert_array_equal(model.predict(GOOD, verbose=0), expected)
        for layer in layers_of(model.encoder):
            assert layer.compute_dtype == "bfloat16", layer.path
        # Sums over pairs and over an epoch.
        for layer in layers_of(model.contrast):
            assert layer.compute_dtype == "float32", layer.path
