"""The thread of calls that may take their time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
import tensorflow as tf

from adaptiverec.serving.low_priority import low_priority_thread

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="threads have no priorities of their own"
)


def priority():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_it_alone_is_put_behind():
    before = priority()
    with low_priority_thread("slow") as thread:
        assert thread.submit(priority).result() == max(before, 10)
    assert priority() == before


def test_a_process_that_yields_as_a_whole_stays_so():
    program = (
        "import os, threading\n"
        "from adaptiverec.serving.low_priority import low_priority_thread\n"
        "with low_priority_thread('slow') as thread:\n"
        "    print(thread.submit(lambda: os.getpriority(\n"
        "        os.PRIO_PROCESS, threading.get_native_id())).result())\n"
    )
    done = subprocess.run(
        ["nice", "-n", "15", sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) == min(priority() + 15, 19)


def test_a_version_is_warmed_up_there_and_answers_at_once(
    start, publish, tmp_path, monkeypatch, helpers
):
    priorities = []
    make = tf.compat.v1.Session._make_callable_from_options

    def make_and_note(session, options):
        priorities.append(priority())
        return make(session, options)

    monkeypatch.setattr(
        tf.compat.v1.Session, "_make_callable_from_options", make_and_note
    )
    warm_up = [helpers.warm_up_log(signature="echo", text=["a"])]
    publish(tmp_path / "base", 1, warm_up=warm_up)
    _, caller = start(tmp_path / "base")
    assert caller.number() == (1, 1.0)
    assert priorities == [max(priority(), 10), priority()]
