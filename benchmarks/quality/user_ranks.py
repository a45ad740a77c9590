"""Every user's rank, small enough to be kept beside the results.

The paired test needs the users of all runs, which are made in many sittings. No measure
looks behind the longest list, so that ranks behind it are all the same.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["LONGEST", "read_ranks", "write_ranks"]

# Of the lists that are measured.
LONGEST = 50


def write_ranks(path: Path, ranks: dict[str, np.ndarray]) -> None:
    """Writes ranks, those behind :data:`LONGEST` as one more than that.

    Args:
        path: The ``.npz`` file, some 20 kB for 20,000 users.
        ranks: Of each protocol, float `[num_targets]`; ties make halves.
    """
    halves = {
        protocol: np.round(2 * np.minimum(found, LONGEST + 1)).astype(np.uint8)
        for protocol, found in ranks.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **halves)


def read_ranks(path: Path, protocol: str) -> np.ndarray:
    """Reads the ranks of one protocol, float32 `[num_targets]`."""
    return np.load(path)[protocol].astype(np.float32) / 2
