"""The low-pass filter, beside NumPy's Fourier transform."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from adaptiverec.common.errors import InvalidValueError
from adaptiverec.model.adaptive_rec import AdaptiveRec
from adaptiverec.model.low_pass import LowPass, low_pass_kernel
from adaptiverec.model.packed_batch import PackedBatch

PERIOD = 12
DIM = 3


def filtered(states: np.ndarray, num_frequencies: int) -> np.ndarray:
    """The last place of a sequence behind zeros, with its high frequencies cut off."""
    padded = np.zeros((PERIOD, states.shape[1]))
    padded[PERIOD - len(states) :] = states
    spectrum = np.fft.rfft(padded, axis=0)
    spectrum[num_frequencies:] = 0
    return np.fft.irfft(spectrum, n=PERIOD, axis=0)[-1]


def test_a_single_frequency_is_the_mean_of_a_period() -> None:
    kernel = low_pass_kernel(4, 1)
    np.testing.assert_allclose(kernel, [0.25, 0.25, 0.25, 0.0])


def test_all_frequencies_leave_each_state_as_it_is() -> None:
    np.testing.assert_allclose(low_pass_kernel(6, 4), [1, 0, 0, 0, 0, 0], atol=1e-7)


@pytest.mark.parametrize("num_frequencies", [1, 2, 5])
def test_it_cuts_off_what_the_fourier_transform_cuts_off(num_frequencies) -> None:
    layer = LowPass(max_length=PERIOD, num_frequencies=num_frequencies)
    layer.build((None, DIM))
    scale = np.array([0.0, 1.0, 2.0])
    layer.high_scale.assign(scale)
    generator = np.random.default_rng(3)
    # Of at most half a period, where nothing of the next repetition is nearer.
    lengths = [1, 6, 4, 2]
    item_ids = (np.arange(PERIOD)[None, :] < np.array(lengths)[:, None]).astype(
        np.int32
    )
    batch = PackedBatch.by_length(tf.constant(item_ids), tf.constant(lengths))
    states = generator.standard_normal((sum(lengths), DIM)).astype(np.float32)
    sequences = np.split(states, np.cumsum(sorted(lengths))[:-1])

    def expected(sequence):
        low = filtered(sequence, num_frequencies)
        return low + scale**2 * (sequence[-1] - low)

    np.testing.assert_allclose(
        layer.from_last(states, batch=batch),
        [expected(sequence) for sequence in sequences],
        atol=1e-5,
    )
    # Every place is the last one of what stands before it.
    np.testing.assert_allclose(
        layer(states, batch=batch),
        [
            expected(sequence[: end + 1])
            for sequence in sequences
            for end in range(len(sequence))
        ],
        atol=1e-5,
    )


def test_the_loss_trains_its_scales_and_a_file_keeps_them(tmp_path) -> None:
    keras.utils.set_random_seed(0)
    model = AdaptiveRec(
        9,
        max_length=4,
        hidden_dim=8,
        inner_dim=8,
        low_pass_share=0.5,
        low_pass_frequencies=2,
        views="un",
    )
    scales = model.encoder.blocks[0].low_pass.high_scale
    before = scales.numpy().copy()
    item_ids = np.array([[1, 2, 3, 0], [4, 0, 0, 0], [5, 6, 7, 8]])
    model.compile("adam", run_eagerly=True)
    model.fit({"item_ids": item_ids}, np.array([4, 5, 9]), verbose=0)
    assert (scales.numpy() != before).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(item_ids), model(item_ids), rtol=1e-5)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="low_pass_share.*Received: 1.0"):
        AdaptiveRec(9, low_pass_share=1.0)
    with pytest.raises(InvalidValueError, match="num_frequencies.*Received: 0"):
        LowPass(max_length=9, num_frequencies=0)
