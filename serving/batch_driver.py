"""Runs the batch job: checks, starts Beam, checks the counts, publishes."""

from __future__ import annotations

import dataclasses
import json
import time
from importlib.metadata import version
from typing import Any

from apache_beam.io.filesystems import FileSystems

from adaptiverec.common.errors import StageError
from adaptiverec.common.progress import say, steps
from adaptiverec.pipeline import progress_hook
from adaptiverec.pipeline.output_files import Places
from adaptiverec.pipeline.publish import staged_output, write_last
from adaptiverec.pipeline.runner import (
    beam_pipeline_options,
    is_local,
    new_pipeline,
    quiet_beam,
    run_to_the_end,
)
from adaptiverec.serving.batch_contract import SCHEMA_VERSION
from adaptiverec.serving.batch_options import BatchOptions
from adaptiverec.serving.batch_plan import plan_shards
from adaptiverec.serving.batch_sources import (
    IdList,
    ModelSource,
    PreparedSource,
    check_match,
)
from adaptiverec.serving.batch_transforms import SUMMARY, BatchJob, build

__all__ = ["run_batch_job"]

_COUNTS = ("users", "recommendations", "short", "fallback", "unknown_items")


def run_batch_job(options: BatchOptions) -> dict[str, Any]:
    """Runs the job.

    Args:
        options: What to do.

    Returns:
        The metadata.
    """
    begin = time.monotonic()
    quiet_beam()
    model = ModelSource.open(options.model)
    data = PreparedSource.open(options.data)
    check_match(model, data, options.match)
    lists = {
        name: IdList.read(name, path)
        for name in ("exclude_file", "allow_file")
        if (path := getattr(options, name)) is not None
    }
    plans = plan_shards(
        [(shard["file"], shard["num_users"]) for shard in data.metadata["shards"]],
        options.num_shards,
    )
    beam_options = beam_pipeline_options(
        options.beam_options, use_all_cores=len(plans) > 1
    )
    local = is_local(beam_options)
    with staged_output(options.output) as places:
        job = BatchJob(
            options=options,
            places=places,
            model_path=str(model.path),
            fingerprint=model.record["run_fingerprint"],
            vocabulary=FileSystems.join(data.path, data.metadata["vocabulary"]["file"]),
            exclude=lists["exclude_file"].ids if "exclude_file" in lists else (),
            allow=lists["allow_file"].ids if "allow_file" in lists else (),
            num_shards=len(plans),
        )
        with steps() as shown, progress_hook.listening(shown):
            if local:
                shown.start("Recommending", data.metadata["num_users"])
            pipeline = new_pipeline(beam_options)
            build(pipeline, job, plans)
            run_to_the_end(pipeline, local=local, output=options.output)
        metadata = _metadata(options, model, data, lists, _read_shards(places, data))
        write_last(places, metadata)
    _say_summary(metadata, time.monotonic() - begin)
    return metadata


def _read_shards(places: Places, data: PreparedSource) -> list[dict[str, Any]]:
    """What the workers wrote, once it is certain that it is everything."""
    with FileSystems.open(FileSystems.join(places.work, SUMMARY)) as file:
        shards = json.loads(file.read())
    for shard in shards:
        if "problem" in shard:
            raise StageError(shard["problem"])
    shards.sort(key=lambda shard: shard["file"])
    users = sum(shard["users"] for shard in shards)
    if users != data.metadata["num_users"]:
        raise StageError(
            f"Every user must be asked for once, {data.metadata['num_users']} in all. "
            f"Received: {users}"
        )
    return shards


def _metadata(
    options: BatchOptions,
    model: ModelSource,
    data: PreparedSource,
    lists: dict[str, IdList],
    shards: list[dict[str, Any]],
) -> dict[str, Any]:
    """The content of `metadata.json`; there is no wall-clock time in it."""
    totals = {name: sum(shard[name] for shard in shards) for name in _COUNTS}
    configuration = dataclasses.asdict(options)
    del configuration["output"]
    configuration["beam_options"] = list(options.beam_options)
    trained_on = model.record["data_fingerprint"]
    return {
        "schema_version": SCHEMA_VERSION,
        "producer": f"adaptiverec {version('adaptiverec')}",
        "num_users": totals["users"],
        "num_recommendations": totals["recommendations"],
        "num_users_with_fewer_than_k": totals["short"],
        "num_users_with_fallback": totals["fallback"],
        "num_unknown_items": totals["unknown_items"],
        "configuration": configuration,
        "model": {
            "path": str(model.path),
            "version": model.version,
            "sha256": model.sha256,
            "run_fingerprint": model.record["run_fingerprint"],
            "data_fingerprint": trained_on,
            "vocabulary_sha256": model.record["vocabulary_sha256"],
        },
        "data": {
            "path": data.path,
            "fingerprint": data.metadata["fingerprint"],
            "vocabulary_sha256": data.metadata["vocabulary"]["sha256"],
            "model_was_trained_on_it": data.metadata["fingerprint"] == trained_on,
        },
        "id_lists": {
            name: {"ids": len(found.ids), "sha256": found.sha256}
            for name, found in lists.items()
        },
        "format": options.format,
        "shards": [
            {
                "file": shard["file"],
                "num_users": shard["users"],
                "num_bytes": shard["num_bytes"],
                "sha256": shard["sha256"],
            }
            for shard in shards
        ],
    }


def _say_summary(metadata: dict[str, Any], seconds: float) -> None:
    say(
        f"Recommended {metadata['num_recommendations']:,} items to "
        f"{metadata['num_users']:,} users, {metadata['num_users_with_fallback']:,} of "
        "them by popularity alone; "
        f"{metadata['num_unknown_items']:,} items of histories were unknown; in "
        f"{seconds:.1f} s."
    )
