"""Beam's local runner without the naps at the ends of its bundles.

Beam samples what each bundle is doing from a thread that sleeps longer and longer in
between, up to 200 ms, and a bundle that is done waits for that thread to wake up. Three
steps of this job come one after the other: the waiting would be a twelfth of ten million
rows' time. Beam has no option for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from apache_beam.runners.worker.statesampler import StateSampler

__all__ = ["prompt_bundles"]

_PERIOD_MS = 10


@contextmanager
def prompt_bundles() -> Iterator[None]:
    """Samples more often, so that no nap is long, in the block."""
    construct = StateSampler.__init__
    defaults = construct.__defaults__
    # Of a Beam whose sampler takes something else, nothing is changed.
    if defaults is not None and len(defaults) == 1 and isinstance(defaults[0], int):
        construct.__defaults__ = (_PERIOD_MS,)
    try:
        yield
    finally:
        construct.__defaults__ = defaults
