from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from engines.optimization.patience import Overrun, at_most


def wait_through(errors: type[Exception]) -> None:
    try:
        while True:
            time.sleep(0.01)
    except errors:
        return


def test_what_takes_too_long_is_interrupted() -> None:
    with pytest.raises(Overrun), at_most(0.05):
        wait_through(ValueError)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_tool_s_own_handling_of_errors_does_not_swallow_it() -> None:
    with pytest.raises(Overrun), at_most(0.05):
        wait_through(Exception)


def test_a_program_that_is_waited_for_ends_with_it() -> None:
    start = time.monotonic()
    with pytest.raises(Overrun), at_most(0.1):
        subprocess.run(["/bin/sleep", "30"], check=True)
    assert time.monotonic() - start < 20


def test_what_is_quick_is_left_alone_and_the_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with at_most(0.05):
        pass
    time.sleep(0.06)
    assert signal.getsignal(signal.SIGALRM) is before


def test_another_thread_takes_the_time_that_it_takes() -> None:
    done: list[bool] = []

    def work() -> None:
        with at_most(0.01):
            time.sleep(0.03)
        done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


_STALE_STACK = """
import time
import openvino
from engines.optimization.patience import Overrun, at_most

first, second = openvino.Core(), openvino.Core()
first.get_property("CPU", "FULL_DEVICE_NAME")
second.get_property("CPU", "FULL_DEVICE_NAME")
del first  # takes away the signal stack that the other one puts back
del second
try:
    with at_most(0.05):
        while True:
            time.sleep(0.01)
except Overrun:
    print("interrupted")
"""


def test_a_signal_stack_that_openvino_has_unmapped_is_not_used() -> None:
    done = subprocess.run([sys.executable, "-c", _STALE_STACK], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
