"""Checks of arguments, with messages that name the rule and what was received."""

from __future__ import annotations

from collections.abc import Sequence

from adaptiverec.common.errors import InvalidValueError

__all__ = [
    "check_above",
    "check_at_least",
    "check_at_most",
    "check_choice",
    "check_rate",
]


def check_at_least(name: str, value: float, least: float) -> None:
    """Raises :class:`InvalidValueError` unless `value` is at least `least`."""
    if not value >= least:
        raise InvalidValueError(f"{name} must be at least {least}. Received: {value}")


def check_at_most(name: str, value: float, most: float) -> None:
    """Raises :class:`InvalidValueError` unless `value` is at most `most`."""
    if not value <= most:
        raise InvalidValueError(f"{name} must be at most {most}. Received: {value}")


def check_above(name: str, value: float, bound: float) -> None:
    """Raises :class:`InvalidValueError` unless `value` is above `bound`."""
    if not value > bound:
        raise InvalidValueError(f"{name} must be above {bound}. Received: {value}")


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raises :class:`InvalidValueError` unless `value` is one of `choices`."""
    if value not in choices:
        allowed = ", ".join(repr(choice) for choice in choices)
        raise InvalidValueError(f"{name} must be one of {allowed}. Received: {value!r}")


def check_rate(name: str, value: float) -> None:
    """Raises :class:`InvalidValueError` unless `value` is in [0, 1)."""
    if not 0 <= value < 1:
        raise InvalidValueError(f"{name} must be in [0, 1). Received: {value}")
