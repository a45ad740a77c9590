"""What a serving process sets, and that it is as before afterwards."""

from __future__ import annotations

import gc
import sys

from adaptiverec.serving.steady_process import steady_process


def is_looked_at(thing: object) -> bool:
    return any(other is thing for other in gc.get_objects())


def test_what_was_there_before_is_left_alone_and_what_comes_later_is_not():
    old: list[object] = []
    interval = sys.getswitchinterval()
    with steady_process():
        new: list[object] = []
        assert not is_looked_at(old)
        assert is_looked_at(new)
        assert sys.getswitchinterval() < interval
    assert is_looked_at(old)
    assert sys.getswitchinterval() == interval


def test_it_is_as_before_after_an_error():
    old: list[object] = []
    interval = sys.getswitchinterval()
    try:
        with steady_process():
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert is_looked_at(old)
    assert sys.getswitchinterval() == interval
