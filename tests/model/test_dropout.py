import numpy as np
import pytest
import tensorflow as tf

from adaptiverec.common.errors import InvalidValueError
from adaptiverec.model.dropout import Dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.75])
def test_the_rate_is_kept_and_so_is_the_mean(rate) -> None:
    out = np.asarray(
        Dropout(rate, seed=1)(np.ones((400, 500), np.float32), training=True)
    )
    assert np.mean(out == 0) == pytest.approx(rate, abs=0.01)
    assert out.mean() == pytest.approx(1, abs=0.01)
    assert len(np.unique(out)) == 2


def test_each_call_and_each_element_is_drawn_anew() -> None:
    layer, ones = Dropout(0.5, seed=1), np.ones((64, 64), np.float32)
    first, second = (np.asarray(layer(ones, training=True)) != 0 for _ in range(2))
    assert abs(np.mean(first == second) - 0.5) < 0.05
    for axis in (0, 1):
        neighbours = first == np.roll(first, 1, axis=axis)
        assert abs(neighbours.mean() - 0.5) < 0.05


def test_the_gradient_goes_where_the_values_went() -> None:
    layer, x = Dropout(0.5, seed=1), tf.ones([7, 3])
    with tf.GradientTape() as tape:
        tape.watch(x)
        out = layer(x, training=True)
    np.testing.assert_array_equal(tape.gradient(out, x), out)


def test_nothing_is_dropped_outside_training_or_at_rate_0() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(Dropout(0.5)(x, training=False), x)
    np.testing.assert_array_equal(Dropout(0.0)(x, training=True), x)


@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (3, 5, 7)])
def test_any_shape(shape) -> None:
    assert Dropout(0.5)(np.ones(shape, np.float32), training=True).shape == shape


def test_equal_seeds_drop_the_same() -> None:
    x = np.ones((9, 9), np.float32)
    one, other = (Dropout(0.5, seed=4)(x, training=True) for _ in range(2))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_is_checked(rate) -> None:
    with pytest.raises(InvalidValueError, match="rate"):
        Dropout(rate)
