"""What `adaptiverec tune` searches: options of `train`, read from a YAML file."""

from __future__ import annotations

import dataclasses
import inspect
import math
from pathlib import Path
from typing import Any

import yaml

from adaptiverec.common.errors import InvalidValueError, NotFoundError
from adaptiverec.model.train import train

__all__ = ["Choices", "Range", "SearchSpace"]

# What the search itself decides.
_NOT_OF_RANGES = ("data", "output", "resume")
# What changes the measure that trials are compared by.
_NOT_SEARCHED = ("exclude_seen", "validation_users")
_RANGE_KEYS = ("min", "max", "step", "sampling")
_SAMPLINGS = ("linear", "log")


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`.

    Attributes:
        low: The least.
        high: The most.
        step: Only every so far, from `low` on; None for any number.
        log: Whether each order of magnitude is as likely as the next.
        whole: Whether they are whole numbers.
    """

    low: float
    high: float
    step: float | None
    log: bool
    whole: bool

    @property
    def sampling(self) -> str:
        """`"log"` or `"linear"`."""
        return "log" if self.log else "linear"

    def values(self) -> list[float]:
        """Every value of a range with a step; `high` only where a step ends there."""
        if self.step is None:
            raise ValueError("A range without a step has no list of values.")
        number = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        # Steps of .1 add up to .30000000000000004.
        exact = [
            float(f"{self.low + place * self.step:.12g}") for place in range(number)
        ]
        return [int(value) for value in exact] if self.whole else exact


@dataclasses.dataclass(frozen=True)
class Choices:
    """One of some values."""

    values: tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """Options that are searched, and options that are given.

    Attributes:
        searched: A :class:`Range` or :class:`Choices` by name.
        given: Values by name.
    """

    searched: dict[str, Range | Choices]
    given: dict[str, Any]

    @classmethod
    def read(cls, path: str | Path) -> SearchSpace:
        """Reads a YAML file of options of `train`.

        A list is choices, a mapping with `min` and `max` (and `step`, and `sampling:
        log`) a range, anything else a value that every trial has::

            learning_rate: {min: 0.0003, max: 0.01, sampling: log}
            dropout: {min: 0.1, max: 0.6, step: 0.1}
            views: [us_x, un]
            epochs: 30

        Args:
            path: The file.

        Returns:
            The space.

        Raises:
            NotFoundError: There is no such file.
            InvalidValueError: It is not YAML, names no option of `train`, or has a range
                outside its rule; or it has nothing to search.
        """
        path = Path(path)
        if not path.is_file():
            raise NotFoundError(f"The ranges must be a YAML file. Received: {path}")
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InvalidValueError(
                f"The ranges must be YAML. Received: {path} ({error})"
            ) from error
        if not isinstance(content, dict):
            raise InvalidValueError(
                "The ranges must be a mapping from options of train to what they may be. "
                f"Received: {content!r} in {path}"
            )
        options = {
            name: _typical(parameter)
            for name, parameter in inspect.signature(train).parameters.items()
            if name not in _NOT_OF_RANGES
        }
        searched: dict[str, Range | Choices] = {}
        given: dict[str, Any] = {}
        for name, value in content.items():
            if name not in options:
                raise InvalidValueError(
                    "The ranges must be of options of train, written with underscores: "
                    f"{', '.join(options)}. Received: {name!r}"
                )
            if name in _NOT_SEARCHED and isinstance(value, dict | list):
                raise InvalidValueError(
                    f"{name} must be one value, or trials could not be compared. "
                    f"Received: {value!r}"
                )
            if isinstance(value, dict):
                searched[name] = _range(name, value, options[name])
            elif isinstance(value, list):
                searched[name] = _choices(name, value, options[name])
            else:
                given[name] = _value(name, value, options[name])
        if not searched:
            raise InvalidValueError(
                "The ranges must have at least one option with a list or a range. "
                f"Received: {content!r} in {path}"
            )
        return cls(searched, given)

    def restored(self, values: dict[str, Any]) -> dict[str, Any]:
        """What KerasTuner chose, in the types of the choices: it makes 1 of true."""
        return {
            name: bool(value) if self._is_flag(name) else value
            for name, value in values.items()
        }

    def _is_flag(self, name: str) -> bool:
        what = self.searched[name]
        return isinstance(what, Choices) and isinstance(what.values[0], bool)

    def as_json(self) -> dict[str, Any]:
        """What identifies the space, as JSON holds it."""
        return {
            "given": self.given,
            "searched": {
                name: list(what.values)
                if isinstance(what, Choices)
                else dataclasses.asdict(what)
                for name, what in self.searched.items()
            },
        }


def _typical(parameter: inspect.Parameter) -> Any:
    """A value of the option's type: its default, unless that stands for no number."""
    return 1 if parameter.annotation == "int | None" else parameter.default


def _is_number(default: Any) -> bool:
    return isinstance(default, int | float) and not isinstance(default, bool)


def _range(name: str, given: dict[Any, Any], default: Any) -> Range:
    if not _is_number(default):
        raise InvalidValueError(
            f"{name} is no number: its range must be a list. Received: {given!r}"
        )
    if not {"min", "max"} <= set(given) <= set(_RANGE_KEYS):
        raise InvalidValueError(
            f"The range of {name} must have min and max, and may have "
            f"{' and '.join(_RANGE_KEYS[2:])}. Received: {given!r}"
        )
    low, high = (_value(name, given[key], default) for key in ("min", "max"))
    step = given.get("step")
    if step is not None:
        step = _value(name, step, default)
    sampling = given.get("sampling", "linear")
    if sampling not in _SAMPLINGS:
        raise InvalidValueError(
            f"The sampling of {name} must be one of {', '.join(_SAMPLINGS)}. Received: "
            f"{sampling!r}"
        )
    log = sampling == "log"
    if not low < high or (step is not None and not step > 0) or (log and not low > 0):
        raise InvalidValueError(
            f"The range of {name} must ascend, by a step above 0, and from above 0 where "
            f"its sampling is log. Received: {given!r}"
        )
    if log and step is not None:
        raise InvalidValueError(
            f"The range of {name} must have a step or a sampling of log, not both. "
            f"Received: {given!r}"
        )
    return Range(low, high, step, log, whole=isinstance(default, int))


def _choices(name: str, given: list[Any], default: Any) -> Choices:
    values = tuple(_value(name, value, default) for value in given)
    if not values or len(set(values)) != len(values) or None in values:
        raise InvalidValueError(
            f"The choices of {name} must be different values, at least one, none of them "
            f"null. Received: {given!r}"
        )
    return Choices(values)


def _value(name: str, value: Any, default: Any) -> Any:
    """The value in the type of the option's default; YAML takes 1e-3 for a text."""
    if not _is_number(default):
        expected = bool if isinstance(default, bool) else str
        if isinstance(value, expected) or (value is None and default is None):
            return value
        raise InvalidValueError(
            f"{name} must be a {expected.__name__}. Received: {value!r}"
        )
    try:
        if isinstance(value, bool):
            raise TypeError
        number = float(value)
        if isinstance(default, int):
            whole = int(number)
            if whole != number:
                raise ValueError
            return whole
    except (TypeError, ValueError, OverflowError):
        kind = "whole number" if isinstance(default, int) else "number"
        raise InvalidValueError(
            f"{name} must be a {kind}. Received: {value!r}"
        ) from None
    return number
