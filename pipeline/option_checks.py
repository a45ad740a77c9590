"""What the checks of options are made of."""

from __future__ import annotations

from typing import Any

from adaptiverec.common.errors import InvalidValueError

__all__ = ["is_integer", "is_number", "require"]


def is_integer(value: Any) -> bool:
    """Whether a value is an integer; a truth value is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a number; a truth value is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def require(met: bool, rule: str, received: Any) -> None:
    """Holds an option to its rule.

    Raises:
        InvalidValueError: It is not met.
    """
    if not met:
        raise InvalidValueError(f"{rule}. Received: {received!r}")
