"""The winner's fleet over time, under the traffic that it was planned for. A task of the search."""

import numpy as np

from simulator.planning.fleet import FleetRuns, FleetTask
from simulator.planning.result import TrafficPoint

STRETCHES = 24
REQUESTS = 2000
FEWEST = 5
"""A stretch with fewer requests has no percentile worth telling."""


def timeline(task: FleetTask) -> tuple[TrafficPoint, ...]:
    """Latencies at the plan's percentile by stretch of arrival."""
    served, ttft, tpot = FleetRuns(task.question, task.parts).run(task.counts, task.load, REQUESTS)
    edges = np.linspace(0.0, float(served.arrival_s[-1]) + 1e-9, STRETCHES + 1)
    place = np.searchsorted(edges, served.arrival_s, side="right") - 1
    found = []
    for i in range(STRETCHES):
        mine = place == i
        rate = float(mine.sum()) / float(edges[i + 1] - edges[i])
        known = mine.sum() >= FEWEST
        at = [float(np.percentile(c[mine], task.question.slo.percentile)) if known else None for c in (ttft, tpot)]
        found.append(TrafficPoint(float(edges[i]), rate, at[0], at[1]))
    return tuple(found)
