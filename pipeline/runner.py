"""Beam's own flags, checked, with a local default that uses the machine; and a run."""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
import re
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import (
    PipelineOptions,
    StandardOptions,
    _BeamArgumentParser,
)
from apache_beam.runners.runner import PipelineState, create_runner

from adaptiverec.common.errors import InvalidValueError, StageError
from adaptiverec.common.progress import say
from adaptiverec.pipeline.prompt_bundles import prompt_bundles
from adaptiverec.pipeline.publish import out_of_room

__all__ = [
    "beam_pipeline_options",
    "is_local",
    "new_pipeline",
    "quiet_beam",
    "run_to_the_end",
]

# Named explicitly: what Beam calls DirectRunner first tries to download another runner.
_LOCAL = "FnApiRunner"
_LOCAL_NAMES = ("", "directrunner", "direct", "fnapirunner", "fnapi")
# How an exception of a worker ends, wherever a runner quotes it.
_RAISED = re.compile(r"^.*\[while running '.*'\]", re.MULTILINE)


def beam_pipeline_options(
    flags: Sequence[str], *, use_all_cores: bool
) -> PipelineOptions:
    """Parses Beam's flags.

    Args:
        flags: As given by the user, such as ``--runner=FlinkRunner``.
        use_all_cores: Whether the job is large enough for one worker a core; flags
            that say otherwise win. On the local runner only.

    Raises:
        InvalidValueError: A flag or the runner is unknown, or a value is not allowed.
    """
    flags = list(flags)
    known, unknown = _parse(flags)
    name = known.get("runner") or ""
    if name.lower() in _LOCAL_NAMES:
        _refuse(unknown)
        local = [f"--runner={_LOCAL}"]
        cores = os.cpu_count() or 1
        if use_all_cores and cores > 1:
            given = {flag.split("=")[0] for flag in flags}
            if "--direct_num_workers" not in given:
                local.append(f"--direct_num_workers={cores}")
            if "--direct_running_mode" not in given:
                local.append("--direct_running_mode=multi_threading")
        # The last of two equal flags counts.
        return PipelineOptions([*flags, *local])
    try:
        runner = create_runner(name)
    except (ValueError, ImportError, AttributeError) as error:
        raise InvalidValueError(
            "`beam_options` must name a runner that Beam knows and that is installed. "
            f"Received: --runner={name} ({error})"
        ) from error
    # Only here: the local runner needs none of it.
    from apache_beam.runners.portability.portable_runner import PortableRunner

    if not isinstance(runner, PortableRunner):
        _refuse(unknown)
    # A job server has flags of its own, which only it can tell and which it is asked
    # for when the job is submitted; what it does not know either, it ignores.
    _refuse([flag for flag in unknown if _looks_like(flag, known)])
    for flag in unknown:
        if flag.startswith("--"):
            say(f"Note: {flag} is not a flag of Beam's; it is left to the job server.")
    return PipelineOptions(flags)


def _parse(flags: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The values of all flags that Beam knows, and the flags that it does not."""
    # Beam itself only logs what it does not understand, and goes on without it.
    parser = _BeamArgumentParser(
        add_help=False, allow_abbrev=False, exit_on_error=False
    )
    for options in {
        str(kind): kind for kind in PipelineOptions.__subclasses__()
    }.values():
        options._add_argparse_args(parser)
    problems: list[str] = []

    def note(message: str) -> None:
        problems.append(message)

    parser.error = note  # type: ignore[method-assign]
    try:
        parsed, unknown = parser.parse_known_args(flags)
    except (Exception, SystemExit) as error:
        raise InvalidValueError(
            f"`beam_options` must be flags of Beam. Received: {flags} ({error})"
        ) from error
    if problems:
        _refuse(["; ".join(problems)])
    return vars(parsed), unknown


def _refuse(unknown: list[str]) -> None:
    if unknown:
        raise InvalidValueError(
            f"`beam_options` must be flags of Beam. Received: {' '.join(unknown)}"
        )


def _looks_like(flag: str, known: dict[str, Any]) -> bool:
    """Whether a flag is one of Beam's with a slip of the pen, or none at all."""
    name = flag.split("=")[0].removeprefix("--")
    return not flag.startswith("--") or bool(
        difflib.get_close_matches(name, known, n=1, cutoff=0.85)
    )


def is_local(options: PipelineOptions) -> bool:
    """Whether all workers run on this machine, so that they share its disk."""
    return bool(options.view_as(StandardOptions).runner == _LOCAL)


def quiet_beam() -> None:
    """Keeps Beam's chatter below warnings off the terminal, unless it was asked for."""
    logger = logging.getLogger("apache_beam")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)


def new_pipeline(options: PipelineOptions) -> beam.Pipeline:
    """An empty pipeline.

    Raises:
        InvalidValueError: The runner cannot do without a flag that is not given.
    """
    try:
        return beam.Pipeline(options=options)
    except ValueError as error:
        # What a runner cannot do without, such as a project.
        raise InvalidValueError(
            f"`beam_options` must be complete for their runner. Received: {error}"
        ) from error


def run_to_the_end(pipeline: beam.Pipeline, *, local: bool, output: str) -> None:
    """Runs a pipeline and comes back when it is done.

    If this process is told to stop, or loses sight of the job, the job is cancelled.

    Args:
        pipeline: The pipeline.
        local: Whether it runs in this process, where an exception is this project's
            fault and keeps its type.
        output: The output, for messages.

    Raises:
        InvalidValueError: The runner lacks a package.
        OutputError: The disk is full.
        StageError: The runner cannot be reached, or gave up.
    """
    result = None
    try:
        with prompt_bundles() if local else contextlib.nullcontext():
            result = pipeline.run()
            state = result.wait_until_finish()
    except BaseException as error:
        if result is not None and not local:
            # Of a job that has ended, there is nothing to cancel.
            with contextlib.suppress(Exception):
                result.cancel()
        # Runners give a worker's exception as text.
        if no_room := out_of_room(error, output):
            raise no_room from error
        if isinstance(error, ImportError) and not local:
            raise InvalidValueError(
                "`beam_options` must name a runner that is installed, with what it "
                f"needs. Received: {error}"
            ) from error
        if local or not isinstance(
            error, RuntimeError | grpc.RpcError | grpc.FutureTimeoutError
        ):
            raise
        raise StageError(
            "The runner must bring the job to its end; nothing was published. "
            f"Received: {_reason(error)}"
        ) from error
    if not local and state not in (PipelineState.DONE, None):
        raise StageError(
            "The runner must bring the job to its end; nothing was published. "
            f"Received: the state {state}"
        )


def _reason(error: BaseException) -> str:
    """What a worker raised, or if none did, what the runner says."""
    if isinstance(error, grpc.FutureTimeoutError):
        return "no answer from the job server"
    text = str(error).strip() or type(error).__name__
    return [*text.splitlines()[:1], *_RAISED.findall(text)][-1][:1000]
