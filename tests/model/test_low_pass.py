"""The low-pass filter, beside NumPy's Fourier transform."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from adaptiverec.common.errors import InvalidValueError
from adaptiverec.model.adaptive_rec import AdaptiveRec
from adaptiverec.model.low_pass import LowPass, low_pass_kernel
from adaptiverec.model.packed_batch import PackedBatch
from adaptiverec.model.sequence_encoder import SequenceEncoder

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


def encoder_with_filter(**options) -> SequenceEncoder:
    keras.utils.set_random_seed(1)
    encoder = SequenceEncoder(
        num_items=30,
        max_length=20,
        hidden_dim=8,
        inner_dim=16,
        low_pass_share=0.7,
        **options,
    )
    encoder.build()
    for weight in encoder.weights:
        weight.assign(weight + 0.3 * keras.random.normal(weight.shape, seed=2))
    return encoder


@pytest.mark.parametrize("pre_norm", [False, True])
def test_all_ways_through_the_encoder_agree(pre_norm) -> None:
    encoder = encoder_with_filter(pre_norm=pre_norm)
    item_ids = np.random.default_rng(0).integers(1, 31, (5, 20)).astype(np.int32)
    for row, length in enumerate([1, 20, 4, 9, 16]):
        item_ids[row, length:] = 0
    last = encoder(item_ids)
    np.testing.assert_allclose(encoder.encode_by_length(item_ids), last, atol=1e-5)
    np.testing.assert_allclose(
        encoder.encode_all_positions(item_ids)[0], last, atol=1e-5
    )


def test_no_position_sees_what_comes_after_it() -> None:
    encoder = encoder_with_filter()
    item_ids = np.full((1, 6), 7, np.int32)
    changed = item_ids.copy()
    changed[0, 4:] = 9
    _, states, _ = encoder.encode_all_positions(np.pad(item_ids, [(0, 0), (0, 14)]))
    _, others, _ = encoder.encode_all_positions(np.pad(changed, [(0, 0), (0, 14)]))
    np.testing.assert_allclose(states[:4], others[:4], atol=1e-6)
    assert np.abs(states[4:] - others[4:]).max() > 1e-2


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
    model.compile("adam")
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
