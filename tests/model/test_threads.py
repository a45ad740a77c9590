"""One thread an operation, where views are enough for all cores."""

import os
import subprocess
import sys

import pytest
import tensorflow as tf

from adaptiverec.model import threads

# In a process of its own, where TensorFlow has not begun.
IN_TURNS = """
import os
import tensorflow as tf
from adaptiverec.model import threads

def given(num_cores, num_passes):
    threads._num_cores = lambda: num_cores
    return threads.give_each_operation_one_thread(num_passes=num_passes)

assert not given(1, 3)
assert not given(4, 3)
assert not given(2, 1)
os.environ["TF_NUM_INTRAOP_THREADS"] = "2"
assert not given(2, 3)
del os.environ["TF_NUM_INTRAOP_THREADS"]
assert tf.config.threading.get_intra_op_parallelism_threads() == 0
assert given(2, 3)
assert tf.config.threading.get_intra_op_parallelism_threads() == 1
assert tf.config.threading.get_inter_op_parallelism_threads() == 0
# Somebody has chosen.
assert not given(2, 3)
"""


def test_when_they_are() -> None:
    subprocess.run([sys.executable, "-c", IN_TURNS], check=True, timeout=120)


def test_not_once_tensorflow_has_begun(monkeypatch) -> None:
    tf.constant(1)
    monkeypatch.setattr(threads, "_num_cores", lambda: 2)
    assert not threads.give_each_operation_one_thread(num_passes=3)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="not Linux")
def test_cores_are_those_that_the_process_may_run_on() -> None:
    allowed = os.sched_getaffinity(0)
    # Of this thread alone.
    os.sched_setaffinity(0, [min(allowed)])
    try:
        assert threads._num_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
