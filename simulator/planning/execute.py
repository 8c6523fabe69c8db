"""Who runs tasks of a search or a validation: this process, or several. A task is a pure function of picklable data.

Anything with the same `map` can stand in (a cluster's scheduler, a store that remembers finished tasks): results come
in the order of the tasks, and are those of one process.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children
from types import TracebackType
from typing import Protocol, Self, TypeVar

from simulator.errors import ScenarioError, StalledError

T = TypeVar("T")
R = TypeVar("R")
LOST = 3
"""Times that workers may die with no task done between: then it is the task that kills them."""


class Executor(Protocol):
    """Runs a function over tasks."""

    def map(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """Results in the order of the tasks, each as soon as it and those before it are there."""


class InProcess:
    """One task after the other, here."""

    def map(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """Results in order."""
        return map(function, tasks)

    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
        """(number of the task, its result), one after the other."""
        return enumerate(map(function, tasks))


class Processes:
    """Worker processes of this machine; use as a context so that they end with it.

    A worker that is killed (the kernel does so when memory runs out) costs the tasks in flight their time and nothing
    else: new workers are started, and what is not done is asked of them.
    """

    def __init__(self, workers: int) -> None:
        self._pool = ProcessPoolExecutor(workers)
        self._workers = workers

    def map(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """Results in order; tasks are handed out one by one, as they differ much in length."""
        return in_order(self.run(function, tasks))

    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
        """(number of the task, its result) as results come. Raises StalledError where workers die again and again."""
        left, lost = dict(enumerate(tasks)), 0
        while left:
            futures = {self._pool.submit(function, task): number for number, task in left.items()}
            try:
                for future in as_completed(futures):
                    result = future.result()
                    lost = 0
                    del left[futures[future]]
                    yield futures[future], result
            except BrokenProcessPool:
                lost += 1
                self._pool.shutdown(wait=False, cancel_futures=True)
                if lost > LOST:
                    raise StalledError(
                        given=f"{len(left)} tasks left", rule=f"worker processes died {lost} times, none done between",
                        way_out="give the machine more memory, or ask for fewer --workers",
                    ) from None  # fmt: skip
                self._pool = ProcessPoolExecutor(self._workers)
            finally:
                for future in futures:
                    future.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        workers = active_children() if error is not None else []
        self._pool.shutdown(wait=error is None, cancel_futures=True)
        for worker in workers:  # a task may take minutes, and nobody waits for its result any more
            worker.terminate()


def in_order(numbered: Iterator[tuple[int, R]]) -> Iterator[R]:
    """Results that come as (number, result) in any order, in the order of their numbers from 0."""
    early: dict[int, R] = {}
    due = 0
    for number, result in numbered:
        early[number] = result
        while due in early:
            yield early.pop(due)
            due += 1


def worker_count(asked: int | None) -> int:
    """Processes to use: as asked, else one for each core that this process may use. Raises ScenarioError below 1."""
    if asked is not None and asked < 1:
        raise ScenarioError(where="--workers", given=str(asked), rule="must be at least 1")
    return asked or len(os.sched_getaffinity(0))
