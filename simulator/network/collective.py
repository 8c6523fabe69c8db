"""The flows reading of a schedule: its rounds over real links, which it may share with others, and which may fail.

A round begins when the one before it has arrived everywhere. For rings that costs nothing (a ring moves at the pace
of its slowest link either way), for a pipeline of trees it forgoes the overlap; the closed form says by how much.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.collectives.phases import Phase, phases_of
from simulator.collectives.schedule import Schedule
from simulator.network.incidence import Floats, Ints
from simulator.network.routing import Wires
from simulator.network.simulate import LinkChange, simulate_flows


@dataclass(frozen=True, slots=True)
class PerMessage:
    """What software and NICs add to each message."""

    overhead_s: float = 0.0
    """Posting, proxy thread, completion: added to the latency of the links."""
    bytes: float = float("inf")
    """Size of the messages that a flow is cut into (its last may be smaller)."""
    messages_per_s: float = float("inf")
    """How many messages one flow's queue pair gets through: at most bytes x messages_per_s for the flow."""

    @property
    def cap_bytes_per_s(self) -> float:
        """The most one flow can move."""
        return float("inf") if np.isinf(self.messages_per_s) else self.bytes * self.messages_per_s


PLAIN = PerMessage()


def run_schedule(
    schedule: Schedule,
    message_bytes: float,
    over: Wires,
    *,
    per_message: PerMessage = PLAIN,
    changes: Sequence[LinkChange] = (),
    tolerance: float = 0.01,
) -> float:
    """Seconds from the start to the last arrival; the message as `collectives.volume` defines it."""
    return run_phases(
        phases_of(schedule), message_bytes, over, per_message=per_message, changes=changes, tolerance=tolerance
    )


def run_phases(
    phases: Sequence[Phase],
    message_bytes: float,
    over: Wires,
    *,
    per_message: PerMessage = PLAIN,
    changes: Sequence[LinkChange] = (),
    tolerance: float = 0.01,
) -> float:
    """The same for folded rounds. A round that repeats is simulated once for each state of the links."""
    clock = _Clock(over, per_message, sorted(changes, key=lambda change: change.at_s), tolerance)
    for phase in phases:
        left = phase.repeats
        while left:
            left -= clock.rounds(phase, message_bytes, left)
    return clock.now_s


def run_matrix(
    bytes_: Floats,
    over: Wires,
    *,
    per_message: PerMessage = PLAIN,
    changes: Sequence[LinkChange] = (),
    tolerance: float = 0.01,
) -> Floats:
    """All pairs at once, as an all_to_all with a byte matrix (expert routing) posts them.

    `bytes_[i, j]` goes from member i to j; the result, shape (n, n), is when it has arrived (0 on the diagonal and
    where there is nothing to send).
    """
    sources, destinations = np.nonzero(bytes_ * ~np.eye(len(bytes_), dtype=np.bool_))
    arrived = np.zeros(bytes_.shape)
    arrived[sources, destinations] = _arrivals(
        sources,
        destinations,
        bytes_[sources, destinations],
        over,
        over.capacity_bytes_per_s,
        per_message,
        changes,
        tolerance,
    )
    return arrived


def _arrivals(
    sources: Ints,
    destinations: Ints,
    bytes_: Floats,
    over: Wires,
    capacity: Floats,
    message: PerMessage,
    changes: Sequence[LinkChange],
    tolerance: float,
) -> Floats:
    paths = over.router(sources, destinations, capacity)
    return simulate_flows(
        capacity,
        paths,
        bytes_,
        latency_s=paths.sums(over.latency_s) + message.overhead_s,
        caps_bytes_per_s=np.full(len(bytes_), message.cap_bytes_per_s),
        tolerance=tolerance,
        changes=changes,
        reroute=lambda flows, now: over.router(sources[flows], destinations[flows], now),
    )


class _Clock:
    """Time and the state of the links so far."""

    def __init__(self, over: Wires, message: PerMessage, changes: Sequence[LinkChange], tolerance: float) -> None:
        self.over, self.message, self.tolerance = over, message, tolerance
        self.capacity = over.capacity_bytes_per_s.astype(np.float64)
        self.changes = list(changes)
        self.now_s = 0.0

    def rounds(self, phase: Phase, message_bytes: float, most: int) -> int:
        """Let as many equal rounds pass as the next change allows (at least the one it falls into)."""
        self._apply_due()
        round_s = self._round_s(phase, message_bytes, ())
        whole = most
        if self.changes and round_s > 0:
            whole = min(most, int((self.changes[0].at_s - self.now_s) // round_s))
        if whole:
            self.now_s += whole * round_s
            return whole
        later = [LinkChange(c.at_s - self.now_s, c.link, c.capacity_bytes_per_s) for c in self.changes]
        self.now_s += self._round_s(phase, message_bytes, later)
        return 1

    def _apply_due(self) -> None:
        while self.changes and self.changes[0].at_s <= self.now_s:
            change = self.changes.pop(0)
            self.capacity[change.link] = change.capacity_bytes_per_s

    def _round_s(self, phase: Phase, message_bytes: float, changes: Sequence[LinkChange]) -> float:
        arrivals = _arrivals(
            phase.sources,
            phase.destinations,
            phase.shares * message_bytes,
            self.over,
            self.capacity,
            self.message,
            changes,
            self.tolerance,
        )
        return float(arrivals.max(initial=0.0))
