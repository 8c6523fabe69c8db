"""Tasks for executors: like candidates and their scores, with floats that only come back equal when kept whole."""

import os
import time
from dataclasses import dataclass
from math import sin

# Tests start processes: an edit to the source while they run must not part them.
os.environ["SHARDSIM_BUILD_ID"] = "under test"


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    gpus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Task:
    number: int
    parts: tuple[Part, ...] = ()
    pause_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Score:
    rate: float
    worst: float | None
    parts: tuple[Part, ...]
    pair: tuple[int, str]
    pieces: dict[str, float]
    process: int = 0
    """Which process it came from would differ between runs, so it stays 0; tests of spreading ask `where`."""


def score(task: Task) -> Score:
    if task.pause_s:
        time.sleep(task.pause_s)
    rate = sin(task.number * 1.1) / 3
    return Score(
        rate, None if task.number % 3 else float("inf"), task.parts, (task.number, "µ"), {"a": rate, "b": 1 / 7}
    )


def where(task: Task) -> int:
    time.sleep(task.pause_s)
    return os.getpid()


def fail(task: Task) -> Score:
    raise ValueError(f"task {task.number} is bad")


def die(task: Task) -> Score:
    os.kill(os.getpid(), 9)
    return score(task)


def tasks(count: int, pause_s: float = 0.0) -> list[Task]:
    return [Task(n, (Part(f"p{n}", tuple(range(n % 4))),), pause_s) for n in range(count)]
