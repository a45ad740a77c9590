"""Errors that a user can mend.

Each message names the thing, states the rule and ends in what was received. The
classes are also the built-in exceptions that Python users expect, so ``except
FileNotFoundError`` works; the command line catches :class:`AdaptiveRecError` alone and
prints its message without a traceback. Anything else is a bug and keeps its traceback.
"""

__all__ = [
    "AdaptiveRecError",
    "ContractError",
    "InvalidValueError",
    "NotFoundError",
    "OutputError",
    "OutputExistsError",
    "StageError",
]


class AdaptiveRecError(Exception):
    """Base of every error that is the input's fault and not the code's.

    Attributes:
        exit_code: What the command line exits with.
    """

    exit_code = 1


class InvalidValueError(AdaptiveRecError, ValueError):
    """An argument, option or configuration key has a value outside its rule."""

    exit_code = 2


class NotFoundError(AdaptiveRecError, FileNotFoundError):
    """A file, directory, pattern or column that was named does not exist."""


class OutputExistsError(AdaptiveRecError, FileExistsError):
    """The output is already there; nothing is ever overwritten."""


class OutputError(AdaptiveRecError, OSError):
    """The output cannot be written."""


class ContractError(AdaptiveRecError, ValueError):
    """A directory is not what its reader needs: half-written, altered, another version."""


class StageError(AdaptiveRecError, RuntimeError):
    """A stage ran and could not give a sound result, so it published nothing."""
