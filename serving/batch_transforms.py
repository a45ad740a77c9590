"""The steps of the batch job: users asked for, shard by shard, and what became of them."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.utils.shared import Shared

from adaptiverec.common.errors import AdaptiveRecError, ContractError
from adaptiverec.pipeline.output_files import Places, create_whole
from adaptiverec.pipeline.progress_hook import advance
from adaptiverec.serving import batch_contract, contract
from adaptiverec.serving.batch_options import BatchOptions
from adaptiverec.serving.batch_plan import ShardPlan

__all__ = ["SUMMARY", "BatchJob", "RecommendShard", "WriteSummary", "build"]

SUMMARY = "summary.json"
_OUTPUTS = ("items", "scores", "unknown_items", "fallback", "fingerprint")


@dataclasses.dataclass(frozen=True)
class BatchJob:
    """What every step knows.

    Attributes:
        options: What was asked for.
        places: Where the run works.
        model_path: The version's directory.
        fingerprint: What the model must answer as its own.
        vocabulary: Path of the prepared vocabulary.
        exclude: Raw ids for nobody.
        allow: Raw ids that alone are recommended; empty for no limit.
        num_shards: How many shards there are.
    """

    options: BatchOptions
    places: Places
    model_path: str
    fingerprint: str
    vocabulary: str
    exclude: tuple[str, ...]
    allow: tuple[str, ...]
    num_shards: int


class _Loaded:
    """What a worker process holds once, for all its threads."""

    def __init__(self, job: BatchJob) -> None:
        # Only here, in workers: TensorFlow takes seconds to import.
        from adaptiverec.serving.servable import Servable

        if importlib.util.find_spec("scann"):
            # A SavedModel may need its operations.
            importlib.import_module("scann")
        self.servable = Servable("batch", 0, Path(job.model_path), warm_up=False)
        # At the latest when the process ends: TensorFlow's sessions must be closed while
        # its modules are still there.
        weakref.finalize(self, self.servable.close)
        with FileSystems.open(
            job.vocabulary, compression_type=CompressionTypes.UNCOMPRESSED
        ) as file:
            ids = file.read().split(b"\n")
        # Element i is the raw id of the dense id i; 0 is padding, which "" is too.
        self.raw_ids = np.array([b"", *ids[:-1]], object)


class RecommendShard(beam.DoFn):
    """Asks the model for the users of a shard, and writes it."""

    def __init__(self, job: BatchJob) -> None:
        self._job = job
        self._shared = Shared()

    def process(self, plan: ShardPlan) -> Iterator[dict[str, Any]]:
        """Writes a shard; yields what it holds, or under `problem` why it does not.

        What is wrong with model or data is not raised: a runner would try again and
        again, and tell of it in its own words.
        """
        from adaptiverec.serving.status import RequestError

        try:
            loaded = self._shared.acquire(
                lambda: _Loaded(self._job), tag=self._job.model_path
            )
            yield self._write(plan, loaded)
        except AdaptiveRecError as error:
            yield {"problem": str(error)}
        except BeamIOError as error:
            yield {"problem": f"The sequences must be readable. Received: {error}"}
        except RequestError as error:
            yield {
                "problem": "The model must load and answer. Received: "
                f"{error.code.name}: {error.message}"
            }

    def _write(self, plan: ShardPlan, loaded: _Loaded) -> dict[str, Any]:
        from adaptiverec.serving.batch_read import read_users
        from adaptiverec.serving.batch_write import Answers, HashedFile, shard_writer

        job, options = self._job, self._job.options
        name = batch_contract.shard_name(plan.number, job.num_shards, options.format)
        sums = dict.fromkeys(
            ("users", "recommendations", "short", "fallback", "unknown_items"), 0
        )
        with create_whole(job.places, name) as raw:
            file = HashedFile(raw)
            with shard_writer(file, options.format) as write:
                for users in read_users(
                    options.data,
                    plan.parts,
                    history=options.history,
                    batch_size=options.batch_size,
                ):
                    answers = Answers(
                        users.user_ids, *self._ask(loaded, users.histories)
                    )
                    write(answers)
                    counts = (answers.items != b"").sum(axis=1)
                    sums["users"] += len(counts)
                    sums["recommendations"] += int(counts.sum())
                    sums["short"] += int((counts < options.k).sum())
                    sums["fallback"] += int(answers.fallback.sum())
                    sums["unknown_items"] += int(answers.unknown_items.sum())
                    advance("Recommending", len(counts))
        return {
            "file": name,
            **sums,
            "num_bytes": file.num_bytes,
            "sha256": file.sha256,
        }

    def _ask(self, loaded: _Loaded, histories: np.ndarray) -> list[np.ndarray]:
        job = self._job
        if histories.max() >= len(loaded.raw_ids) or histories.min() < 0:
            raise ContractError(
                "Dense item ids must be those of the prepared vocabulary, 1 to "
                f"{len(loaded.raw_ids) - 1}. Received: {int(histories.max())} in "
                f"{job.options.data}"
            )
        outputs = loaded.servable.run(
            contract.RECOMMEND,
            {
                "history": loaded.raw_ids[histories],
                "k": np.array([job.options.k], np.int32),
                "exclude": _row(job.exclude),
                "allow": _row(job.allow),
                "exclude_history": np.array([job.options.exclude_history]),
            },
            _OUTPUTS,
        )
        fingerprint = outputs.pop("fingerprint")
        if (fingerprint != job.fingerprint.encode()).any():
            raise ContractError(
                "The model must stay the same while the job runs. Received: another one "
                f"in {job.model_path}"
            )
        return [outputs[name] for name in _OUTPUTS[:-1]]


def _row(ids: tuple[str, ...]) -> np.ndarray:
    # A row of padding alone is no list.
    return np.array([[name.encode() for name in ids] or [b""]], object)


class WriteSummary(beam.DoFn):
    """Writes what the driver wants to know."""

    def __init__(self, job: BatchJob) -> None:
        self._job = job

    def process(self, _: None, shards: list[dict[str, Any]]) -> None:
        """Writes it; the element means nothing."""
        with create_whole(self._job.places, ".work", SUMMARY) as file:
            file.write(json.dumps(shards).encode())


def build(pipeline: beam.Pipeline, job: BatchJob, plans: list[ShardPlan]) -> None:
    """Adds the whole job to a pipeline.

    Args:
        pipeline: What to add it to.
        job: What the steps need to know.
        plans: The shards to write.
    """
    shards = (
        pipeline
        | "ListShards" >> beam.Create(plans, reshuffle=False)
        | "SpreadShards" >> beam.Reshuffle()
        | "Recommend" >> beam.ParDo(RecommendShard(job)).with_output_types(dict)
    )
    _ = (
        pipeline
        | "Once" >> beam.Create([None])
        # Small, one for each shard.
        | "WriteSummary" >> beam.ParDo(WriteSummary(job), beam.pvalue.AsList(shards))
    )
