"""Whether a run's means say anything: did the fleet keep up with what came?"""

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simulator.engine.replica import Served

Label = Literal["stable", "backlogged", "overloaded"]
GROWTH = 0.05
"""Share of what comes that may pile up before a run counts as overloaded: in a longer run its times would be longer."""
SIGMAS = 4.0
"""And the pile must exceed what chance makes of a Poisson number of requests by so many standard deviations."""
BACKLOG = 0.5
"""Share of the time that a replica has requests waiting, from which on a run counts as backlogged."""
MEANING = {
    "stable": "the fleet kept up, and its times do not depend on how long the run was",
    "backlogged": "requests waited for most of the time, but their number did not grow",
    "overloaded": "requests came faster than they were answered: times grow with the length of the run",
}


def label(served: Served, steps: pd.DataFrame, rejected: int = 0) -> Label:
    """overloaded: between the middle and the end of the arrivals requests in the system grew by more than GROWTH of
    those that came (or some were refused). backlogged: queues stood for more than BACKLOG of the time. `steps`: the
    log, may be empty. A closed loop is never overloaded: its clients wait."""
    if not served.concurrency and (rejected or _grows(served)):
        return "overloaded"
    return "backlogged" if _waits(served, steps) else "stable"


def _grows(served: Served) -> bool:
    came, gone = np.sort(served.arrival_s), np.sort(served.finish_s)
    first, last = float(came[0]), float(came[-1])
    if last <= first:
        return False
    span = last - first

    def inside(low: float, high: float) -> float:
        at = first + span * np.linspace(low, high, 21)
        return float(np.mean(np.searchsorted(came, at, side="right") - np.searchsorted(gone, at, side="right")))

    before, after = inside(0.4, 0.6), inside(0.8, 1.0)
    arrived = len(came) * 0.4
    return bool(after - before > max(GROWTH * arrived, SIGMAS * max(before, 1.0) ** 0.5))


def _waits(served: Served, steps: pd.DataFrame) -> bool:
    """Queues of the replicas, over the second half of the time in which requests came (all of it: a closed loop)."""
    if not len(steps):
        return False
    end_s = float(served.finish_s.max()) if served.concurrency else float(served.arrival_s.max())
    part = steps[(steps["start_s"] >= 0.5 * end_s) & (steps["start_s"] <= end_s)]
    total = float(part["time_s"].sum())
    waiting: NDArray[np.bool_] = part["waiting"].to_numpy() > 0
    stood = float(part["time_s"].to_numpy(dtype=np.float64)[waiting].sum())
    return bool(total > 0.0) and bool(stood > BACKLOG * total)
