"""Keeps the wanted versions of one model loaded, and never fails a request over it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
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
from adaptiverec.serving.versions import (
    VersionPolicy,
    find_versions,
    wanted_versions,
)

__all__ = ["ModelManager"]

_log = logging.getLogger(__name__)

# When to look again for a version that is wanted anew while it is being unloaded.
_SECONDS_TO_GO = 0.05


_Loaded = TypeVar("_Loaded", bound=Closeable)


@dataclass
class _Version(Generic[_Loaded]):
    """A version that is wanted, or still in memory; guarded by the manager's lock."""

    number: int
    path: Path
    wanted: bool = True
    state: State = State.START
    loaded: _Loaded | None = None
    users: int = 0
    tries: int = 0
    # While LOADING: when to try again, and why that is needed.
    retry_at: float = 0.0
    error: tuple[grpc.StatusCode, str] = (grpc.StatusCode.OK, "")

    def serving(self) -> _Loaded | None:
        return self.loaded if self.state == State.AVAILABLE else None


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
        poll_wait_seconds: Time between two looks at the base path; 0 looks only once.
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
        self._versions: dict[int, _Version[_Loaded]] = {}
        self._newest: _Version[_Loaded] | None = None
        self._statuses: dict[int, VersionStatus] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def follow(self, base_path: Path, policy: VersionPolicy) -> None:
        """Serves what lies there from now on; returns before anything is loaded."""
        with self._changed:
            self._target = (base_path, policy)
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
            self._want({})
            self._changed.notify_all()

    def wait(self) -> list[VersionStatus]:
        """Blocks until a version is available, or all that were found have failed.

        Returns:
            The versions that have failed where none is available, newest first.
        """
        with self._changed:
            while True:
                wanted = [one for one in self._versions.values() if one.wanted]
                if self._stopping.is_set() or self._target is None:
                    return []
                if any(one.state == State.AVAILABLE for one in wanted):
                    return []
                if wanted and all(one.state == State.END for one in wanted):
                    numbers = sorted((one.number for one in wanted), reverse=True)
                    return [self._statuses[number] for number in numbers]
                self._changed.wait()

    def close(self) -> None:
        """Stops following and closes all versions, those in use too."""
        with self._changed:
            self._stopping.set()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        with self._changed:
            open_versions = [
                one for one in self._versions.values() if one.loaded is not None
            ]
            for version in open_versions:
                self._set(version, State.UNLOADING)
            self._versions.clear()
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
            version = self._newest
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
            return [self._statuses[number] for number in sorted(self._statuses)[::-1]]

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
                closing = self._next_to_close()
                loading = None if closing else self._next_to_load()
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
                if self._want({number: found[number] for number in wanted}):
                    self._poll_at = time.monotonic() + _SECONDS_TO_GO
                self._changed.notify_all()

    def _want(self, wanted: dict[int, Path]) -> bool:
        """Takes note of the versions that are wanted from now on; under the lock.

        Returns:
            Whether one of them is still on its way out, and must be asked for again.
        """
        for version in list(self._versions.values()):
            # What is on its way out goes, and may come again when it has gone.
            version.wanted = (
                version.number in wanted and version.state != State.UNLOADING
            )
            if version.wanted or version.state in (State.AVAILABLE, State.UNLOADING):
                continue
            if version.state == State.LOADING and not version.retry_at:
                # Being loaded just now; the loader will see that it is not wanted.
                continue
            if version.state != State.END:
                self._set(version, State.END, *version.error)
            del self._versions[version.number]
        for number in sorted(wanted):
            if number not in self._versions:
                version = _Version[_Loaded](number, wanted[number])
                self._versions[number] = version
                self._set(version, State.START)
        return any(
            one.number in wanted and not one.wanted for one in self._versions.values()
        )

    def _next_to_close(self) -> _Version[_Loaded] | None:
        """Retires a version if that is due, and gives one that nobody uses any more."""
        wanted = [one for one in self._versions.values() if one.wanted]
        unwanted = [
            one
            for one in self._versions.values()
            if not one.wanted and one.state == State.AVAILABLE
        ]
        serving = any(one.state == State.AVAILABLE for one in wanted)
        # The last one stays until another has taken its place.
        if unwanted and (serving or not wanted or len(unwanted) > 1):
            self._set(min(unwanted, key=lambda one: one.number), State.UNLOADING)
        for version in self._versions.values():
            if version.state == State.UNLOADING and version.users == 0:
                del self._versions[version.number]
                return version
        return None

    def _next_to_load(self) -> _Version[_Loaded] | None:
        now = time.monotonic()
        due = [
            one
            for one in self._versions.values()
            if one.wanted
            and (
                one.state == State.START
                or (one.state == State.LOADING and one.retry_at <= now)
            )
        ]
        # New ones before those that have failed already.
        due.sort(key=lambda one: (one.state == State.START, one.number))
        if not due:
            return None
        version = due[-1]
        version.retry_at = 0.0
        self._set(version, State.LOADING)
        return version

    def _seconds_to_wait(self) -> float | None:
        """Until something is due; None where only a change can make it so."""
        times = [
            one.retry_at
            for one in self._versions.values()
            if one.wanted and one.state == State.LOADING
        ]
        if self._poll_at is not None:
            times.append(self._poll_at)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _try_to_load(self, version: _Version[_Loaded]) -> None:
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
                self._set(version, State.AVAILABLE)
            else:
                self._note_failure(version)
            self._changed.notify_all()
        if loaded is not None and self._on_available is not None:
            self._on_available(version.number)

    def _note_failure(self, version: _Version[_Loaded]) -> None:
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
        self._set(version, State.END, code, message)
        if not version.wanted:
            self._versions.pop(version.number, None)

    def _close(self, version: _Version[_Loaded]) -> None:
        loaded, version.loaded = version.loaded, None
        try:
            if loaded is not None:
                with self._unload_slot:
                    loaded.close()
        except Exception:
            _log.exception("cannot unload version %d", version.number)
        with self._changed:
            # Wanted again meanwhile, it has begun anew.
            if version.number not in self._versions:
                self._set(version, State.END)
            self._changed.notify_all()

    def _set(
        self,
        version: _Version[_Loaded],
        state: State,
        code: grpc.StatusCode = grpc.StatusCode.OK,
        message: str = "",
    ) -> None:
        """Puts a version into a state; under the lock."""
        version.state = state
        self._statuses[version.number] = VersionStatus(
            version.number, state, code, message
        )
        available = (
            one for one in self._versions.values() if one.serving() is not None
        )
        self._newest = max(available, key=lambda one: one.number, default=None)
