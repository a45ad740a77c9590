"""The encoder as it is served, beside the one that was trained."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from adaptiverec.model.sequence_encoder import SequenceEncoder
from adaptiverec.serving.serving_encoder import ServingEncoder


@pytest.mark.parametrize("positions_from", ["start", "end"])
@pytest.mark.parametrize("low_pass_share", [0.0, 0.7])
@pytest.mark.parametrize(("num_blocks", "num_heads"), [(1, 1), (1, 4), (2, 2), (3, 1)])
def test_it_gives_the_models_numbers(
    num_blocks, num_heads, low_pass_share, positions_from
) -> None:
    tf.keras.utils.set_random_seed(num_blocks * 10 + num_heads)
    encoder = SequenceEncoder(
        num_items=30,
        max_length=7,
        hidden_dim=8,
        num_blocks=num_blocks,
        num_heads=num_heads,
        inner_dim=12,
        positions_from=positions_from,
        low_pass_share=low_pass_share,
        low_pass_frequencies=2,
    )
    encoder.build()
    generator = np.random.default_rng(0)
    for weight in encoder.weights:
        # Not the zeros and ones that weights begin with.
        weight.assign(weight + generator.standard_normal(weight.shape) * 0.5)
    served = ServingEncoder(encoder, encoder.item_embedding.embeddings.value)
    for width in (1, 2, 7):
        item_ids = generator.integers(1, 31, (7, width)).astype(np.int32)
        for row in range(7):
            item_ids[row, max(row, 1) :] = 0
        np.testing.assert_allclose(
            served(tf.constant(item_ids)), encoder(item_ids), atol=2e-5
        )
