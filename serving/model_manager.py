"""Keeps the newest version of one model loaded, and never fails a request over it."""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import grpc

from adaptiverec.common.errors import StageError
from adaptiverec.serving.status import RequestError
from adaptiverec.serving.versions import check_base_path, find_versions

__all__ = ["Closeable", "ModelManager", "State", "VersionStatus"]

_log = logging.getLogger(__name__)


class Closeable(Protocol):
    """What the manager needs of a loaded version."""

    def close(self) -> None:
        """Frees what the version holds."""


_Loaded = TypeVar("_Loaded", bound=Closeable)


class State(enum.IntEnum):
    """The life of a version; the numbers are TensorFlow Serving's."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class VersionStatus:
    """Where a version stands.

    Attributes:
        version: Its number.
        state: Its state; END with an error is a version that could not be loaded.
        code: The status code of the error, or OK.
        message: The message of the error, or "".
    """

    version: int
    state: State
    code: grpc.StatusCode = grpc.StatusCode.OK
    message: str = ""


@dataclass
class _Live(Generic[_Loaded]):
    """A version in memory; all but ``loaded`` is guarded by the manager's lock."""

    version: int
    loaded: _Loaded
    users: int = 0
    retired: bool = False


class ModelManager(Generic[_Loaded]):
    """Serves the newest version under a base path, and follows what happens there.

    The newest version on disk is the one that is wanted. It is loaded beside the one
    that serves and takes its place when it is ready; the old one is closed when its
    last request has ended. If it cannot be loaded, the old one goes on, and loading is
    tried again a few times. If the newest is removed, the next newest is loaded in its
    turn. The last version in memory is never given up, whatever happens on disk. A
    loaded version is not read again.

    Args:
        name: The model's name.
        base_path: The directory with its versions.
        load: Loads one, given the version and its directory, and returns when it is
            ready to serve; a :class:`RequestError` tells why it cannot.
        poll_wait_seconds: Time between two looks at the base path; 0 looks only once.
        max_load_retries: How often a version that failed to load is tried again.
        load_retry_seconds: Time between two such tries.
        on_swap: Told the version that serves from now on.
    """

    def __init__(
        self,
        name: str,
        base_path: Path,
        load: Callable[[int, Path], _Loaded],
        *,
        poll_wait_seconds: float = 1.0,
        max_load_retries: int = 5,
        load_retry_seconds: float = 60.0,
        on_swap: Callable[[int], None] | None = None,
    ) -> None:
        self.name = name
        self._base_path = base_path
        self._load = load
        self._poll_wait_seconds = poll_wait_seconds
        self._max_load_retries = max_load_retries
        self._load_retry_seconds = load_retry_seconds
        self._on_swap = on_swap
        self._lock = threading.Lock()
        self._serving: _Live[_Loaded] | None = None
        self._retired: list[_Live[_Loaded]] = []
        self._statuses: dict[int, VersionStatus] = {}
        # Of the failed versions on disk: tries so far, and when to try again.
        self._failures: dict[int, tuple[int, float]] = {}
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> int:
        """Loads the newest version, then follows the base path in a thread.

        Returns:
            The version that serves.

        Raises:
            NotFoundError: There is no version.
            StageError: The newest version cannot be loaded.
        """
        check_base_path(self._base_path)
        self._poll()
        if self._serving is None:
            broken = self.statuses()[0]
            raise StageError(
                "The newest version must be a SavedModel that loads and answers its "
                f"warm-up requests. Received: {self._base_path / str(broken.version)} "
                f"({broken.code.name}: {broken.message})"
            )
        self._thread = threading.Thread(
            target=self._follow, name=f"versions of {self.name}", daemon=True
        )
        self._thread.start()
        return self._serving.version

    def close(self) -> None:
        """Stops following and closes all versions, those in use too."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with self._lock:
            self._retire()
            cut_off, self._retired = self._retired, []
        self._close(cut_off)

    @contextmanager
    def use(self, version: int | None = None) -> Iterator[_Loaded]:
        """Lends a version for one request; it is not closed before the block ends.

        Args:
            version: Which one, or None for the one that serves.

        Yields:
            What ``load`` returned.

        Raises:
            RequestError: NOT_FOUND, the version is not the one that serves.
        """
        with self._lock:
            live = self._serving
            if live is None or version not in (None, live.version):
                raise self.not_found(self.name, version)
            live.users += 1
        try:
            yield live.loaded
        finally:
            with self._lock:
                live.users -= 1
                if live.retired and live.users == 0:
                    # Closing takes a while and is none of this request's business.
                    self._wake.set()

    @staticmethod
    def not_found(name: str, version: int | None) -> RequestError:
        """The error of a request for a model or version that is not served."""
        wanted = (
            f"Latest({name})" if version is None else f"Specific({name}, {version})"
        )
        return RequestError(
            grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {wanted}"
        )

    def statuses(self) -> list[VersionStatus]:
        """The status of every version seen, newest first."""
        with self._lock:
            return [self._statuses[version] for version in sorted(self._statuses)[::-1]]

    def _follow(self) -> None:
        poll_due = time.monotonic() + self._poll_wait_seconds
        while True:
            # With no polling, what is left to do is to close, when woken.
            wait = None
            if self._poll_wait_seconds > 0:
                wait = max(0.0, poll_due - time.monotonic())
            self._wake.wait(wait)
            self._wake.clear()
            if self._stopping:
                return
            self._close_retired()
            if wait is None or time.monotonic() < poll_due:
                continue
            try:
                self._poll()
            except OSError as error:
                # Perhaps a network drive that comes back: go on with what is loaded.
                _log.warning("cannot list %s: %s", self._base_path, error)
            except Exception:
                _log.exception("cannot follow %s", self._base_path)
            self._close_retired()
            poll_due = time.monotonic() + self._poll_wait_seconds

    def _poll(self) -> None:
        """Looks at the base path once, and loads the newest version if that is due."""
        on_disk = find_versions(self._base_path)
        for version in set(self._failures) - set(on_disk):
            del self._failures[version]
        if not on_disk:
            return
        newest = max(on_disk)
        if self._serving is not None and newest == self._serving.version:
            return
        tries, due = self._failures.get(newest, (0, 0.0))
        if tries > self._max_load_retries or time.monotonic() < due:
            return
        self._set_status(newest, State.LOADING)
        try:
            loaded = self._load(newest, on_disk[newest])
        except Exception as error:
            self._failures[newest] = (
                tries + 1,
                time.monotonic() + self._load_retry_seconds,
            )
            self._note_failure(newest, on_disk[newest], error)
            return
        self._failures.pop(newest, None)
        with self._lock:
            self._retire()
            self._serving = _Live(newest, loaded)
            self._statuses[newest] = VersionStatus(newest, State.AVAILABLE)
        if self._on_swap is not None:
            self._on_swap(newest)

    def _note_failure(self, version: int, path: Path, error: Exception) -> None:
        if isinstance(error, RequestError):
            code, message = error.code, error.message
        else:
            code = grpc.StatusCode.UNKNOWN
            message = f"{type(error).__name__}: {error}"
        _log.warning("cannot load %s: %s: %s", path, code.name, message)
        self._set_status(version, State.END, code, message)

    def _set_status(
        self,
        version: int,
        state: State,
        code: grpc.StatusCode = grpc.StatusCode.OK,
        message: str = "",
    ) -> None:
        with self._lock:
            self._statuses[version] = VersionStatus(version, state, code, message)

    def _retire(self) -> None:
        """Lets no new request at the serving version; the lock must be held."""
        live, self._serving = self._serving, None
        if live is not None:
            live.retired = True
            self._retired.append(live)
            self._statuses[live.version] = VersionStatus(live.version, State.UNLOADING)

    def _close_retired(self) -> None:
        """Closes the retired versions that no request uses any more."""
        with self._lock:
            unused = [live for live in self._retired if live.users == 0]
            self._retired = [live for live in self._retired if live.users > 0]
        self._close(unused)

    def _close(self, retired: list[_Live[_Loaded]]) -> None:
        for live in retired:
            try:
                live.loaded.close()
            except Exception:
                _log.exception("cannot unload version %d", live.version)
            with self._lock:
                # It may have been loaded anew while its last request ran.
                if self._statuses[live.version].state == State.UNLOADING:
                    self._statuses[live.version] = VersionStatus(
                        live.version, State.END
                    )
