"""One replica under load: requests arrive, its batchers decide, steps take their time.

An event loop of its own, without SimPy: between two decisions nothing changes, so a decode phase is one event however
many tokens it emits. Data-parallel attention ranks are batchers that step together; a step takes its busiest rank's
time, in tokens, sequences and KV tokens each; with prompts, experts take the time of all ranks' tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan

import numpy as np
from numpy.typing import NDArray

from simulator.engine.front_end import Door, FrontEnd
from simulator.engine.gaps import Gaps, expand
from simulator.engine.step_time import Clock, StepTime
from simulator.engine.together import Together
from simulator.errors import StalledError, WorkloadError
from simulator.serving.batcher import Batcher, Outcome, Step
from simulator.serving.invariants import check_invariants
from simulator.workload.closed_loop import ClosedLoop
from simulator.workload.requests import Requests

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
StepRecord = tuple[int, float, float, int, int, int, int, int]
"""(rank, start s, seconds, steps, prompt tokens, decodes, waiting, pages in use)."""
STEP_COLUMNS = ("rank", "start_s", "time_s", "steps", "prompt_tokens", "decodes", "waiting", "pages")


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """What happened to each request, in order of arrival, and the log of steps."""

    arrival_s: Floats
    first_token_s: Floats
    finish_s: Floats
    input_tokens: Ints
    output_tokens: Ints
    preemptions: Ints
    concurrency: int
    """Clients of a closed loop; 0 for an open one."""
    itl_s: Floats
    """Times between tokens of one request, weighted by `itl_count`."""
    itl_count: Ints
    steps: tuple[StepRecord, ...]
    events: int
    """Turns of the event loop."""


def serve(
    workload: Requests | ClosedLoop, batchers: Sequence[Batcher], step_time: StepTime, *, check: bool = False,
    front: FrontEnd | None = None,
) -> Served:  # fmt: skip
    """Run a workload to its end. A new request goes to the batcher with the fewest in flight.

    `front`: what requests pass before a batcher sees them; None: nothing. `check`: all invariants after every event.
    Raises WorkloadError for a request that cannot run, StalledError where requests remain that no step serves.
    """
    return _Run(workload, tuple(batchers), Clock(step_time), check, front or FrontEnd()).run()


class _Run:
    def __init__(
        self, workload: Requests | ClosedLoop, batchers: tuple[Batcher, ...], clock: Clock, check: bool,
        front: FrontEnd,
    ) -> None:  # fmt: skip
        closed = isinstance(workload, ClosedLoop)
        if isinstance(workload, ClosedLoop) and workload.requests.after is not None:
            raise WorkloadError(
                where="closed loop", given="conversations", rule="one replica's loop does not follow answers",
                way_out="use simulator.engine.fleet.serve_fleet",
            )  # fmt: skip
        self.requests: Requests = workload.requests if isinstance(workload, ClosedLoop) else workload
        self.concurrency = workload.concurrency if isinstance(workload, ClosedLoop) else 0
        self.batchers, self.clock, self.check = batchers, clock, check
        self.together = Together(batchers)
        self.door = Door(front)
        self.cold_s = front.cold_s
        self.looked = 0.0
        """When the last step began: up to then a scheduler that plans ahead has looked for requests."""
        n = len(self.requests)
        self.arrival: list[float] = [nan] * n if closed else self.requests.arrival_s.tolist()
        self.given: list[int] = self.requests.input_tokens.tolist()
        self.asked: list[int] = self.requests.output_tokens.tolist()
        known = self.requests.priority
        self.classes: list[int] = [0] * n if known is None else known.tolist()
        self.first, self.finish = [nan] * n, [nan] * n
        self.preempted: dict[int, int] = {}
        self.silent_since: dict[int, float] = {}
        """Preempted requests that have emitted: time of their last token."""
        self.gaps = [Gaps() for _ in batchers]
        self.log: list[StepRecord] = []
        self.next = 0
        self.now = 0.0
        self.events = 0
        self.done = 0

    def run(self) -> Served:
        for _ in range(min(self.concurrency or len(self.given), len(self.given))):
            self._send()
        while True:
            self.events += 1
            self._admit()
            limit = self.together.before_plan()
            steps = [batcher.plan() for batcher in self.batchers]
            if all(step.idle for step in steps):
                if not self.door.coming:
                    break
                self.now = max(self.now, self.door.next_s())
                continue
            self._take(steps, limit)
            if self.check:
                for batcher in self.batchers:
                    check_invariants(batcher)
        if self.done < len(self.given):
            raise StalledError(
                where=f"{self.now:g} s", given=f"{len(self.given) - self.done} requests",
                rule="wait for ever: no batcher admits them",
            )  # fmt: skip
        return self._served()

    def _send(self) -> None:
        number = self.next
        self.next += 1
        if self.concurrency:
            self.arrival[number] = self.now
        self.door.send(number, self.arrival[number], self.given[number])

    def _admit(self) -> None:
        batchers, prefixes = self.batchers, self.requests.prefixes
        ahead = self.door.front.ahead and any(batcher.in_flight for batcher in batchers)
        for number in self.door.take(self.looked if ahead else self.now):
            target = batchers[0] if len(batchers) == 1 else min(batchers, key=lambda batcher: batcher.in_flight)
            hashes = prefixes[number] if prefixes else ()
            target.arrive(number, self.given[number], self.asked[number], hashes, priority=self.classes[number])

    # ---- steps ------------------------------------------------------------------------------------------------

    def _take(self, steps: list[Step], limit: int | None) -> None:
        for rank, step in enumerate(steps):
            for number in step.preempted:
                self._note_preemption(rank, number)
        busiest = steps[0] if len(steps) == 1 else _busiest(steps)
        if not busiest.plain:
            seconds = first = last = self.clock.chunks_s(busiest, _rank_tokens(steps)) + self.cold_s
            count, self.cold_s = 1, 0.0
        else:
            leap = busiest.leap if limit is None else max(1, min(busiest.leap, limit))
            count, seconds, first, last = self.clock.leap(
                busiest.decodes, busiest.decode_kv_tokens, leap, self._until_s(), busiest.tokens_per_step
            )
        self.together.ran(count)
        start, self.now = self.now, self.now + seconds
        self.looked = self.now - last
        for rank, (batcher, step) in enumerate(zip(self.batchers, steps, strict=True)):
            if step.idle:
                continue
            waiting_decodes = batcher.decodes
            outcome = batcher.complete(count)
            if step.decodes:
                self.gaps[rank].ran(step.decodes, count, first, last)
            elif waiting_decodes:
                self.gaps[rank].wait(waiting_decodes, seconds)
            new = sum(chunk[1] for chunk in step.chunks)
            self.log.append(
                (rank, start, seconds, count, new, step.decodes, len(batcher.waiting), batcher.blocks.used)
            )  # fmt: skip
            self._note(rank, outcome)

    def _until_s(self) -> float:
        """Seconds to the next request that a batcher could admit; where all have a queue, its head is what they need
        room for, and room only comes with a finish (or prompts wait for more of them)."""
        if not self.door.coming:
            return inf
        if all(batcher.waiting and not batcher.policy.wait_steps for batcher in self.batchers):
            return inf
        # One that came after the last look is found after one more step.
        return max(self.door.next_s() - self.now, 1e-12)

    def _note(self, rank: int, outcome: Outcome) -> None:
        for number in outcome.emitted:
            if number in self.silent_since:
                gap = self.now - self.silent_since.pop(number)
                self.gaps[rank].rows.append((1, 1, gap, 0.0))
            else:
                self.first[number] = self.now
        for number in outcome.resumed:
            self.gaps[rank].waits.append([1, self.now - self.silent_since.pop(number, nan)])
        for number in outcome.finished:
            self.finish[number] = self.now
            self.done += 1
            if self.concurrency and self.next < len(self.given):
                self._send()

    def _note_preemption(self, rank: int, number: int) -> None:
        self.preempted[number] = self.preempted.get(number, 0) + 1
        if self.first[number] == self.first[number] and number not in self.silent_since:
            self.silent_since[number] = self.now - self.gaps[rank].drop()

    def _served(self) -> Served:
        values, counts = expand([row for gaps in self.gaps for row in gaps.rows])
        preempted = np.zeros(len(self.given), dtype=np.int64)
        for number, times in self.preempted.items():
            preempted[number] = times
        return Served(
            np.array(self.arrival), np.array(self.first), np.array(self.finish), self.requests.input_tokens,
            self.requests.output_tokens, preempted, self.concurrency, values, counts, tuple(self.log), self.events,
        )  # fmt: skip


def _rank_tokens(steps: list[Step]) -> float:
    """New tokens of a rank on average; ranks without work have none."""
    return sum(step.decodes + sum(chunk[1] for chunk in step.chunks) for step in steps) / len(steps)


def _busiest(steps: list[Step]) -> Step:
    """The largest prompt work, decodes and KV tokens of any rank; leaps as far as all can."""
    chunks = max((step.chunks for step in steps), key=lambda chunks: sum(chunk[1] for chunk in chunks))
    decodes = max(step.decodes for step in steps)
    reads = max(step.decode_kv_tokens for step in steps if not step.idle)
    leap = min(step.leap for step in steps if not step.idle)
    fetch_s, swap_s = max(step.fetch_s for step in steps), max(step.swap_s for step in steps)
    resumed = max(step.resumed for step in steps)
    return Step(chunks, decodes, reads, leap, (), steps[0].tokens_per_step, fetch_s, swap_s, resumed)
