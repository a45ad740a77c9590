"""Keeps the wanted versions of one model loaded, and never fails a request over it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Generic, TypeVar

import grpc

from adaptiverec.serving.status import RequestError
from adaptiverec.serving.version_status import (
    Closeable,
    State,
    VersionStatus,
    not_found,
)
from adaptiverec.serving.version_table import Version, VersionTable
from adaptiverec.serving.versions import (
    VersionPolicy,
    find_versions,
    wanted_versions,
)

__all__ = ["ModelManager"]

_log = logging.getLogger(__name__)

# When to look again for a version that is wanted anew while it is being unloaded.
_SECONDS_TO_GO = 0.05
# At whether anybody still waits for a version.
_SECONDS_BETWEEN_LOOKS = 0.2

_Loaded = TypeVar("_Loaded", bound=Closeable)


class ModelManager(Generic[_Loaded]):
    """Serves versions under a base path, and follows what happens there. Thread-safe.

    What the policy chooses from the versions on disk is wanted. A wanted version is loaded
    beside those that serve, the newest first. One that is not wanted any more is unloaded
    as soon as a wanted one is available (or there is none), when its last request has
    ended. A version that cannot be loaded is tried again a few times, and meanwhile those
    that serve go on. A loaded version is not read again; a base path that cannot be read
    changes nothing.

    Args:
        name: The model's name.
        load: Loads a version, given its number and directory, and returns when it is ready
            to serve; a :class:`RequestError` tells why it cannot.
        poll_wait_seconds: Time between two looks at the base path; 0 looks only once, and
            where it is negative no version is ever found.
        max_load_retries: How often a version that failed to load is tried again.
        load_retry_seconds: Time between two such tries.
        load_slot: To be held while a version is loaded; by default nothing is.
        unload_slot: To be held while one is unloaded.
        on_available: Told each version that serves from now on.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[int, Path], _Loaded],
        *,
        poll_wait_seconds: float = 1.0,
        max_load_retries: int = 5,
        load_retry_seconds: float = 60.0,
        load_slot: AbstractContextManager[object] | None = None,
        unload_slot: AbstractContextManager[object] | None = None,
        on_available: Callable[[int], None] | None = None,
    ) -> None:
        self.name = name
        self._load = load
        self._poll_wait_seconds = poll_wait_seconds
        self._max_load_retries = max_load_retries
        self._load_retry_seconds = load_retry_seconds
        self._load_slot = load_slot or nullcontext()
        self._unload_slot = unload_slot or nullcontext()
        self._on_available = on_available
        # Guards all that follows, and is notified of all that changes.
        self._changed = threading.Condition(threading.Lock())
        self._target: tuple[Path, VersionPolicy] | None = None
        self._poll_at: float | None = None
        self._poll_error = ""
        self._versions: VersionTable[_Loaded] = VersionTable()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, base_path: Path, policy: VersionPolicy) -> None:
        """Serves what lies there from now on; returns before anything is loaded."""
        with self._changed:
            self._target = (base_path, policy)
            if self._poll_wait_seconds >= 0:
                self._poll_at = time.monotonic()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name=f"versions of {self.name}", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def leave(self) -> None:
        """Wants no version any more; they are unloaded as their last requests end."""
        with self._changed:
            self._target = None
            self._poll_at = None
            self._versions.want({})
            self._changed.notify_all()

    def wait(
        self, keep_waiting: Callable[[], bool] = lambda: True
    ) -> list[VersionStatus]:
        """Blocks until a version is available, or all that were found have failed.

        Args:
            keep_waiting: Asked again and again whether to go on.

        Returns:
            The versions that have failed where none is available, newest first.
        """
        with self._changed:
            while not self._stopping.is_set() and self._target is not None:
                if self._versions.is_serving_wanted():
                    break
                failed = self._versions.all_failed()
                if failed or not keep_waiting():
                    return failed
                self._changed.wait(_SECONDS_BETWEEN_LOOKS)
            return []

    def close(self) -> None:
        """Stops following and closes all versions, those in use too."""
        with self._changed:
            self._stopping.set()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        with self._changed:
            open_versions = self._versions.take_all()
        for version in open_versions:
            self._close(version)

    @contextmanager
    def use(self, number: int | None = None) -> Iterator[_Loaded]:
        """Lends a version for one request; it is not closed before the block ends.

        Args:
            number: Which one, or None for the newest that serves.

        Yields:
            What ``load`` returned.

        Raises:
            RequestError: NOT_FOUND, the version does not serve.
        """
        with self._changed:
            version = self._versions.newest
            if number is not None:
                version = self._versions.get(number)
            loaded = version.serving() if version is not None else None
            if version is None or loaded is None:
                raise not_found(self.name, number)
            version.users += 1
        try:
            yield loaded
        finally:
            with self._changed:
                version.users -= 1
                if version.users == 0 and version.state == State.UNLOADING:
                    # Closing takes a while and is none of this request's business.
                    self._changed.notify_all()

    def statuses(self) -> list[VersionStatus]:
        """The status of every version ever seen, newest first."""
        with self._changed:
            return self._versions.statuses()

    def _work(self) -> None:
        """Polls, loads and unloads, one thing after the other."""
        while True:
            with self._changed:
                if self._stopping.is_set():
                    return
                poll_due = (
                    self._poll_at is not None and time.monotonic() >= self._poll_at
                )
            if poll_due:
                self._poll()
            with self._changed:
                closing = self._versions.next_to_close()
                loading = None if closing else self._versions.next_to_load()
                if not closing and not loading:
                    # Told meanwhile, it would not be told again.
                    if not self._stopping.is_set():
                        self._changed.wait(self._seconds_to_wait())
                    continue
            if closing:
                self._close(closing)
            elif loading:
                self._try_to_load(loading)

    def _poll(self) -> None:
        """Looks at the base path once."""
        with self._changed:
            target = self._target
        if target is None:
            return
        base_path, policy = target
        found: dict[int, Path] | None = None
        try:
            found = find_versions(base_path)
            wanted = wanted_versions(found, policy)
            error = "" if wanted else f"no version of {self.name} under {base_path}"
        except OSError as problem:
            # Perhaps a network drive that comes back: go on with what is loaded.
            error = f"cannot list {base_path}: {problem}"
        with self._changed:
            if error and error != self._poll_error:
                _log.warning("%s", error)
            self._poll_error = error
            if self._target is not target:
                return
            self._poll_at = None
            if self._poll_wait_seconds > 0:
                self._poll_at = time.monotonic() + self._poll_wait_seconds
            if found is not None:
                if self._versions.want({number: found[number] for number in wanted}):
                    self._poll_at = time.monotonic() + _SECONDS_TO_GO
                self._changed.notify_all()

    def _seconds_to_wait(self) -> float | None:
        """Until something is due; None where only a change can make it so."""
        times = self._versions.retry_times()
        if self._poll_at is not None:
            times.append(self._poll_at)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _try_to_load(self, version: Version[_Loaded]) -> None:
        loaded: _Loaded | None = None
        try:
            with self._load_slot:
                loaded = self._load(version.number, version.path)
        except RequestError as error:
            version.error = error.code, error.message
        except Exception as error:
            _log.exception("a bug in loading %s", version.path)
            version.error = (
                grpc.StatusCode.UNKNOWN,
                f"{type(error).__name__}: {error}",
            )
        with self._changed:
            if loaded is not None:
                version.loaded = loaded
                self._versions.set_state(version, State.AVAILABLE)
            else:
                self._note_failure(version)
            self._changed.notify_all()
        if loaded is not None and self._on_available is not None:
            self._on_available(version.number)

    def _note_failure(self, version: Version[_Loaded]) -> None:
        version.tries += 1
        code, message = version.error
        again = version.wanted and version.tries <= self._max_load_retries
        _log.warning(
            "cannot load %s%s: %s: %s",
            version.path,
            f", again in {self._load_retry_seconds:g} s" if again else "",
            code.name,
            message,
        )
        if again:
            version.retry_at = time.monotonic() + self._load_retry_seconds
            return
        self._versions.fail(version)

    def _close(self, version: Version[_Loaded]) -> None:
        loaded, version.loaded = version.loaded, None
        try:
            if loaded is not None:
                with self._unload_slot:
                    loaded.close()
        except Exception:
            _log.exception("cannot unload version %d", version.number)
        with self._changed:
            self._versions.closed(version)
            self._changed.notify_all()
