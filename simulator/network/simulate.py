"""Flows from start to finish over links that they share fairly; links may change or fail on the way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from simulator.errors import StalledError
from simulator.network.fair import Crossings, crossings, fill
from simulator.network.fold import fold
from simulator.network.implied import without_implied
from simulator.network.incidence import Floats, Ints, Paths, check_links, joined, padded

SLACK_OF_TOLERANCE = 0.25
"""Part of the tolerance that is spent on filling bottlenecks of nearly the same share together."""

Reroute = Callable[[Ints, Floats], Paths]
"""New paths for some flows, given the links' capacities (0: down), one a flow."""


@dataclass(frozen=True, slots=True)
class LinkChange:
    """From `at_s` on, a link has this capacity: 0 for a link that is down, less than before for a degraded one."""

    at_s: float
    link: int
    capacity_bytes_per_s: float


def simulate_flows(
    capacity_bytes_per_s: Floats,
    paths: Paths,
    bytes_: Floats,
    *,
    start_s: Floats | float = 0.0,
    latency_s: Floats | float = 0.0,
    caps_bytes_per_s: Floats | None = None,
    tolerance: float = 0.01,
    changes: Sequence[LinkChange] = (),
    reroute: Reroute | None = None,
) -> Floats:
    """When the last byte of each flow arrives, seconds, shape (flows,).

    A flow shares its links from `start_s` until its bytes have left, and arrives `latency_s` later. Flows that end
    within `tolerance` of the makespan after the first of them are taken together, at the mean of their ends weighted
    by rate, so that bytes are conserved on the whole; 0 is exact. At a change, flows on a link that went down get new
    paths from `reroute`; without it, or where the new path is down too, StalledError names the flow and the link.
    """
    check_links(capacity_bytes_per_s, paths)
    flows = paths.flows
    start = np.broadcast_to(np.asarray(start_s, dtype=np.float64), (flows,)).copy()
    caps = np.full(flows, np.inf) if caps_bytes_per_s is None else np.asarray(caps_bytes_per_s, dtype=np.float64)
    left = np.asarray(bytes_, dtype=np.float64).copy()
    capacity = capacity_bytes_per_s.astype(np.float64)
    finish = np.where(left > 0, np.inf, start)
    now = float(start.min(initial=np.inf)) if flows else 0.0
    for change in [*sorted(changes, key=lambda c: c.at_s), None]:
        until = np.inf if change is None else change.at_s
        open_ = np.flatnonzero(np.isinf(finish))
        if len(open_) and until > now:
            part = _Batch(left[open_], start[open_], caps[open_])
            finish[open_], left[open_] = _drain(capacity, paths.take(open_), part, now, until, tolerance)
            now = max(now, until)
        if change is not None:
            capacity[change.link] = change.capacity_bytes_per_s
            paths = _around(capacity, paths, np.isinf(finish), reroute)
    return np.asarray(finish + latency_s, dtype=np.float64)


def _around(capacity: Floats, paths: Paths, unfinished: np.ndarray, reroute: Reroute | None) -> Paths:
    """Paths with those of unfinished flows over dead links replaced."""
    hit = np.flatnonzero(unfinished & _crosses_dead(capacity, paths))
    if not len(hit):
        return paths
    fresh = paths.take(hit) if reroute is None else reroute(hit, capacity)
    dead = np.flatnonzero(_crosses_dead(capacity, fresh))
    if len(dead):
        path = fresh.path(int(dead[0]))
        raise StalledError(
            where=f"flow {hit[dead[0]]}",
            given=f"link {path[capacity[path] <= 0][0]} is down",
            rule=f"{len(dead)} flows have no way round it",
            way_out="add a route, or let routing re-route",
        )
    order = np.arange(paths.flows)
    order[hit] = paths.flows + np.arange(len(hit))
    return joined([paths, fresh]).take(order)


def _crosses_dead(capacity: Floats, paths: Paths) -> np.ndarray:
    return paths.sums((capacity <= 0).astype(np.float64)) > 0.5


@dataclass(slots=True, eq=False)
class _Batch:
    """Flows being drained: bytes left, when each starts, and its cap."""

    left: Floats
    start: Floats
    caps: Floats


def _drain(
    capacity: Floats, paths: Paths, flows: _Batch, now: float, until: float, tolerance: float
) -> tuple[Floats, Floats]:
    """(finish, bytes left) of each flow at `until`; finish is infinite for those not done."""
    table = without_implied(capacity, padded(paths, len(capacity)))
    folded = fold(capacity, table, (flows.left, flows.start, flows.caps))
    if folded is None:
        over, count = crossings(len(capacity), table), np.ones(paths.flows)
        return _Run(capacity, over, flows, count, tolerance).run(now, until)
    few = _Batch(flows.left[folded.one_of], flows.start[folded.one_of], flows.caps[folded.one_of])
    count = np.bincount(folded.class_of).astype(np.float64)
    finish, left = _Run(folded.capacity, folded.over, few, count, tolerance).run(now, until)
    return finish[folded.class_of], left[folded.class_of]


class _Run:
    """One event loop: rates, the next completions, again."""

    def __init__(self, capacity: Floats, over: Crossings, flows: _Batch, count: Floats, tolerance: float) -> None:
        self.capacity, self.all, self.flows, self.count = capacity, over, flows, count
        self.finish = np.full(over.flows, np.inf)
        self.slack = SLACK_OF_TOLERANCE * tolerance
        self.window_s = tolerance * self._least_makespan_s()

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

    def _step(self, rows: Ints, over: Crossings, now: float, horizon: float) -> tuple[float, np.ndarray]:
        """Advance to the next completions or to `horizon`; (the time reached, which of `rows` are done)."""
        rates = fill(self.capacity, over, self.flows.caps[rows], self.slack)
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
        done = ends <= min(first + self.window_s, horizon)
        weight = np.where(np.isinf(rates[done]), 1.0, rates[done]) * self.count[rows[done]]
        then = float(np.average(ends[done], weights=weight))
        self.finish[rows[done]] = ends[done]
        self.flows.left[rows] = np.where(done, 0.0, left - np.where(done, 0.0, rates) * (then - now))
        return max(then, now), done

    def _least_makespan_s(self) -> float:
        """No schedule of these bytes can be shorter than that of the busiest link."""
        load = np.zeros(self.all.links + 1)
        for place, row in enumerate(self.all.table):
            weight = 1.0 if self.all.weights is None else self.all.weights[place]
            load += np.bincount(row, weights=self.flows.left * weight, minlength=len(load))
        usable = self.capacity > 0
        return float((load[:-1][usable] / self.capacity[usable]).max(initial=0.0))
