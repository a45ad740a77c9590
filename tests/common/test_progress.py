"""Progress: plain lines into a file, bars on a terminal, and lines between bars."""

import contextlib
import io
import os
import pty
import re
import select
import sys
import threading
from types import SimpleNamespace

import pytest

from adaptiverec.common import progress
from adaptiverec.common.progress import say, steps


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is set."""
    now = SimpleNamespace(seconds=0.0)
    fake = SimpleNamespace(monotonic=lambda: now.seconds)
    monkeypatch.setattr(progress, "time", fake)
    return now


def test_plain_lines_at_the_end(clock) -> None:
    stream = io.StringIO()
    with steps(stream=stream) as shown:
        shown.start("Reading", 12_000)
        shown.start("Writing")
        for _ in range(3):
            shown.advance("Reading", 4_000)
        shown.note("Writing", "1 shard")
        shown.advance("Writing")
        assert stream.getvalue() == ""
    assert stream.getvalue() == "Reading: 12,000/12,000\nWriting: 1 1 shard\n"


def test_plain_lines_at_most_every_ten_seconds(clock) -> None:
    stream = io.StringIO()
    with steps(stream=stream) as shown:
        for second in range(1, 26):
            clock.seconds = float(second)
            shown.advance("Reading")
        assert stream.getvalue() == "Reading: 10\nReading: 20\n"
        shown.start("Reading", 30)
        shown.finish("Reading")
    # A finished step has had its say.
    assert stream.getvalue() == "Reading: 10\nReading: 20\n"


def test_a_line_is_not_said_twice(clock) -> None:
    stream = io.StringIO()
    with steps(stream=stream) as shown:
        clock.seconds = 11.0
        shown.advance("Reading")
    assert stream.getvalue() == "Reading: 1\n"


def test_a_job_that_fails_shows_how_far_it_came(clock) -> None:
    stream = io.StringIO()

    def job() -> None:
        with steps(stream=stream) as shown:
            shown.advance("Reading", 5)
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        job()
    assert stream.getvalue() == "Reading: 5\n"


def test_threads_lose_no_unit() -> None:
    stream = io.StringIO()
    with steps(stream=stream) as shown:
        threads = [
            threading.Thread(
                target=lambda: [shown.advance("Reading") for _ in range(500)]
            )
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert stream.getvalue() == "Reading: 4,000\n"


def test_without_a_terminal_standard_error_gets_lines(capsys) -> None:
    with steps() as shown:
        shown.advance("Reading", 2)
        say("Something was found: [bold]{1}")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "Something was found: [bold]{1}\nReading: 2\n"


class Terminal:
    """The other end of a pseudo-terminal."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        self.stream = os.fdopen(slave, "w", encoding="utf-8")
        self._seen = ""

    def read(self) -> str:
        """All that has been drawn so far."""
        self.stream.flush()
        while select.select([self._master], [], [], 0.05)[0]:
            self._seen += os.read(self._master, 65536).decode("utf-8", "replace")
        return self._seen

    def text(self) -> str:
        """It, without colours and movements of the cursor."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.read())

    def close(self) -> None:
        self.stream.close()
        os.close(self._master)


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with contextlib.closing(Terminal()) as opened:
        yield opened


def test_bars_on_a_terminal(terminal) -> None:
    with steps(stream=terminal.stream) as shown:
        shown.start("Reading", 4)
        shown.advance("Reading", 3)
        shown.note("Reading", "loss 0.5")
        shown.start("Hidden", 2)
        shown.finish("Hidden")
    assert "\x1b[" in terminal.read()
    last = terminal.text().rstrip().splitlines()[-1]
    assert re.match(r"Reading +\S+ +3/4 +0:00:0\d +loss 0\.5", last.strip())
    # The bar itself, of which a quarter is missing.
    assert "\u2501" in last
    assert "Hidden" not in last


def test_a_line_between_bars_is_whole(terminal) -> None:
    message = "[bold]{as it is}[/bold] :art: " + "/a/long/path" * 20
    with steps(stream=terminal.stream) as shown:
        shown.start("Reading", 4)
        say(message)
        shown.advance("Reading", 4)
    # Neither markup nor emoji, torn by a bar or broken at the edge of the screen.
    assert message in re.split(r"[\r\n]+", terminal.text())


def test_lines_go_to_standard_error_again_after_the_bars(terminal, capsys) -> None:
    def job() -> None:
        with steps(stream=terminal.stream):
            say("between")
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        job()
    say("after")
    assert capsys.readouterr().err == "after\n"
    assert "between" in terminal.text()
    assert "after" not in terminal.text()


def test_bars_are_drawn_on_standard_error_where_it_is_one(
    terminal, monkeypatch
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal.stream)
    with steps() as shown:
        shown.advance("Reading", 2)
    assert "\x1b[" in terminal.read()
    assert "Reading" in terminal.text()
