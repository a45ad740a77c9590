"""The last steps: the table of popularity, and all that the driver wants to know."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from adaptiverec.pipeline.contract import POPULARITY, VOCABULARY
from adaptiverec.pipeline.core import Core
from adaptiverec.pipeline.find_core import VocabularyFacts
from adaptiverec.pipeline.job import Job, add_up
from adaptiverec.pipeline.kept_statistics import Statistics
from adaptiverec.pipeline.output_files import Places, create_whole
from adaptiverec.pipeline.reject import Examples
from adaptiverec.pipeline.shard_writer import ShardSummary
from adaptiverec.pipeline.split import SplitPoints
from adaptiverec.pipeline.vocabulary import join_rows, split_lines

__all__ = ["SUMMARY", "WriteSummary"]

SUMMARY = "summary.json"
_HEADER = b"item_id\tinteractions\ttrain_interactions\n"
_LINES_AT_ONCE = 1 << 20


class WriteSummary(beam.DoFn):
    """Writes the table of popularity, and the summary for the driver."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(
        self,
        _: None,
        read: list[dict[str, int]],
        formed: list[dict[str, int]],
        examples: Examples,
        shards: list[ShardSummary],
        statistics: Statistics,
        core: Core,
        facts: VocabularyFacts,
        points: SplitPoints | None,
    ) -> None:
        """Writes both; the element means nothing."""
        activity = statistics.activity
        summary = {
            "tally": add_up(itertools.chain(read, formed)),
            "examples": examples,
            "num_shards": core.num_shards,
            "num_items": core.num_items,
            "core_interactions": int(facts.interactions.sum()),
            "shards": [
                dataclasses.asdict(shard)
                for shard in sorted(shards, key=lambda shard: shard.file)
            ],
            "vocabulary": {
                key: value
                for key, value in facts._asdict().items()
                if key != "interactions"
            },
            "popularity_sha256": _write_popularity(
                self._job.places, facts.interactions, statistics.train_interactions
            ),
            "sequence_lengths": sorted(statistics.lengths.items()),
            "activity": None
            if activity is None
            else [activity.bin_seconds, sorted(activity.bins.items())],
            "points": points,
        }
        with create_whole(self._job.places, ".work", SUMMARY) as file:
            file.write(json.dumps(summary).encode())


def _write_popularity(
    places: Places, interactions: np.ndarray, train_interactions: np.ndarray
) -> str:
    """Writes the table; returns its SHA-256."""
    digest = hashlib.sha256()
    path = FileSystems.join(places.output, VOCABULARY)
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        item_ids = split_lines(file.read())
    with create_whole(places, POPULARITY) as file:
        for part in _lines(item_ids, interactions, train_interactions):
            digest.update(part)
            file.write(part)
    return digest.hexdigest()


def _lines(item_ids: pa.Array, *counts: np.ndarray) -> Iterator[bytes]:
    yield _HEADER
    for start in range(0, len(item_ids), _LINES_AT_ONCE):
        part = slice(start, start + _LINES_AT_ONCE)
        yield join_rows(
            [
                values.cast(pa.large_string())
                for values in (item_ids[part], *(pa.array(c[part]) for c in counts))
            ]
        )
