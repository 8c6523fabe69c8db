"""`serve_fleet`: many replicas, prefill and decode apart, several masters, faults; one event loop.

The single replica of `simulator.engine.replica.serve` is the special case of one mixed replica behind one master of no
cost, and a test holds the two equal.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from simulator.engine.fleet_check import check_fleet, reject_unservable
from simulator.engine.fleet_events import At
from simulator.engine.fleet_faults import Faults, Outage
from simulator.engine.fleet_run import FleetRun
from simulator.engine.fleet_spec import Fleet
from simulator.engine.gaps import expand
from simulator.engine.replica import Served
from simulator.workload.closed_loop import ClosedLoop
from simulator.workload.requests import Requests

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class FleetServed(Served):
    """A run of a fleet: as of one replica, and where each request went. All columns hold answered requests only, in
    order of number; the log's rank is the replica's index, its pages those of the replica's most loaded rank."""

    number: Ints
    """Of the request in the workload; refused ones are left out."""
    rejected: Ints
    """Requests that a master with a full queue refused."""
    dispatched_s: Floats
    """When its master passed it on (the last time)."""
    prefilled_s: Floats
    """When its prompt was computed (the last time)."""
    moved_s: Floats
    """When its KV had come to the decode replica; not a number where it never moved."""
    master: Ints
    front: Ints
    """Index of the replica that computed its prompt."""
    back: Ints
    """Index of its decode replica; -1: its prompt was computed there, or it had no more than one token."""
    retries: Ints
    kv_bytes_moved: float
    busy_s: Floats
    """Time in steps, per replica."""
    down_s: Floats
    """Time dead, per replica."""
    master_dispatched: Ints
    master_longest: Ints
    """Most requests that a master held at a time."""
    outages: tuple[Outage, ...]
    prefix_tokens: tuple[tuple[int, ...], ...]
    """Per replica: prompt tokens that its prefix caches were asked for, found on the GPU, in the first tier, ..."""


def serve_fleet(
    workload: Requests | ClosedLoop, fleet: Fleet, *, seed: int = 0, check: bool = False, log: bool = True
) -> FleetServed:
    """Run a workload to its end on a fleet. Same seed, same events.

    `check`: all invariants (F1 ... of docs/fleet.md, S1 ... of docs/serving.md) after every event. `log`: keep the step
    records (a long run has millions). Raises WorkloadError for a request that no replica could ever hold, StalledError
    where requests remain that nothing will serve.
    """
    run = FleetRun(workload, fleet, seed, log=log)
    reject_unservable(run)
    faults = Faults(run)
    run.loop(partial(check_fleet, run) if check else None)
    return _served(run, faults)


def _served(run: FleetRun, faults: Faults) -> FleetServed:
    states = np.frombuffer(run.at, dtype=np.uint8)
    here = np.flatnonzero(states == At.FINISHED)
    values, counts = expand([row for unit in run.units for row in unit.rows])

    def column(values: object) -> Floats:
        return np.array(values, dtype=np.float64)[here]

    def whole(values: object) -> Ints:
        return np.array(values, dtype=np.int64)[here]

    def counted(known: dict[int, int]) -> Ints:
        found = np.zeros(run.count, dtype=np.int64)
        for number, times in known.items():
            found[number] = times
        return found[here]

    down = [
        total + (run.now - since if since == since and not unit.up else 0.0)
        for unit, total, since in zip(run.units, faults.down_s, faults.down_since, strict=True)
    ]
    return FleetServed(
        column(run.arrival), column(run.first), column(run.finish), run.requests.input_tokens[here],
        run.requests.output_tokens[here], counted(run.preempted), run.concurrency, values, counts,
        tuple(run.steps or ()), run.events,
        number=here, rejected=np.flatnonzero(states == At.REJECTED), dispatched_s=column(run.dispatched),
        prefilled_s=column(run.prefilled), moved_s=column(run.moved), master=whole(run.master_of),
        front=whole(run.front_of), back=whole(run.back_of), retries=counted(run.retries),
        kv_bytes_moved=run.lines.bytes_moved, busy_s=np.array([unit.busy_s for unit in run.units]),
        down_s=np.array(down), master_dispatched=np.array([master.dispatched for master in run.masters]),
        master_longest=np.array([master.longest for master in run.masters]), outages=tuple(faults.outages),
        prefix_tokens=tuple(tuple(unit.counted()) for unit in run.units),
    )  # fmt: skip
