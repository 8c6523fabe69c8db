"""Several collectives at once, which share links and slow each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulator.collectives.phases import Phase
from simulator.network.collective import PLAIN, PerMessage
from simulator.network.fabric import Fabric
from simulator.network.routing import Wires


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One collective (or transfer) of one group."""

    phases: tuple[Phase, ...]
    message_bytes: float
    over: Wires
    """Its own router, and the links of the one network that all jobs share."""
    start_s: float = 0.0
    per_message: PerMessage = PLAIN


def run_jobs(jobs: Sequence[Job]) -> list[float]:
    """When each job's last byte arrives. Exact sharing, phase by phase.

    A phase of equal rounds is one flow for each pair, of all rounds' bytes and with all rounds' latencies after it: a
    ring that repeats a pattern a thousand times does not stop and start a thousand times. What that leaves out is
    the idling of links within a round while others still wait, which only matters where rounds are as short as
    latencies.
    """
    fabric = Fabric(jobs[0].over.capacity_bytes_per_s) if jobs else Fabric(np.zeros(0))
    due = sorted(((job.start_s, number, 0) for number, job in enumerate(jobs)), reverse=True)
    owner: dict[int, tuple[int, float]] = {}
    open_: dict[int, list[float]] = {number: [] for number in range(len(jobs))}
    waiting = [0] * len(jobs)
    at_phase = [0] * len(jobs)
    finish = [job.start_s for job in jobs]
    while due or owner:
        starts_s = due[-1][0] if due else np.inf
        now = min(starts_s, fabric.next_completion_s())
        for end_s, flow in fabric.advance(now):
            number, latency_s = owner.pop(flow)
            open_[number].append(end_s + latency_s)
            waiting[number] -= 1
            if not waiting[number]:
                due.append((max(open_[number]), number, at_phase[number] + 1))
                due.sort(reverse=True)
        while due and due[-1][0] <= now:
            at_s, number, phase = due.pop()
            if phase == len(jobs[number].phases):
                finish[number] = at_s
                continue
            if not len(jobs[number].phases[phase].sources):
                due.append((at_s, number, phase + 1))
                continue
            at_phase[number], open_[number] = phase, []
            owner.update(_begin(fabric, jobs[number], phase, number))
            waiting[number] = len(jobs[number].phases[phase].sources)
    return finish


def _begin(fabric: Fabric, job: Job, phase: int, number: int) -> dict[int, tuple[int, float]]:
    """Start a phase's flows; (job, latency to come after its last byte) of each."""
    what = job.phases[phase]
    paths = job.over.router(what.sources, what.destinations, fabric.capacity_bytes_per_s)
    caps = np.full(paths.flows, job.per_message.cap_bytes_per_s)
    flows = fabric.add(paths, what.shares * job.message_bytes * what.repeats, caps)
    latency_s = (paths.sums(job.over.latency_s) + job.per_message.overhead_s) * what.repeats
    return {int(flow): (number, float(late)) for flow, late in zip(flows, latency_s, strict=True)}
