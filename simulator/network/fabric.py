"""Flows that come and go while somebody else keeps the clock: the fluid network for an event-driven engine.

Exact (no tolerance). Between two calls nothing happens but bytes moving at the present rates, so an engine needs one
timer, at `next_completion_s`, and sets it anew after each change.
"""

from dataclasses import dataclass, field

import numpy as np

from simulator.errors import StalledError
from simulator.network.detour import Reroute, around
from simulator.network.fair import max_min_rates
from simulator.network.incidence import Bools, Floats, Ints, Paths, check_bytes, check_links, joined

NOTHING_LEFT = 1e-9
"""Relative to a flow's size: fewer bytes left than this is done (rounding of time x rate)."""


@dataclass(slots=True, eq=False)
class Fabric:
    """Links and the flows on them now. Times never go back; all arrays of flows are in order of their numbers."""

    capacity_bytes_per_s: Floats
    now_s: float = 0.0
    reroute: Reroute | None = None
    _next: int = 0
    _ids: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    _paths: Paths = field(default_factory=lambda: Paths(np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int64)))
    _size: Floats = field(default_factory=lambda: np.zeros(0))
    _left: Floats = field(default_factory=lambda: np.zeros(0))
    _caps: Floats = field(default_factory=lambda: np.zeros(0))
    _rates: Floats | None = None

    def __post_init__(self) -> None:
        self.capacity_bytes_per_s = np.array(self.capacity_bytes_per_s, dtype=np.float64)
        check_links(self.capacity_bytes_per_s, self._paths)

    @property
    def flows(self) -> Ints:
        """Numbers of the flows under way."""
        return self._ids

    def add(self, paths: Paths, bytes_: Floats, caps_bytes_per_s: Floats | None = None) -> Ints:
        """Start flows now; their numbers, shape (flows,). They share links from now until their bytes have left."""
        check_links(self.capacity_bytes_per_s, paths)
        check_bytes(bytes_)
        ids = np.arange(self._next, self._next + paths.flows)
        self._next += paths.flows
        caps = np.full(paths.flows, np.inf) if caps_bytes_per_s is None else caps_bytes_per_s
        self._ids = np.concatenate([self._ids, ids])
        self._paths = joined([self._paths, paths])
        self._size = np.concatenate([self._size, np.asarray(bytes_, dtype=np.float64)])
        self._left = np.concatenate([self._left, np.asarray(bytes_, dtype=np.float64)])
        self._caps = np.concatenate([self._caps, caps])
        self._detour()
        return ids

    def remove(self, flows: Ints) -> None:
        """Give up flows that are under way."""
        self._keep(~np.isin(self._ids, flows))

    def set_capacity(self, link: int, capacity_bytes_per_s: float) -> None:
        """From now on a link has this capacity; 0: it is down, and flows on it are re-routed or StalledError raised."""
        self.capacity_bytes_per_s[link] = capacity_bytes_per_s
        check_links(self.capacity_bytes_per_s, self._paths)
        self._detour()

    def rates_bytes_per_s(self) -> Floats:
        """Present rate of each flow under way, as in `flows`."""
        if self._rates is None:
            used, renumbered = np.unique(self._paths.links, return_inverse=True)
            few = Paths(self._paths.indptr, renumbered)
            self._rates = max_min_rates(self.capacity_bytes_per_s[used], few, self._caps)
        return self._rates

    def next_completion_s(self) -> float:
        """When the next flow has sent its last byte if nothing else changes; infinite with no flow."""
        return float(self._ends().min(initial=np.inf))

    def advance(self, to_s: float) -> list[tuple[float, int]]:
        """Let time pass; (end, flow) of each flow that sent its last byte until then, in order."""
        if to_s < self.now_s:
            raise StalledError(given=f"{to_s} s", rule=f"it is {self.now_s} s already: time does not go back")
        done: list[tuple[float, int]] = []
        while len(self._ids):
            ends = self._ends()
            first = float(ends.min())
            if first > to_s:
                break
            self._pass(first)
            over = (ends <= first) | (self._left <= NOTHING_LEFT * self._size)
            done.extend((first, int(flow)) for flow in self._ids[over])
            self._keep(~over)
            if first >= to_s:
                break
        self._pass(to_s)
        return done

    def _ends(self) -> Floats:
        rates = self.rates_bytes_per_s()
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = np.where(self._left > 0, self._left / rates, 0.0)
        return self.now_s + ends

    def _pass(self, to_s: float) -> None:
        if len(self._ids) and to_s > self.now_s:
            self._left = np.maximum(self._left - self.rates_bytes_per_s() * (to_s - self.now_s), 0.0)
        self.now_s = to_s

    def _keep(self, stays: Bools) -> None:
        self._paths = self._paths.take(np.flatnonzero(stays))
        self._ids, self._size = self._ids[stays], self._size[stays]
        self._left, self._caps = self._left[stays], self._caps[stays]
        self._rates = None

    def _detour(self) -> None:
        ids = self._ids
        again = self.reroute
        by_number: Reroute | None = None if again is None else (lambda rows, capacity: again(ids[rows], capacity))
        self._paths = around(self.capacity_bytes_per_s, self._paths, np.ones(len(ids), dtype=np.bool_), by_number)
        self._rates = None
