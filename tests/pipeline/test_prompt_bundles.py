"""Bundles of the local runner end without a long nap."""

import apache_beam as beam
import pytest
from apache_beam.runners.worker import statesampler

from adaptiverec.pipeline.prompt_bundles import prompt_bundles

NAPS = []


class NoteNap(beam.DoFn):
    """Notes the longest nap of the sampler of its bundle, in ms."""

    def process(self, element):
        NAPS.append(statesampler.get_current_tracker().sampling_period_ms)


def longest_nap():
    NAPS.clear()
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        _ = pipeline | beam.Create([None]) | beam.ParDo(NoteNap())
    return max(NAPS)


def test_naps_are_short_in_the_block_alone():
    before = longest_nap()
    with prompt_bundles():
        assert longest_nap() <= before / 10
    assert longest_nap() == before


def test_what_fails_in_the_block_leaves_nothing_changed():
    before = longest_nap()
    with pytest.raises(KeyError), prompt_bundles():
        raise KeyError
    assert longest_nap() == before
