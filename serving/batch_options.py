"""The options of `batch-recommend`, checked once at the border."""

from __future__ import annotations

import dataclasses
from typing import Any

from adaptiverec.common.checks import check_at_least, check_at_most, check_choice
from adaptiverec.common.errors import InvalidValueError
from adaptiverec.serving.batch_contract import FORMATS

__all__ = ["BatchOptions"]

_HISTORIES = ("all", "before_test", "before_validation")
_MATCHES = ("vocabulary", "data", "nothing")
_MAX_K = 2**31 - 1
_MAX_SHARDS = 10_000
_TEXTS = ("model", "data", "output")
_FILES = ("exclude_file", "allow_file")
# Each with its least and its greatest value.
_NUMBERS = {
    "k": (1, _MAX_K),
    "num_shards": (1, _MAX_SHARDS),
    "batch_size": (1, _MAX_K),
}


@dataclasses.dataclass(frozen=True)
class BatchOptions:
    """What :func:`adaptiverec.serving.batch_recommend` was asked for; see there."""

    model: str
    data: str
    output: str
    k: int
    history: str
    exclude_history: bool
    exclude_file: str | None
    allow_file: str | None
    match: str
    format: str
    num_shards: int | None
    batch_size: int
    beam_options: tuple[str, ...]

    @classmethod
    def checked(cls, **given: Any) -> BatchOptions:
        """Checks the arguments of `batch_recommend`.

        Raises:
            InvalidValueError: One of them is outside its rule.
        """
        for name in (*_TEXTS, *_FILES):
            value = given[name]
            if value == "" or (value is None and name in _TEXTS):
                raise InvalidValueError(
                    f"{name} must not be empty. Received: {value!r}"
                )
        check_choice("history", given["history"], _HISTORIES)
        check_choice("match", given["match"], _MATCHES)
        check_choice("format", given["format"], FORMATS)
        check_choice("exclude_history", given["exclude_history"], (True, False))
        for name, (least, most) in _NUMBERS.items():
            value = given[name]
            if value is None and name == "num_shards":
                continue
            if not isinstance(value, int) or isinstance(value, bool):
                raise InvalidValueError(
                    f"{name} must be a whole number. Received: {value!r}"
                )
            check_at_least(name, value, least)
            check_at_most(name, value, most)
        flags = given["beam_options"] or ()
        return cls(**{**given, "beam_options": tuple(flags)})
