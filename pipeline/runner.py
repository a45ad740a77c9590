"""Beam's own flags, checked, with a local default that uses the machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from apache_beam.options.pipeline_options import (
    PipelineOptions,
    StandardOptions,
    _BeamArgumentParser,
)
from apache_beam.runners.runner import create_runner

from adaptiverec.common.errors import InvalidValueError

__all__ = ["beam_pipeline_options", "is_local", "quiet_beam"]

# Named explicitly: what Beam calls DirectRunner first tries to download another runner.
_LOCAL = "FnApiRunner"
_LOCAL_NAMES = ("", "directrunner", "direct", "fnapirunner", "fnapi")


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
    known = _parse(flags)
    runner = known.get("runner") or ""
    if runner.lower() in _LOCAL_NAMES:
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
        create_runner(runner)
    except (ValueError, ImportError, AttributeError) as error:
        raise InvalidValueError(
            "`beam_options` must name a runner that Beam knows and that is installed. "
            f"Received: --runner={runner} ({error})"
        ) from error
    return PipelineOptions(flags)


def _parse(flags: list[str]) -> dict[str, Any]:
    """The values of all flags that Beam knows."""
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
    if unknown or problems:
        raise InvalidValueError(
            "`beam_options` must be flags of Beam. Received: "
            f"{' '.join(unknown) or '; '.join(problems)}"
        )
    return vars(parsed)


def is_local(options: PipelineOptions) -> bool:
    """Whether all workers run on this machine, so that they share its disk."""
    return bool(options.view_as(StandardOptions).runner == _LOCAL)


def quiet_beam() -> None:
    """Keeps Beam's chatter below warnings off the terminal, unless it was asked for."""
    logger = logging.getLogger("apache_beam")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)
