"""Max-min fair rates: nobody's rate can grow without shrinking that of somebody who has no more.

Bertsekas and Gallager, Data Networks, 2nd ed. 1992, section 6.5.2: progressive filling over the incidence of links
and flows. Two ways to walk it, which give the same rates:

- *local passes*: a link none of whose flows could be held back further by another link is final at its fair share,
  because shares of other links only grow while filling goes on. All such links are filled at once. A handful of
  passes settles sparse graphs of any size.
- *levels*: the link with the lowest share first, then the next. Dense patterns (an uneven all_to_all) have hardly any
  local bottleneck but the global one, and there each level costs only as much as the flows that it settles.
"""

import numpy as np

from simulator.network.crossings import Crossings, crossings
from simulator.network.incidence import Bools, Floats, Ints, Paths, Table, check_links, padded

EPSILON = 1e-12
"""Relative; shares that differ by less are taken as equal (rounding of float64 sums)."""
PRODUCTIVE = 0.1
"""A local pass that settles less than this part of the flows is the last one; the rest goes level by level."""


def max_min_rates(capacity_bytes_per_s: Floats, paths: Paths, caps_bytes_per_s: Floats | None = None) -> Floats:
    """The max-min fair rate of each flow, bytes/s, shape (flows,).

    `capacity_bytes_per_s` has shape (links,); `caps_bytes_per_s` (flows,) bounds a flow by itself (a NIC's message
    rate, a sender's pace). A flow that crosses no link gets its cap, infinity without one; one that crosses a link of
    no capacity gets 0.
    """
    check_links(capacity_bytes_per_s, paths)
    caps = np.full(paths.flows, np.inf) if caps_bytes_per_s is None else caps_bytes_per_s
    links = len(capacity_bytes_per_s)
    return fill(capacity_bytes_per_s, crossings(links, padded(paths, links)), caps)


def fill(capacity: Floats, over: Crossings, caps: Floats, slack: float = 0.0) -> Floats:
    """Rates of all flows; bottlenecks whose shares differ by less than `slack` (relative) are filled together.

    With slack the rates still never overfill a link, and each is within about `slack` of fair.
    """
    state = _Filling(capacity, over, slack)
    rows = np.arange(over.flows)
    table, weights = over.table, over.weights
    while len(rows):
        ready, level = state.local_pass(table, caps[rows])
        state.settle(rows[ready], table[:, ready], None if weights is None else weights[:, ready], level[ready])
        productive = ready.sum() >= PRODUCTIVE * len(rows)
        rows, table = rows[~ready], table[:, ~ready]
        weights = None if weights is None else weights[:, ~ready]
        if not productive:
            break
    if len(rows):
        state.by_levels(over, caps, rows)
    return state.rates


class _Filling:
    """Rates so far, and what is left of each link; the last entry of link arrays stands for padding."""

    def __init__(self, capacity: Floats, over: Crossings, slack: float) -> None:
        self.links = over.links
        self.width = 1.0 + max(slack, EPSILON)
        self.rates = np.zeros(over.flows)
        self.left = np.append(capacity, np.inf)
        self.load = self._sums(over.table, over.weights, None)
        self.share = np.full(over.links + 1, np.inf)
        self.seen_at = np.zeros(over.flows, dtype=np.int64)
        self._refresh(np.arange(over.links))

    def local_pass(self, table: Table, caps: Floats) -> tuple[Bools, Floats]:
        """Which of these flows are final, and the level of each."""
        shares = self.share[table]
        level = np.minimum(caps, shares.min(axis=0, initial=np.inf))
        held = np.zeros(self.links + 1, dtype=np.bool_)
        held[table[level * self.width < shares]] = True
        ready: Bools = (caps <= level) | ~held[table].all(axis=0)
        return ready, level

    def settle(self, flows: Ints, table: Table, weights: Floats | None, rates: Floats) -> None:
        """Give these flows their rates and take those off their links."""
        self.rates[flows] = rates
        self.left[: self.links] -= self._sums(table, weights, rates)[: self.links]
        self.load -= self._sums(table, weights, None)
        self._refresh(np.arange(self.links))

    def by_levels(self, over: Crossings, caps: Floats, rows: Ints) -> None:
        """Settle the flows `rows`, lowest fair share first."""
        waiting = np.zeros(over.flows, dtype=np.bool_)
        waiting[rows] = True
        by_cap = rows[np.argsort(caps[rows], kind="stable")]
        by_cap = by_cap[np.isfinite(caps[by_cap])]
        sorted_caps, next_cap, left = caps[by_cap], 0, len(rows)
        while left:
            lowest = float(self.share.min())
            last = int(np.searchsorted(sorted_caps, lowest, side="right"))
            flows = by_cap[next_cap:last]
            next_cap = max(last, next_cap)
            flows = flows[waiting[flows]]
            if not len(flows):
                flows = self._flows_of(over, np.flatnonzero(self.share <= lowest * self.width), waiting)
            if not len(flows):
                self.rates[waiting] = caps[waiting]
                return
            self._settle_few(over, flows, caps[flows])
            waiting[flows] = False
            left -= len(flows)

    def _flows_of(self, over: Crossings, links: Ints, waiting: Bools) -> Ints:
        parts = [over.flow_of[over.start[link] : over.start[link + 1]] for link in links.tolist() if link < self.links]
        if not parts:
            return np.zeros(0, dtype=np.int64)
        flows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        flows = flows[waiting[flows]]
        if len(parts) > 1:
            places = np.arange(len(flows))
            self.seen_at[flows] = places
            flows = flows[self.seen_at[flows] == places]
        return flows

    def _settle_few(self, over: Crossings, flows: Ints, level: Floats) -> None:
        table = over.table[:, flows]
        weights = None if over.weights is None else over.weights[:, flows]
        level = np.minimum(level, self.share[table].min(axis=0, initial=np.inf))
        if table.size > self.links:
            self.settle(flows, table, weights, level)
            return
        self.rates[flows] = level
        touched = table.ravel()
        if weights is None:
            np.subtract.at(self.left, touched, np.broadcast_to(level, table.shape).ravel())
            np.subtract.at(self.load, touched, 1.0)
        else:
            np.subtract.at(self.left, touched, (level * weights).ravel())
            np.subtract.at(self.load, touched, weights.ravel())
        self.left[self.links] = np.inf
        self._refresh(touched)

    def _refresh(self, links: Table | Ints) -> None:
        """Fair shares anew; a link with no flow left has none (loads are whole numbers, exact in float64)."""
        load = self.load[links]
        share = np.maximum(self.left[links], 0.0) / np.maximum(load, 0.5)
        share[load < 0.5] = np.inf
        self.share[links] = share
        self.share[self.links] = np.inf

    def _sums(self, table: Table, weights: Floats | None, rates: Floats | None) -> Floats:
        """Sum over the flows on each link of weight x rate."""
        if weights is not None:
            each = weights if rates is None else weights * rates
        else:
            each = np.broadcast_to(1.0 if rates is None else rates, table.shape)
        sums = np.bincount(table.ravel(), weights=each.ravel(), minlength=self.links + 1)
        return np.asarray(sums, dtype=np.float64)
