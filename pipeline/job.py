"""What all steps of the job need to know, and the counts that they give."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable

from adaptiverec.pipeline.options import PrepareOptions
from adaptiverec.pipeline.output_files import Places
from adaptiverec.pipeline.shuffle import Shuffle

__all__ = ["EXAMPLES", "TALLY", "Job", "add_up"]

# Names of side outputs. A tally is a dict of counts; tallies add up. Its keys:
# rows_read, "rejected: REASON", "filtered: RULE", duplicates, repeats,
# over_max_user_interactions, sorted, "damaged: FILE".
TALLY = "tally"
# Some of the rejected rows, for the report.
EXAMPLES = "examples"


@dataclasses.dataclass(frozen=True)
class Job:
    """What all steps need to know; pickled to the workers.

    Attributes:
        options: What ``prepare`` was asked for.
        places: Where the run works.
        shuffle: How batches get from step to step.
        num_partitions: Number of partitions that users are spread over.
        block_bytes: How much of a file to parse at a time.
    """

    options: PrepareOptions
    places: Places
    shuffle: Shuffle
    num_partitions: int
    block_bytes: int


def add_up(tallies: Iterable[dict[str, int]]) -> dict[str, int]:
    """The sum of tallies."""
    total: Counter[str] = Counter()
    for tally in tallies:
        total.update(tally)
    return dict(total)
