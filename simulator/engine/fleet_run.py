"""The life of requests in a fleet: masters, prompts, pages, transfers, answers. Faults are in fleet_faults."""

from array import array
from collections.abc import Callable
from heapq import heappop, heappush
from math import nan

from simulator.engine.fleet_clients import Clients
from simulator.engine.fleet_events import At, Attempt, Event, Kind
from simulator.engine.fleet_lines import Lines, Move
from simulator.engine.fleet_replica import Unit
from simulator.engine.fleet_spec import Fleet
from simulator.engine.replica import StepRecord
from simulator.engine.step_time import Clock
from simulator.errors import StalledError
from simulator.serving.masters import Master
from simulator.serving.tiers import Tier
from simulator.workload.closed_loop import ClosedLoop
from simulator.workload.requests import Requests
from simulator.workload.streams import stream


class FleetRun:
    """One run of a workload. `loop` to the end; `token`, `route`, `to_transfer` ... are steps of a request's life."""

    def __init__(self, workload: Requests | ClosedLoop, fleet: Fleet, seed: int, *, log: bool) -> None:
        self.clients = Clients(workload, lambda number, at_s, follows: self.push(at_s, Kind.ARRIVAL, number, follows))
        self.requests = requests = self.clients.requests
        self.concurrency = self.clients.concurrency
        self.fleet, self.seed = fleet, seed
        self.count = n = len(requests)
        empty = array("d", [nan]) * n
        self.arrival, self.first, self.finish = array("d", empty), array("d", empty), array("d", empty)
        self.dispatched, self.prefilled, self.moved = array("d", empty), array("d", empty), array("d", empty)
        self.given, self.asked = array("q", requests.input_tokens.tolist()), array("q", requests.output_tokens.tolist())
        self._classes: list[int] | None = None if requests.priority is None else requests.priority.tolist()
        self.master_of, self.front_of, self.back_of = (array("i", [-1]) * n for _ in range(3))
        self.at = bytearray(n)
        self.answered: dict[int, int] = {}
        """Tokens that the client had when its request was lost."""
        self.retries: dict[int, int] = {}
        self.preempted: dict[int, int] = {}
        self.silent_since: dict[int, float] = {}
        self.recovering: dict[int, int] = {}
        """Lost request -> the outage that it has yet to get over."""
        self.granted: set[int] = set()  # requests whose decode replica has pages for them
        self.steps: list[StepRecord] | None = [] if log else None
        self.now, self.events, self.done, self.live = 0.0, 0, 0, 0
        self.heap: list[Event] = []
        self._made = 0
        self._turn = 0
        self._build(fleet)
        self.handlers: dict[int, Callable[[int, int], None]] = {
            Kind.BOUNDARY: self._boundary, Kind.BEGIN: self._begin, Kind.MOVED: self._moved,
            Kind.WIRED: lambda number, version: self.lines.wired(number, version, self.now),
            Kind.REFRESH: self._refresh, Kind.DISPATCHED: self._dispatched, Kind.ARRIVAL: self._arrival,
        }  # fmt: skip
        self.on_token: Callable[[int], None] = lambda _: None
        self.on_dead: Callable[[Unit], None] = lambda _: None

    def _build(self, fleet: Fleet) -> None:
        clocks: dict[int, Clock] = {}
        stores: dict[str, Tier] = {}
        self.units: list[Unit] = []
        for index, spec in enumerate(fleet.replicas):
            clock = clocks.setdefault(id(spec.step_time), Clock(spec.step_time))
            self.units.append(Unit(index, spec, clock, self.steps, stores))
        self.loads = [0] * len(self.units)
        self.lines = Lines(fleet, self._expect_move)
        self.masters = [
            Master(spec.name, spec.policy, len(self.units), fresh=spec.refresh_s == 0.0,
                   rng=stream(self.seed, f"master {spec.name}"))
            for spec in fleet.masters
        ]  # fmt: skip
        self.master_speed = [1.0] * len(self.masters)
        self.master_version = [0] * len(self.masters)
        self.known_masters = tuple(range(len(self.masters)))
        self.known_units = set(range(len(self.units)))
        self.unmastered: list[int] = []
        self.homeless: list[int] = []
        self.transfer = fleet.transfer
        self.reserve_first = self.transfer is not None and self.transfer.reserve == "before_prefill"
        self.first_token = self.transfer.first_token if self.transfer is not None else "prefill"
        self._begins = [False] * len(self.units)
        self.know()

    def know(self) -> None:
        """What the masters think is up has changed."""
        roles = [(index, self.units[index].spec.role) for index in sorted(self.known_units)]
        self.fronts = tuple(index for index, role in roles if role != "decode")
        self.backs = tuple(index for index, role in roles if role == "decode")

    def push(self, at_s: float, kind: Kind, who: int, version: int = 0, *, live: bool = True) -> None:
        """Something will happen. `live`: a run that has only other events left has stalled."""
        self._made += 1
        self.live += live
        heappush(self.heap, (at_s, kind * (1 << 48) + self._made, kind if live else kind + 100, who, version))

    # ---- the loop ---------------------------------------------------------------------------------------------

    def loop(self, after_event: Callable[[], None] | None) -> None:
        """Run to the end. Raises StalledError where requests remain that nothing will ever serve."""
        self.clients.begin()
        for index, spec in enumerate(self.fleet.masters):
            if spec.refresh_s:
                self.push(spec.refresh_s, Kind.REFRESH, index, live=False)
        heap, handlers = self.heap, self.handlers
        while self.done < self.count and self.live:
            self.now, _, kind, who, version = heappop(heap)
            if kind >= 100:
                kind -= 100
            else:
                self.live -= 1
            self.events += 1
            handlers[kind](who, version)
            if after_event is not None:
                after_event()
        if self.done < self.count:
            raise StalledError(
                where=f"{self.now:g} s", given=f"{self.count - self.done} requests",
                rule="wait for ever: no replica that is up has room for them",
            )  # fmt: skip

    def _arrival(self, number: int, follows: int) -> None:
        self.arrival[number] = self.now
        self.to_master(number)
        self.clients.came(follows)

    # ---- masters ----------------------------------------------------------------------------------------------

    def to_master(self, number: int) -> None:
        """A client (or whoever noticed a loss) hands a request to the next master."""
        masters = self.known_masters
        if not masters:
            self.unmastered.append(number)
            self.at[number] = At.HOMELESS
            return
        index = masters[self._turn % len(masters)]
        self._turn += 1
        self.master_of[number] = index
        most = self.fleet.masters[index].max_waiting
        if most and self.masters[index].waiting >= most:
            self.at[number] = At.REJECTED
            self._over(number)
            return
        self.at[number] = At.MASTER
        self.masters[index].arrive(number, self.class_of(number))
        self.attend(index)

    def attend(self, index: int) -> None:
        """A master goes on with its queue."""
        master, cost_s = self.masters[index], self.fleet.masters[index].dispatch_s
        while master.next() >= 0:
            if cost_s:
                self.push(
                    self.now + cost_s / self.master_speed[index], Kind.DISPATCHED, index, self.master_version[index]
                )
                return
            self.route(master.done(), index)

    def _dispatched(self, index: int, version: int) -> None:
        if version == self.master_version[index]:
            self.route(self.masters[index].done(), index)
            self.attend(index)

    def _refresh(self, index: int, _: int) -> None:
        self.masters[index].look(self.loads)
        self.push(self.now + self.fleet.masters[index].refresh_s, Kind.REFRESH, index, live=False)

    def _choose(self, number: int, among: tuple[int, ...]) -> int:
        if len(among) == 1 and not self.requests.prefixes:
            chosen = among[0]
        else:
            prefixes, sessions = self.requests.prefixes, self.requests.session
            hashes = prefixes[number] if prefixes else ()
            session = int(sessions[number]) if sessions is not None else hashes[0] if hashes else number
            chosen = self.masters[self.master_of[number]].choose(among, self.loads, hashes, session)
        self.loads[chosen] += 1
        return chosen

    def route(self, number: int, _: int) -> None:
        """A master has dispatched a request: to its replica, or to ask for pages where those come first."""
        tokens = self.given[number] + self.answered.get(number, 0)
        local = bool(self.backs) and tokens < self.fleet.local_below_tokens
        among = self.backs if local else self.fronts
        self.dispatched[number] = self.now
        if not among:
            self.homeless.append(number)
            self.at[number] = At.HOMELESS
            return
        self.front_of[number] = self._choose(number, among)
        if self.reserve_first and self._parks(number):
            self.want(number)
        else:
            self.deliver(number)

    def _parks(self, number: int) -> bool:
        """Its KV will move to a decode replica."""
        left = self.asked[number] - self.answered.get(number, 0)
        return self.units[self.front_of[number]].spec.role == "prefill" and left > 1

    def attempt(self, number: int, *, park: bool = False) -> Attempt:
        """What is left to do of a request."""
        answered = self.answered.get(number, 0) if self.answered else 0
        prefixes = self.requests.prefixes
        hashes = prefixes[number] if prefixes else ()
        left = 1 if park else self.asked[number] - answered
        return Attempt(number, self.given[number] + answered, left, hashes, park, self.class_of(number))

    def class_of(self, number: int) -> int:
        """A request's priority; lower ones go first."""
        return 0 if self._classes is None else self._classes[number]

    def deliver(self, number: int) -> None:
        """A request reaches the replica that computes its prompt; a dead one keeps it until that is noticed."""
        unit = self.units[self.front_of[number]]
        if not unit.up:
            self.at[number] = At.LOST
            unit.stranded.append(number)
            if unit.index not in self.known_units:
                self.on_dead(unit)
            return
        self.at[number] = At.REPLICA
        unit.inbox.append(self.attempt(number, park=self._parks(number)))
        self.wake(unit, urgent=False)

    # ---- replicas ---------------------------------------------------------------------------------------------

    def wake(self, unit: Unit, *, urgent: bool = True) -> None:
        """Something came for a replica: it looks at its next step boundary. `urgent`: even if all its queues are
        full."""
        if not unit.busy:
            if not self._begins[unit.index]:
                self._begins[unit.index] = True
                self.push(self.now, Kind.BEGIN, unit.index)
        elif (urgent or not unit.pressed) and unit.hasten(self.now):
            self.push(unit.end_s, Kind.BOUNDARY, unit.index, unit.version)

    def _begin(self, index: int, _: int) -> None:
        self._begins[index] = False
        unit = self.units[index]
        if not unit.up or unit.busy:
            return
        if unit.begin(self.now):
            self.push(unit.end_s, Kind.BOUNDARY, index, unit.version)
        for number, ago_s in unit.preempted:
            self.preempted[number] = self.preempted.get(number, 0) + 1
            if self.first[number] == self.first[number] and number not in self.silent_since:
                self.silent_since[number] = self.now - ago_s
        unit.preempted.clear()
        self.grant(unit)

    def _boundary(self, index: int, version: int) -> None:
        unit = self.units[index]
        if version != unit.version:
            return
        prefill = unit.spec.role == "prefill"
        outcomes = unit.boundary()
        for number in unit.first_tokens:
            self.token(number, unit)
        for rank, number in unit.resumed:
            unit.waited(rank, self.now - self.silent_since.pop(number, nan))
        unit.resumed.clear()
        for outcome in outcomes:
            for number in outcome.emitted:
                self.prefilled[number] = self.now
                if not prefill or self.first_token == "prefill" or not self._parks(number):
                    self.token(number, unit)
            for number in outcome.finished:
                if not prefill:
                    self._finished(number)
                elif self._parks(number):
                    self.to_transfer(number)
                else:
                    self._finished(number)
        if not self._begins[index]:
            if self.heap and self.heap[0][0] <= self.now:
                self.wake(unit)
            else:
                self._begin(index, 0)

    def token(self, number: int, unit: Unit) -> None:
        """A client gets the first token of an attempt."""
        if number in self.silent_since:
            unit.rows.append((1, 1, self.now - self.silent_since.pop(number), 0.0))
        elif self.first[number] != self.first[number]:
            self.first[number] = self.now
        if number in self.recovering:
            self.on_token(number)

    def _finished(self, number: int) -> None:
        self.finish[number] = self.now
        self.at[number] = At.FINISHED
        back = self.back_of[number]
        self.loads[back if back >= 0 else self.front_of[number]] -= 1
        self._over(number)

    def _over(self, number: int) -> None:
        """Answered or refused: its client goes on."""
        self.done += 1
        self.clients.answered(number, self.now)

    # ---- from prefill to decode -------------------------------------------------------------------------------

    def want(self, number: int) -> None:
        """Ask a decode replica for pages."""
        if not self.backs:
            self.homeless.append(number)
            self.at[number] = At.HOMELESS
            return
        back = self.back_of[number] = self._choose(number, self.backs)
        unit = self.units[back]
        self.at[number] = At.WANTS
        if unit.up:
            unit.ask(self.attempt(number))
            if not unit.full:
                self.grant(unit)
        else:
            unit.stranded.append(number)

    def grant(self, unit: Unit) -> None:
        """Give pages to those that wait for them, where there are some."""
        if not unit.wanting or unit.full or not unit.planned:
            return
        for wish, _ in unit.reserve(0 if self.first_token == "decode" else 1):
            self.granted.add(wish.number)
            if self.holds_kv(wish.number):
                self._move(wish.number)
            else:
                self.deliver(wish.number)

    def holds_kv(self, number: int) -> bool:
        """Its prompt has been computed and is parked."""
        front = self.units[self.front_of[number]]
        rank = front.where.get(number)
        return rank is not None and number in front.batchers[rank].parked

    def to_transfer(self, number: int) -> None:
        """A prompt is computed: its KV goes, or asks for pages first."""
        if number in self.granted:
            self._move(number)
        else:
            self.want(number)

    def _move(self, number: int) -> None:
        assert self.transfer is not None
        front, back = self.units[self.front_of[number]], self.units[self.back_of[number]]
        ready_s = front.start_s if self.reserve_first and self.prefilled[number] == self.now else self.now
        tokens = self.given[number] + self.answered.get(number, 0)
        move = Move(
            number, front.index, front.where[number], back.index, back.where[number],
            self.transfer.kv_bytes(tokens), ready_s, self.now,
        )  # fmt: skip
        self.lines.bytes_moved += move.bytes
        self.at[number] = At.MOVING
        self.lines.post(move, self.now)

    def _expect_move(self, move: Move, at_s: float, there: bool) -> None:
        self.push(at_s, Kind.MOVED if there else Kind.WIRED, move.number, move.version)

    def _moved(self, number: int, version: int) -> None:
        move = self.lines.arrived(number, version, self.now)
        if move is None:
            return
        front, back = self.units[move.source], self.units[move.target]
        for unit in (front, back):
            if self.lines.owed_s[unit.index] and unit.slow(self.lines.paid(unit.index)):
                self.push(unit.end_s, Kind.BOUNDARY, unit.index, unit.version)
        self.moved[number] = self.now
        self.granted.discard(number)
        self.loads[front.index] -= 1
        if front.let_go(number):
            self.wake(front)
        self.at[number] = At.DECODE
        since_s = {"prefill": self.prefilled[number], "transfer": self.now, "decode": nan}[self.first_token]
        if self.first_token == "transfer":
            self.token(number, back)
        back.joins.append((move.target_rank, number, since_s))
        self.wake(back)
