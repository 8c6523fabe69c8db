"""The event loop of the flows reading: rates, the next completions, rates again."""

from dataclasses import dataclass

import numpy as np

from simulator.errors import StalledError
from simulator.network.crossings import Crossings, crossings
from simulator.network.fair import fill
from simulator.network.fold import fold
from simulator.network.implied import without_implied
from simulator.network.incidence import Bools, Floats, Ints, Paths, padded

SLACK_OF_TOLERANCE = 0.5
"""Part of the tolerance that is spent on filling bottlenecks of nearly the same share together: halves the time of an
uneven all_to_all over 144 ranks; the error it adds does not show beside that of taking completions together."""


@dataclass(slots=True, eq=False)
class Batch:
    """Flows being drained: bytes left, when each starts, and its cap."""

    left: Floats
    start: Floats
    caps: Floats


@dataclass(frozen=True, slots=True)
class Nearness:
    """What is taken together: events this near in time, bottlenecks this near (relative) in share."""

    tolerance: float
    window_s: float

    @property
    def slack(self) -> float:
        """Relative difference of shares below which bottlenecks are filled together."""
        return SLACK_OF_TOLERANCE * self.tolerance


def drain(
    capacity: Floats, paths: Paths, flows: Batch, now: float, until: float, near: Nearness
) -> tuple[Floats, Floats]:
    """(finish, bytes left) of each flow at `until`; finish is infinite for those not done."""
    table = without_implied(capacity, padded(paths, len(capacity)))
    folded = fold(capacity, table, (flows.left, flows.start, flows.caps))
    if folded is None:
        over, count = crossings(len(capacity), table), np.ones(paths.flows)
        return _Run(capacity, over, flows, count, near).run(now, until)
    few = Batch(flows.left[folded.one_of], flows.start[folded.one_of], flows.caps[folded.one_of])
    count = np.bincount(folded.class_of).astype(np.float64)
    finish, left = _Run(folded.capacity, folded.over, few, count, near).run(now, until)
    return finish[folded.class_of], left[folded.class_of]


class _Run:
    """One event loop: rates, the next completions, again."""

    def __init__(self, capacity: Floats, over: Crossings, flows: Batch, count: Floats, near: Nearness) -> None:
        self.capacity, self.all, self.flows, self.count = capacity, over, flows, count
        self.finish = np.full(over.flows, np.inf)
        self.near = near

    def run(self, now: float, until: float) -> tuple[Floats, Floats]:
        """Until all are done or it is `until`."""
        started = self.flows.start <= now
        rows, over = np.flatnonzero(started), self.all.keep(started)
        arrivals = np.unique(self.flows.start[~started])
        arrived = 0
        while len(rows) or arrived < len(arrivals):
            horizon = min(until, float(arrivals[arrived]) if arrived < len(arrivals) else np.inf)
            now, done = self._step(rows, over, now, horizon)
            over, rows = (over.keep(~done), rows[~done]) if done.any() else (over, rows)
            if now >= until:
                break
            if arrived < len(arrivals) and now >= arrivals[arrived]:
                arrived += 1
                active = (self.flows.start <= now) & np.isinf(self.finish)
                rows, over = np.flatnonzero(active), self.all.keep(active)
        return self.finish, self.flows.left

    def _step(self, rows: Ints, over: Crossings, now: float, horizon: float) -> tuple[float, Bools]:
        """Advance to the next completions or to `horizon`; (the time reached, which of `rows` are done)."""
        rates = fill(self.capacity, over, self.flows.caps[rows], self.near.slack)
        left = self.flows.left[rows]
        with np.errstate(divide="ignore"):
            ends = now + left / rates
        first = float(ends.min(initial=np.inf))
        if first > horizon:
            self.flows.left[rows] = left - rates * (horizon - now)
            return horizon, np.zeros(len(rows), dtype=np.bool_)
        if np.isinf(first):
            raise StalledError(
                where=f"flow {rows[0]}",
                given=f"{len(rows)} flows move at rate 0",
                rule="their links are down",
                way_out="re-route them",
            )
        done = ends <= min(first + self.near.window_s, horizon)
        weight = np.where(np.isinf(rates[done]), 1.0, rates[done]) * self.count[rows[done]]
        then = float(np.average(ends[done], weights=weight))
        self.finish[rows[done]] = ends[done]
        self.flows.left[rows] = np.where(done, 0.0, left - np.where(done, 0.0, rates) * (then - now))
        return max(then, now), done
