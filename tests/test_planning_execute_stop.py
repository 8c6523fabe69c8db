"""Workers end with whoever asked them, even in the middle of a long task."""

import time
from multiprocessing import active_children

import pytest

from simulator.planning.execute import Processes


def interrupted() -> None:
    """Ctrl-C after the first of four tasks, three of which take a minute."""
    with Processes(2) as executor:
        for _ in executor.run(time.sleep, [0.0, 60.0, 60.0, 60.0]):
            raise KeyboardInterrupt


def test_an_interrupt_does_not_wait_for_tasks_in_flight() -> None:
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    while active_children() and time.perf_counter() - start < 20.0:
        time.sleep(0.05)
    assert not active_children()
    assert time.perf_counter() - start < 20.0
