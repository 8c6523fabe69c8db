"""One replica of the winner over time, at its share of the traffic. A task of the search."""

from dataclasses import dataclass

import numpy as np

from simulator.planning.assess import Assessed
from simulator.planning.question import Question
from simulator.planning.result import TrafficPoint
from simulator.planning.simulate import Replays, Task, replay_table

STRETCHES = 24
REQUESTS = 2000
FEWEST = 5
"""A stretch with fewer requests has no percentile worth telling."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """One part at a load."""

    question: Question
    part: Assessed
    load: float
    """Requests a second of one replica."""
    replicas: int


def timeline(task: Timeline) -> tuple[TrafficPoint, ...]:
    """Latencies at the plan's percentile by stretch of arrival, of all replicas' traffic."""
    table = replay_table(Task(task.question, (task.part,)))
    served, ttft, tpot = Replays(task.question, task.part, table).run(task.load, REQUESTS)
    edges = np.linspace(0.0, float(served.arrival_s[-1]) + 1e-9, STRETCHES + 1)
    place = np.searchsorted(edges, served.arrival_s, side="right") - 1
    found = []
    for i in range(STRETCHES):
        mine = place == i
        rate = float(mine.sum()) / float(edges[i + 1] - edges[i]) * task.replicas
        known = mine.sum() >= FEWEST
        at = [float(np.percentile(c[mine], task.question.slo.percentile)) if known else None for c in (ttft, tpot)]
        found.append(TrafficPoint(float(edges[i]), rate, at[0], at[1]))
    return tuple(found)
