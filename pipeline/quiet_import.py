"""Beam imported without its warning about cloud clients. Imports nothing heavy."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet_import"]


@contextmanager
def quiet_import() -> Iterator[None]:
    """Keeps warnings back that Beam gives of clients that are not installed.

    They go to the root logger, with basic handlers made for it on the way, before anybody
    can have said what is to be logged.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
