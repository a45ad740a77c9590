import math

import numpy as np
import pytest

from adaptiverec.model.info_nce_loss import info_nce_loss

SIMILARITIES = np.array(
    [
        [1.0, 0.2, 0.7, -0.1],
        [0.2, 1.0, 0.3, 0.9],
        [0.7, 0.3, 1.0, 0.0],
        [-0.1, 0.9, 0.0, 1.0],
    ],
    np.float32,
)


@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_row_worked_by_hand(temperature) -> None:
    # Row 0: the twin is row 2 (.7); the row itself is no candidate.
    e = [math.exp(s / temperature) for s in (0.2, 0.7, -0.1)]
    loss = info_nce_loss(SIMILARITIES, temperature=temperature)
    assert float(loss[0]) == pytest.approx(-math.log(e[1] / sum(e)), rel=1e-5)


def test_a_batch_of_one_sequence_has_nothing_to_contrast() -> None:
    loss = info_nce_loss(np.array([[1.0, 0.4], [0.4, 1.0]], np.float32))
    assert np.allclose(loss, 0, atol=1e-6)
