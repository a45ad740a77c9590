"""Which versions of a model lie under its base path, and which of them are wanted.

A version is whatever has a whole number for its name: 7 may be called ``7``, ``007`` or
``+7``. It should be a directory that holds a SavedModel; what it really is comes out when
it is loaded. It must appear whole: copy it under another name (``2.tmp``) beside the
others, then rename it. What is seen to be incomplete is not served, but tried again as
``max_num_load_retries`` says.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeAlias

from adaptiverec.common.errors import NotFoundError

__all__ = ["VersionPolicy", "check_base_path", "find_versions", "wanted_versions"]

# FileSystemStoragePathSourceConfig.ServableVersionPolicy, which has no types.
VersionPolicy: TypeAlias = Any

_log = logging.getLogger(__name__)

# What tensorflow_model_server reads as a number, which has 64 bits and may be negative.
_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)[ \t\n\v\f\r]*", re.ASCII)
_MAX_DIGITS = 19
_NUMBERS = range(-(2**63), 2**63)


def find_versions(base_path: Path) -> dict[int, Path]:
    """Lists the versions, ``BASE/<integer>``; other names are ignored.

    A version is also ignored where it is a link out of the base path, so that whoever
    may write a name there cannot make the server read another place.

    Args:
        base_path: The directory of the model.

    Returns:
        The path of each version. Of several names for one number, the last in the order
        of their bytes counts: of ``01`` and ``1`` it is ``1``.

    Raises:
        OSError: The base path cannot be listed.
    """
    versions: dict[int, Path] = {}
    base = base_path.resolve(strict=True)
    for entry in sorted(base_path.iterdir()):
        number = _number(entry.name)
        if number is None:
            continue
        if _leads_out(entry, base):
            _warn_of_link(entry)
        else:
            versions[number] = entry
    return versions


def _leads_out(entry: Path, base: Path) -> bool:
    try:
        return not entry.resolve().is_relative_to(base)
    except (OSError, RuntimeError):
        # A link to itself leads nowhere, which is told when it is loaded.
        return False


def _number(name: str) -> int | None:
    match = _NUMBER.fullmatch(name)
    if match is None:
        return None
    # Not int() first, which is slow for very many digits.
    if len(match[1].lstrip("+-").lstrip("0")) > _MAX_DIGITS:
        return None
    number = int(match[1])
    return number if number in _NUMBERS else None


def wanted_versions(versions: Collection[int], policy: VersionPolicy) -> set[int]:
    """Chooses from the versions that there are.

    Args:
        versions: Their numbers.
        policy: ``latest`` (the newest ``num_versions``, by default one), ``all`` or
            ``specific``; none is ``latest``.

    Returns:
        The numbers of those that are to be served.
    """
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return set(versions)
    if choice == "specific":
        return set(versions) & set(policy.specific.versions)
    newest_first = sorted(versions, reverse=True)
    return set(newest_first[: max(policy.latest.num_versions, 1)])


@functools.cache  # Once, and not with every look.
def _warn_of_link(entry: Path) -> None:
    _log.warning("ignoring %s, which leads out of the base path", entry)


def check_base_path(base_path: Path) -> None:
    """Raises unless there is a version to serve.

    Raises:
        NotFoundError: The base path does not exist or holds no version.
    """
    try:
        versions = find_versions(base_path)
    except OSError as error:
        raise NotFoundError(
            "The model base path must be a directory that can be read. Received: "
            f"{base_path} ({error.strerror})"
        ) from error
    if not versions:
        raise NotFoundError(
            "The model base path must hold at least one version, a directory with a "
            f"number for its name, such as {base_path / '1'}. Received: {base_path}"
        )
