"""Flows from start to finish over links that they share fairly; links may change or fail on the way."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.network.detour import Reroute, around
from simulator.network.drain import Batch, Nearness, drain
from simulator.network.incidence import Floats, Paths, check_bytes, check_links

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
    near = Nearness(tolerance, tolerance * _least_makespan_s(capacity, paths, left, start))
    grouped = _grouped(start, STARTS_OF_TOLERANCE * near.window_s)
    shift, start = start - grouped, grouped
    finish = np.where(left > 0, np.inf, start)
    now = float(start.min(initial=np.inf)) if flows else 0.0
    paths = around(capacity, paths, np.isinf(finish), reroute)
    for change in [*sorted(changes, key=lambda c: c.at_s), None]:
        until = np.inf if change is None else change.at_s
        open_ = np.flatnonzero(np.isinf(finish))
        if len(open_) and until > now:
            part = Batch(left[open_], start[open_], caps[open_])
            finish[open_], left[open_] = drain(capacity, paths.take(open_), part, now, until, near)
            now = max(now, until)
        if change is not None:
            capacity[change.link] = change.capacity_bytes_per_s
            paths = around(capacity, paths, np.isinf(finish), reroute)
    return np.asarray(finish + shift + latency_s, dtype=np.float64)


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
