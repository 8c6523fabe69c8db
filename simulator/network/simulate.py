"""Flows from start to finish over links that they share fairly; links may change or fail on the way."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.errors import StalledError
from simulator.network.detour import Reroute, around
from simulator.network.fair import Crossings, crossings, fill
from simulator.network.fold import fold
from simulator.network.implied import without_implied
from simulator.network.incidence import Bools, Floats, Ints, Paths, check_bytes, check_links, padded

SLACK_OF_TOLERANCE = 0.5
"""Part of the tolerance that is spent on filling bottlenecks of nearly the same share together: halves the time of an
uneven all_to_all over 144 ranks; the error it adds does not show beside that of taking completions together."""
STARTS_OF_TOLERANCE = 0.1
"""Part of the tolerance within which starts are taken together; small, as flows started together slow each other."""


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

    A flow shares its links from `start_s` until its bytes have left, and arrives `latency_s` later. At a change,
    flows on a link that went down get new paths from `reroute`; without it, or where the new path is down too,
    StalledError names the flow and the link.

    Flows that end within `tolerance` of the makespan after the first of them are taken together, at the mean of their
    ends weighted by rate, so that bytes are conserved on the whole; flows that start within a tenth of that of each
    other likewise, at their mean start. 0 is exact, and the choice where flows are short against the makespan.
    """
    check_links(capacity_bytes_per_s, paths)
    check_bytes(bytes_)
    flows = paths.flows
    start = np.broadcast_to(np.asarray(start_s, dtype=np.float64), (flows,)).copy()
    caps = np.full(flows, np.inf) if caps_bytes_per_s is None else np.asarray(caps_bytes_per_s, dtype=np.float64)
    left = np.asarray(bytes_, dtype=np.float64).copy()
    capacity = capacity_bytes_per_s.astype(np.float64)
    near = _Nearness(tolerance, tolerance * _least_makespan_s(capacity, paths, left, start))
    grouped = _grouped(start, STARTS_OF_TOLERANCE * near.window_s)
    shift, start = start - grouped, grouped
    finish = np.where(left > 0, np.inf, start)
    now = float(start.min(initial=np.inf)) if flows else 0.0
    paths = around(capacity, paths, np.isinf(finish), reroute)
    for change in [*sorted(changes, key=lambda c: c.at_s), None]:
        until = np.inf if change is None else change.at_s
        open_ = np.flatnonzero(np.isinf(finish))
        if len(open_) and until > now:
            part = _Batch(left[open_], start[open_], caps[open_])
            finish[open_], left[open_] = _drain(capacity, paths.take(open_), part, now, until, near)
            now = max(now, until)
        if change is not None:
            capacity[change.link] = change.capacity_bytes_per_s
            paths = around(capacity, paths, np.isinf(finish), reroute)
    return np.asarray(finish + shift + latency_s, dtype=np.float64)


@dataclass(slots=True, eq=False)
class _Batch:
    """Flows being drained: bytes left, when each starts, and its cap."""

    left: Floats
    start: Floats
    caps: Floats


@dataclass(frozen=True, slots=True)
class _Nearness:
    """What is taken together: events this near in time, bottlenecks this near (relative) in share."""

    tolerance: float
    window_s: float

    @property
    def slack(self) -> float:
        return SLACK_OF_TOLERANCE * self.tolerance


def _least_makespan_s(capacity: Floats, paths: Paths, bytes_: Floats, start: Floats) -> float:
    """Nothing can be done sooner than the busiest link can, nor before the last start."""
    load = np.bincount(paths.links, weights=np.repeat(bytes_, paths.lengths()), minlength=len(capacity))
    usable = capacity > 0
    spread = float(start.max() - start.min()) if len(start) else 0.0
    return max(float((load[usable] / capacity[usable]).max(initial=0.0)), spread)


def _grouped(start: Floats, window_s: float) -> Floats:
    """Starts moved to the mean of those within `window_s` after the first of a group."""
    if window_s <= 0:
        return start
    _, group = np.unique(np.floor((start - start.min()) / window_s), return_inverse=True)
    means = np.bincount(group, weights=start) / np.bincount(group)
    return np.asarray(means[group], dtype=np.float64)


def _drain(
    capacity: Floats, paths: Paths, flows: _Batch, now: float, until: float, near: _Nearness
) -> tuple[Floats, Floats]:
    """(finish, bytes left) of each flow at `until`; finish is infinite for those not done."""
    table = without_implied(capacity, padded(paths, len(capacity)))
    folded = fold(capacity, table, (flows.left, flows.start, flows.caps))
    if folded is None:
        over, count = crossings(len(capacity), table), np.ones(paths.flows)
        return _Run(capacity, over, flows, count, near).run(now, until)
    few = _Batch(flows.left[folded.one_of], flows.start[folded.one_of], flows.caps[folded.one_of])
    count = np.bincount(folded.class_of).astype(np.float64)
    finish, left = _Run(folded.capacity, folded.over, few, count, near).run(now, until)
    return finish[folded.class_of], left[folded.class_of]


class _Run:
    """One event loop: rates, the next completions, again."""

    def __init__(self, capacity: Floats, over: Crossings, flows: _Batch, count: Floats, near: _Nearness) -> None:
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
