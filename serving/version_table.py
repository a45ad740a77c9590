"""The versions of a model and their states: which is to be loaded next, which to go."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import grpc

from adaptiverec.serving.version_status import Closeable, State, VersionStatus

__all__ = ["Version", "VersionTable"]

_Loaded = TypeVar("_Loaded", bound=Closeable)


@dataclass
class Version(Generic[_Loaded]):
    """A version that is wanted, or still in memory.

    Attributes:
        number: Its number.
        path: Its directory.
        wanted: Whether it is to be served.
        state: Its state.
        loaded: What has been loaded.
        users: How many requests use it.
        tries: How often loading it has failed.
        retry_at: While LOADING, when to try again; 0 while it is being tried.
        error: And why that is needed.
    """

    number: int
    path: Path
    wanted: bool = True
    state: State = State.START
    loaded: _Loaded | None = None
    users: int = 0
    tries: int = 0
    retry_at: float = 0.0
    error: tuple[grpc.StatusCode, str] = (grpc.StatusCode.OK, "")

    def serving(self) -> _Loaded | None:
        """What answers requests, if it does."""
        return self.loaded if self.state == State.AVAILABLE else None


class VersionTable(Generic[_Loaded]):
    """Decides, and does nothing by itself. Not thread-safe: its owner holds a lock.

    Attributes:
        newest: The newest version that serves.
    """

    def __init__(self) -> None:
        self.newest: Version[_Loaded] | None = None
        self._versions: dict[int, Version[_Loaded]] = {}
        self._statuses: dict[int, VersionStatus] = {}

    def get(self, number: int) -> Version[_Loaded] | None:
        """The version of a number, if it is wanted or still in memory."""
        return self._versions.get(number)

    def statuses(self) -> list[VersionStatus]:
        """The status of every version ever seen, newest first."""
        return [self._statuses[number] for number in sorted(self._statuses)[::-1]]

    def is_serving_wanted(self) -> bool:
        """Whether a version that is wanted is available."""
        return any(one.state == State.AVAILABLE for one in self._wanted())

    def all_failed(self) -> list[VersionStatus]:
        """Where all that are wanted have failed, these, newest first; else nothing."""
        wanted = self._wanted()
        if any(one.state != State.END for one in wanted):
            return []
        numbers = sorted((one.number for one in wanted), reverse=True)
        return [self._statuses[number] for number in numbers]

    def retry_times(self) -> list[float]:
        """When the versions that have failed are to be tried again."""
        return [one.retry_at for one in self._wanted() if one.state == State.LOADING]

    def want(self, wanted: dict[int, Path]) -> bool:
        """Takes note of the versions that are wanted from now on.

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
                self.set_state(version, State.END, *version.error)
            del self._versions[version.number]
        for number in sorted(wanted):
            if number not in self._versions:
                version = Version[_Loaded](number, wanted[number])
                self._versions[number] = version
                self.set_state(version, State.START)
        return any(
            one.number in wanted and not one.wanted for one in self._versions.values()
        )

    def next_to_close(self) -> Version[_Loaded] | None:
        """Retires a version if that is due, and gives one that nobody uses any more."""
        wanted = self._wanted()
        unwanted = [
            one
            for one in self._versions.values()
            if not one.wanted and one.state == State.AVAILABLE
        ]
        # The last one stays until another has taken its place.
        if unwanted and (self.is_serving_wanted() or not wanted or len(unwanted) > 1):
            oldest = min(unwanted, key=lambda one: one.number)
            self.set_state(oldest, State.UNLOADING)
        for version in self._versions.values():
            if version.state == State.UNLOADING and version.users == 0:
                del self._versions[version.number]
                return version
        return None

    def next_to_load(self) -> Version[_Loaded] | None:
        """The version that is to be loaded now, the newest first."""
        now = time.monotonic()
        due = [
            one
            for one in self._wanted()
            if one.state == State.START
            or (one.state == State.LOADING and one.retry_at <= now)
        ]
        # New ones before those that have failed already.
        due.sort(key=lambda one: (one.state == State.START, one.number))
        if not due:
            return None
        version = due[-1]
        version.retry_at = 0.0
        self.set_state(version, State.LOADING)
        return version

    def fail(self, version: Version[_Loaded]) -> None:
        """Gives a version up, for the reason that it has."""
        self.set_state(version, State.END, *version.error)
        if not version.wanted:
            self._versions.pop(version.number, None)

    def closed(self, version: Version[_Loaded]) -> None:
        """Notes the end of one of :meth:`next_to_close` or :meth:`take_all`."""
        # Wanted again meanwhile, it has begun anew.
        if version.number not in self._versions:
            self.set_state(version, State.END)

    def take_all(self) -> list[Version[_Loaded]]:
        """Forgets everything, and gives what is loaded, to be closed."""
        loaded = [one for one in self._versions.values() if one.loaded is not None]
        for version in loaded:
            self.set_state(version, State.UNLOADING)
        self._versions.clear()
        self.newest = None
        return loaded

    def set_state(
        self,
        version: Version[_Loaded],
        state: State,
        code: grpc.StatusCode = grpc.StatusCode.OK,
        message: str = "",
    ) -> None:
        """Puts a version into a state."""
        version.state = state
        self._statuses[version.number] = VersionStatus(
            version.number, state, code, message
        )
        available = (
            one for one in self._versions.values() if one.serving() is not None
        )
        self.newest = max(available, key=lambda one: one.number, default=None)

    def _wanted(self) -> list[Version[_Loaded]]:
        return [one for one in self._versions.values() if one.wanted]
