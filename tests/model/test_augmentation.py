from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from keras.random import SeedGenerator

from adaptiverec.model.augmentation import crop, mask, reorder, two_augmentations

MASK = 99


def padded(lengths: list[int], width: int) -> np.ndarray:
    rows = np.zeros((len(lengths), width), np.int32)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = np.arange(1, length + 1)
    return rows


lengths_and_seed = given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    seed=st.integers(0, 2**20),
)


@settings(max_examples=30, deadline=None)
@lengths_and_seed
def test_crop_keeps_a_contiguous_share(lengths, seed) -> None:
    cropped = np.asarray(crop(padded(lengths, 12), seed=SeedGenerator(seed)))
    for row, n in zip(cropped, lengths, strict=True):
        size = 6 * n // 10 if n > 1 else 1
        start = row[0]
        np.testing.assert_array_equal(row[:size], np.arange(start, start + size))
        assert not row[size:].any()
        assert start + size - 1 <= n


@settings(max_examples=30, deadline=None)
@lengths_and_seed
def test_mask_replaces_a_share(lengths, seed) -> None:
    before = padded(lengths, 12)
    masked = np.asarray(mask(before, MASK, seed=SeedGenerator(seed)))
    for row, original, n in zip(masked, before, lengths, strict=True):
        replaced = row == MASK
        assert replaced.sum() == 3 * n // 10
        np.testing.assert_array_equal(row[~replaced], original[~replaced])


@settings(max_examples=30, deadline=None)
@lengths_and_seed
def test_reorder_moves_items_within_a_window_alone(lengths, seed) -> None:
    before = padded(lengths, 12)
    reordered = np.asarray(reorder(before, seed=SeedGenerator(seed)))
    for row, original, n in zip(reordered, before, lengths, strict=True):
        np.testing.assert_array_equal(np.sort(row), np.sort(original))
        moved = np.flatnonzero(row != original)
        if len(moved):
            assert moved[-1] - moved[0] + 1 <= 6 * n // 10


def test_every_window_and_item_is_as_likely() -> None:
    rows = padded([10] * 6000, 10)
    starts = Counter(np.asarray(crop(rows, seed=SeedGenerator(1)))[:, 0])
    assert set(starts) == {1, 2, 3, 4, 5}
    assert all(abs(count - 1200) < 150 for count in starts.values())
    hits = (np.asarray(mask(rows, MASK, seed=SeedGenerator(2))) == MASK).sum(axis=0)
    assert np.all(abs(hits - 1800) < 180)


def test_two_augmentations_are_by_different_operators() -> None:
    rows = padded([10] * 2000, 10)
    first, second = two_augmentations(rows, MASK, seed=SeedGenerator(3))

    def operator(row: np.ndarray) -> str:
        if (row == MASK).any():
            return "mask"
        return "crop" if (row == 0).any() else "reorder"

    pairs = Counter(
        (operator(a), operator(b))
        for a, b in zip(np.asarray(first), np.asarray(second), strict=True)
    )
    assert all(a != b for a, b in pairs)
    assert len(pairs) == 6
    assert all(abs(count - 333) < 90 for count in pairs.values())
