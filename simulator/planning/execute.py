"""Who runs the tasks of a search: this process, or several. A task is a pure function of picklable data.

Anything with the same `map` can stand in (a cluster's scheduler, a store that remembers finished tasks): results come
in the order of the tasks, and are those of one process.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from types import TracebackType
from typing import Protocol, Self, TypeVar

from simulator.errors import ScenarioError

T = TypeVar("T")
R = TypeVar("R")


class Executor(Protocol):
    """Runs a function over tasks."""

    def map(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """Results in the order of the tasks, each as soon as it and those before it are there."""


class InProcess:
    """One task after the other, here."""

    def map(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """Results in order."""
        return map(function, tasks)


class Processes:
    """Worker processes of this machine; use as a context so that they end with it."""

    def __init__(self, workers: int) -> None:
        self._pool = ProcessPoolExecutor(workers)
        self._workers = workers

    def map(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """Results in order; tasks are handed out one by one, as they differ much in length."""
        return self._pool.map(function, tasks)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=error is None, cancel_futures=True)


def worker_count(asked: int | None) -> int:
    """Processes to use: as asked, else one for each core that this process may use. Raises ScenarioError below 1."""
    if asked is not None and asked < 1:
        raise ScenarioError(where="--workers", given=str(asked), rule="must be at least 1")
    return asked or len(os.sched_getaffinity(0))
