"""One replica of a fleet: ranks that step together, of which only those are touched where something changes.

The unit counts its steps; a rank remembers at which of them it was last planned and for how many the plan holds. A
step over 144 ranks costs as much as the ranks that have a decision to make.
"""

from collections import deque
from heapq import heappop, heappush
from math import inf

import numpy as np

from simulator.engine.fleet_events import Attempt
from simulator.engine.fleet_memory import memory_of, tokens_found
from simulator.engine.fleet_spec import ReplicaSpec
from simulator.engine.gaps import Gaps, Row
from simulator.engine.replica import StepRecord
from simulator.engine.step_time import Clock
from simulator.engine.together import Together
from simulator.serving.batcher import Batcher, Outcome
from simulator.serving.held import Step
from simulator.serving.tiers import Tier

_FAR = 1 << 62
IDLE = Step((), 0, 0, 1, ())


class Unit:
    """A replica that runs. The fleet's loop calls `boundary` at `end_s`, `begin` after all that happens at one time."""

    def __init__(
        self, index: int, spec: ReplicaSpec, clock: Clock, log: list[StepRecord] | None,
        stores: dict[str, Tier] | None = None,
    ) -> None:  # fmt: skip
        self.index, self.spec, self.log = index, spec, log
        self._stores = {} if stores is None else stores
        """Tiers that replicas share, by name."""
        self.batchers: list[Batcher] = []
        self.prefix_tokens = [0] * (2 + len(spec.kv_tiers))
        """Of caches that were lost: prompt tokens asked for, found on the GPU, in the first tier, ..."""
        self.clock = clock
        self.speed = self.next_speed = 1.0
        """Of the step in hand, and of those that begin later."""
        self.up = True
        self.start_s = self.end_s = 0.0
        self._late_s = 0.0
        """What the expert exchange of the steps in hand lost to KV on the same NICs."""
        self.stranded: list[int] = []
        """Requests that it lost, or that came when it was dead: taken over when that is noticed."""
        self.version = 0
        """Of the step in hand; an end of another version is void."""
        self.rows: list[Row] = []
        self.busy_s = 0.0
        self.preempted: list[tuple[int, float]] = []
        """(request, seconds since its last token) of those that the last `begin` preempted."""
        self.resumed: list[tuple[int, int]] = []
        """(rank, request) of those whose KV came back from host memory with the last steps."""
        self._reset()

    def _reset(self) -> None:
        spec, ranks = self.spec, range(self.spec.ranks)
        self.prefix_tokens = self.counted()
        self.batchers = [Batcher(spec.policy, memory_of(spec, self._stores)) for _ in ranks]
        self._together = Together(self.batchers) if spec.policy.together_steps and spec.ranks > 1 else None
        self._limit: int | None = None
        """Steps until a rank's wait for the others' prompts is over."""
        self.gaps = [Gaps() for _ in ranks]
        for gaps in self.gaps:
            gaps.rows = self.rows
        self.busy = False
        self.planned = True
        """Every rank has a plan: pages may be reserved."""
        self.steps = 0
        self.inbox: deque[Attempt] = deque()
        self.joins: list[tuple[int, int, float]] = []
        """(rank, request, when its last token came; not a number: it has none)."""
        self.wanting: deque[Attempt] = deque()
        """Requests that ask for pages, in order."""
        self.full = False
        """Nobody has been freed since the first of `wanting` was refused."""
        self.where: dict[int, int] = {}
        """Request -> rank, of all that the ranks hold."""
        self._touched: set[int] = set(ranks)
        self._plan: list[Step] = [IDLE for _ in ranks]
        self._at = [0 for _ in ranks]
        self._due = [_FAR for _ in ranks]
        self._heap: list[tuple[int, int]] = []
        self._chunking: set[int] = set()
        self._waited: set[int] = set()
        self._load = np.zeros(spec.ranks, dtype=np.int64)
        self._queue = [False for _ in ranks]
        self._queues = 0
        self._decodes = np.zeros(spec.ranks, dtype=np.int64)
        self._base = np.zeros(spec.ranks)
        """KV tokens of a rank's decodes, less what they gained since step 0."""
        self._total = 0
        self._fresh: list[tuple[int, int]] = []
        self.first_tokens: list[int] = []
        """Requests whose first token came with the last decode step."""

    def counted(self) -> list[int]:
        """Prompt tokens asked for, found on the GPU, in the first tier, ... from the start."""
        return tokens_found(self.prefix_tokens, self.batchers)

    # ---- what comes -------------------------------------------------------------------------------------------

    @property
    def pressed(self) -> bool:
        """All ranks have a queue: a new prompt changes nothing before something finishes."""
        return self._queues == len(self.batchers) and not self.spec.policy.wait_steps

    def reserve(self, emitted: int) -> list[tuple[Attempt, int]]:
        """Give pages to those that want them, in order; (request, rank) of those that got them."""
        granted: list[tuple[Attempt, int]] = []
        while self.wanting and self.planned and not self.full:
            wish = self.wanting[0]
            rank = self._place(wish, emitted)
            if rank < 0:
                self.full = True
                break
            self.wanting.popleft()
            self.where[wish.number] = rank
            self._load[rank] += 1
            granted.append((wish, rank))
        return granted

    def _place(self, wish: Attempt, emitted: int) -> int:
        """The least loaded rank that has room; -1: none."""

        def room(rank: int) -> bool:
            return self.batchers[rank].reserve(
                wish.number, wish.input_tokens, wish.output_tokens, emitted=emitted, priority=wish.priority
            )

        best = int(self._load.argmin()) if len(self.batchers) > 1 else 0
        if room(best):
            return best
        others = np.argsort(self._load, kind="stable").tolist() if len(self.batchers) > 1 else []
        return next((rank for rank in others if rank != best and room(rank)), -1)

    def ask(self, wish: Attempt) -> None:
        """A request asks for pages, behind those of its class and of lower ones."""
        wanting = self.wanting
        if not wanting or wanting[-1].priority <= wish.priority:
            wanting.append(wish)
        else:
            wanting.insert(sum(other.priority <= wish.priority for other in wanting), wish)
            self.full = False

    def let_go(self, number: int) -> bool:
        """A parked request's KV has been fetched; True: somebody waits for its pages."""
        rank = self.where.pop(number)
        batcher = self.batchers[rank]
        batcher.let_go(number)
        if batcher.waiting or batcher.unseen:
            self._touched.add(rank)
            return True
        return False

    def forget(self, number: int) -> None:
        """A reserved request will not come."""
        rank = self.where.pop(number)
        self.batchers[rank].forget(number)
        self._load[rank] -= 1
        self.full = False
        self._touched.add(rank)

    def hasten(self, now: float) -> bool:
        """Something waits for the next step boundary: end a leap there. True: its end moved."""
        if not self.busy or self._chunking or self._count <= 1:
            return False
        count, seconds, first, last = self.clock.leap(
            self._busiest[0], self._busiest[1], self._count, max(self._ran_s(now), 1e-12), self._gain
        )
        if count >= self._count:
            return False
        self._set(count, seconds, first, last)
        return True

    def waited(self, rank: int, seconds: float) -> None:
        """A sequence of this rank decodes again, so long after its last token."""
        self.gaps[rank].waits.append([1, seconds])
        self._waited.add(rank)

    def slow(self, seconds: float) -> bool:
        """The steps in hand end so much later, each by an equal part. True: there are some."""
        if self.busy:
            self._late_s += seconds
            self._set(*self._steps)
        return self.busy

    def _ran_s(self, now: float) -> float:
        """How much of the steps in hand has passed, in seconds of undisturbed steps."""
        return (now - self.start_s - self._late_s) * self.speed

    # ---- steps ------------------------------------------------------------------------------------------------

    def boundary(self) -> list[Outcome]:
        """The step in hand is done; who emitted and finished, rank by rank."""
        self.busy = self.planned = False
        self.version += 1
        self._record(self._count, self._first, self._last)
        self.steps += self._count
        if self._together is not None:
            self._together.ran(self._count)
        self.first_tokens = []
        if self._fresh:
            self.first_tokens = [number for rank, number in self._fresh if self._plan[rank].decodes]
            self._fresh = [(rank, number) for rank, number in self._fresh if not self._plan[rank].decodes]
        due: list[int] = []
        heap = self._heap
        while heap and heap[0][0] <= self.steps:
            step, rank = heappop(heap)
            if self._due[rank] == step:
                due.append(rank)
                self._due[rank] = _FAR
        due.sort()
        outcomes = []
        for rank in due:
            outcome = self._settle(rank)
            self._touched.add(rank)
            self.resumed += [(rank, number) for number in outcome.resumed]
            if outcome.finished:
                self.full = False
                for number in outcome.finished:
                    if number not in self.batchers[rank].parked:
                        del self.where[number]
                self._load[rank] -= len(outcome.finished)
            outcomes.append(outcome)
        return outcomes

    def _settle(self, rank: int) -> Outcome:
        """The rank's steps since its plan ran."""
        ran = self.steps - self._at[rank]
        self._at[rank] = self.steps
        if not ran or self._plan[rank].idle:
            return Outcome((), ())
        return self.batchers[rank].complete(ran)

    def begin(self, now: float) -> bool:
        """Plan what changed and start the next step; False: nothing to run."""
        for attempt in self.inbox:
            rank = int(self._load.argmin()) if len(self.batchers) > 1 else 0
            self._touch(rank)
            self.batchers[rank].arrive(
                attempt.number,
                attempt.input_tokens,
                attempt.output_tokens,
                attempt.hashes,
                park=attempt.park,
                priority=attempt.priority,
            )
            self.where[attempt.number] = rank
            self._load[rank] += 1
        self.inbox.clear()
        for rank, number, since_s in self.joins:
            self._touch(rank)
            self.batchers[rank].join(number)
            self.waited(rank, now - since_s)
            if since_s != since_s:
                self._fresh.append((rank, number))
        self.joins.clear()
        if self._together is not None:  # what one rank may do depends on all
            for rank in range(len(self.batchers)):
                self._touch(rank)
            self._limit = self._together.before_plan()
        for rank in sorted(self._touched) if len(self._touched) > 1 else self._touched:
            self._replan(rank)
        self._touched.clear()
        self.planned = True
        return self._start(now)

    def _touch(self, rank: int) -> None:
        """Bring a rank up to now before something joins it."""
        self._settle(rank)
        self._touched.add(rank)

    def _replan(self, rank: int) -> None:
        self._settle(rank)
        batcher = self.batchers[rank]
        step = batcher.plan()
        for number in step.preempted:
            self.preempted.append((number, self.gaps[rank].drop()))
            self.full = False
        self._plan[rank], self._at[rank] = step, self.steps
        queue = bool(batcher.waiting)
        if queue != self._queue[rank]:
            self.full = False
            self._queues += 1 if queue else -1
            self._queue[rank] = queue
        self._total += step.decodes - int(self._decodes[rank])
        self._decodes[rank] = step.decodes
        self._base[rank] = (
            step.decode_kv_tokens - step.decodes * step.tokens_per_step * self.steps if step.decodes else -inf
        )
        if not step.plain:
            self._chunking.add(rank)
        else:
            self._chunking.discard(rank)
        due = _FAR if step.idle else self.steps + step.leap
        if due != self._due[rank]:
            self._due[rank] = due
            if due != _FAR:
                heappush(self._heap, (due, rank))

    def _start(self, now: float) -> bool:
        plans = self._plan
        if len(plans) == 1:
            step = plans[0]
            if step.idle:
                return False
            decodes, reads, self._gain = step.decodes, step.decode_kv_tokens, step.tokens_per_step
        else:
            heap = self._heap
            while heap and self._due[heap[0][1]] != heap[0][0]:
                heappop(heap)
            if not heap:
                return False
            decodes = int(self._decodes.max())
            self._gain = plans[heap[0][1]].tokens_per_step
            reads = float((self._base + self._decodes * (self._gain * self.steps)).max()) if decodes else 0.0
        self.busy = True
        self.start_s, self.speed, self._late_s = now, self.next_speed, 0.0
        self._busiest = (decodes, reads)
        if self._chunking:
            chunks = max((plans[rank].chunks for rank in self._chunking), key=lambda c: sum(chunk[1] for chunk in c))
            moved = (
                max(plans[rank].fetch_s for rank in self._chunking),
                max(plans[rank].swap_s for rank in self._chunking),
            )
            new = sum(chunk[1] for rank in self._chunking for chunk in plans[rank].chunks)
            mean = (self._total + new) / len(plans)
            seconds = self.clock.chunks_s(Step(chunks, decodes, reads, 1, (), self._gain, *moved), mean)
            self._set(1, seconds, seconds, seconds)
            return True
        most = (plans[0].leap if len(plans) == 1 else self._heap[0][0] - self.steps) if not self._fresh else 1
        if self._limit is not None:
            most = max(1, min(most, self._limit))
        self._set(*self.clock.leap(decodes, reads, most, inf, self._gain))
        return True

    def _set(self, count: int, seconds: float, first: float, last: float) -> None:
        speed, late = self.speed, self._late_s / count
        self.version += 1
        self._steps = (count, seconds, first, last)
        self._count, self._first, self._last = count, first / speed + late, last / speed + late
        self.end_s = self.start_s + seconds / speed + self._late_s

    def _record(self, count: int, first: float, last: float) -> None:
        """Times between tokens of these steps, and the log's row."""
        seconds = self.end_s - self.start_s
        self.busy_s += seconds
        decodes = self._total
        for rank in self._chunking:
            if not self._plan[rank].decodes and self.batchers[rank].decodes:
                self.gaps[rank].wait(self.batchers[rank].decodes, seconds)
                self._waited.add(rank)
        if self._waited:
            for rank in [rank for rank in self._waited if self._plan[rank].decodes]:
                self.gaps[rank].ran(self._plan[rank].decodes, count, first, last)
                decodes -= self._plan[rank].decodes
                self._waited.discard(rank)
        if decodes:
            self.rows.append((decodes, count, first, last))
        if self.log is not None:
            new = sum(chunk[1] for rank in self._chunking for chunk in self._plan[rank].chunks)
            waiting = sum(len(batcher.waiting) for batcher in self.batchers) if self._queues else 0
            used = self.batchers[int(self._load.argmax())].blocks.used
            self.log.append((self.index, self.start_s, seconds, count, new, self._total, waiting, used))

    # ---- the end ----------------------------------------------------------------------------------------------

    def crash(self, now: float) -> dict[int, tuple[int, int]]:
        """All is lost. Request -> (tokens answered here, KV tokens lost) of everything that it held."""
        if self.busy:
            done = 0
            if not self._chunking:
                gone = max(self._ran_s(now), 1e-12)
                done, seconds, *_ = self.clock.leap(*self._busiest, self._count, gone, self._gain)
                done -= seconds > gone
            self.end_s = now
            if done:
                self._record(done, self._first, self._first)
            self.steps += done
            for rank in range(len(self.batchers)):
                self._settle(rank)
        lost: dict[int, tuple[int, int]] = {}
        for batcher in self.batchers:
            for held in (*batcher.unseen, *batcher.waiting, *batcher.running.values()):
                since = batcher.ticks - held.joined if held.joined >= 0 else 0
                kv = held.target + since if held.joined >= 0 else held.computed
                lost[held.id] = (min(held.emitted + since, held.output_tokens), kv)
            lost |= {held.id: (0, 0) for held in batcher.incoming.values()}
            lost |= {held.id: (held.emitted, held.target) for held in batcher.parked.values()}
        for attempt in (*self.inbox, *self.wanting):
            lost.setdefault(attempt.number, (0, 0))
        self.version += 1
        self._reset()
        return lost
