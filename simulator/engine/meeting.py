"""A collective in progress: ranks arrive, and when all are there it takes its time, at once or round by round."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any, Literal

import simpy

from simulator.collectives.schedule import Schedule, Transfer, per_rank
from simulator.cost.collective import StepwiseParameters
from simulator.engine.communicator import Communicator
from simulator.engine.flows import FlowNetwork
from simulator.engine.links import Links
from simulator.numeric.exchange import adder, bring, exchange, sizes_of, take
from simulator.numeric.rounding import Rounder
from simulator.program.ops import Collective

Steps = Generator[simpy.Event, Any, None]
Mode = Literal["stepwise", "flow", "closed_form"]


class Meeting:
    """One instance of a collective over one group. `place` is a rank's place in the group."""

    def __init__(self, env: simpy.Environment, op: Collective, group: tuple[int, ...], gpus: tuple[int, ...]) -> None:
        self.env, self.op, self.group, self.gpus = env, op, group, gpus
        self.done = env.event()
        self.arrived: dict[int, Any] = {}
        """Place -> the value it brings (None where no numbers run)."""
        self.twin: Collective | None = None
        self.round_: Rounder | None = None
        self.sizes: tuple[int, ...] | None = None
        self.outputs: list[Any] = [None] * len(group)
        self.gathered: tuple[int, ...] | None = None

    @property
    def missing(self) -> tuple[int, ...]:
        """Members that have not come."""
        return tuple(rank for place, rank in enumerate(self.group) if place not in self.arrived)

    def run(self, comm: Communicator, links: Links, mode: Mode, flows: FlowNetwork | None = None) -> None:
        """Starts the collective now; `done` fires at its end."""
        if mode == "stepwise":
            schedule = comm.schedule(self.op, self.gpus)
            self.env.process(_Stepwise(self, schedule, comm, links, steps_of(self, schedule, comm, links)).run())
            return
        if self.twin is not None and self.round_ is not None:
            values = [self.arrived[place] for place in range(len(self.group))]
            schedule = comm.schedule(self.op, self.gpus)
            self.outputs, self.gathered = exchange(self.twin, schedule, values, self.sizes, self.round_)
        if flows is not None:
            self.env.process(self._flow(comm, flows))
            return
        comm.note_closed(self.op, self.gpus)
        timeout = self.env.timeout(comm.price(self.op, self.gpus).time_s)
        timeout.callbacks.append(self._finish)

    def _flow(self, comm: Communicator, flows: FlowNetwork) -> Steps:
        """All of the algorithm's bytes at once, after what the closed form spends off the wires.

        Where the library uses more than the routes' links carry, the bytes shrink to the closed form's time.
        """
        pairs, paths, sizes = comm.flow_table(self.op, self.gpus)
        total = comm.price(self.op, self.gpus).time_s
        wire_s = comm.busiest_link_s(paths, sizes)
        shrink = min(1.0, total / wire_s) if wire_s else 1.0
        yield self.env.timeout(max(0.0, total - wire_s * shrink))
        if paths:
            yield flows.start(pairs, paths, [size * shrink for size in sizes], self.op.name)
        self.done.succeed()

    def _finish(self, _event: simpy.Event) -> None:
        self.done.succeed()


def steps_of(meeting: Meeting, schedule: Schedule, comm: Communicator, links: Links) -> StepwiseParameters:
    """Per-round parameters with which this schedule, alone on idle links, takes exactly the closed form's time.

    A library cuts messages finer than the schedule does and runs more channels, so trees, in-switch reduction and
    exchanges across nodes wait less for their rounds than the schedule alone would say. What its rounds take on idle
    links is found by running them once without numbers; it is proportional to steps and bytes, so one factor on both
    closes the gap. Kept for each collective and group.
    """
    op, gpus = meeting.op, meeting.gpus
    key = (op.kind, op.bytes, op.dtype, op.exchange, op.share, op.back, gpus)
    found = comm.calibrated.get(key)
    if found is None:
        raw, total_s = comm.steps(op, gpus), comm.price(op, gpus).time_s
        rounds_s = _idle_rounds_s(meeting, schedule, comm, links, raw)
        found = comm.calibrated[key] = _fitted(raw, rounds_s, total_s)
    return found


def _idle_rounds_s(
    meeting: Meeting, schedule: Schedule, comm: Communicator, links: Links, steps: StepwiseParameters
) -> float:
    env = simpy.Environment()
    alone = Meeting(env, meeting.op, meeting.group, meeting.gpus)
    env.process(_Stepwise(alone, schedule, comm, links.idle(), replace(steps, launch_s=0.0)).run())
    env.run(alone.done)
    return float(env.now)


_LEAST_FACTOR = 1.0 / 64.0
"""Rounds keep at least this part of their time where the closed form is nearly all launch."""


def _fitted(raw: StepwiseParameters, rounds_s: float, total_s: float) -> StepwiseParameters:
    if rounds_s <= 0.0:
        return replace(raw, launch_s=total_s)
    factor = min(1.0, max((total_s - raw.launch_s) / rounds_s, _LEAST_FACTOR), total_s / rounds_s)
    return StepwiseParameters(
        launch_s=max(0.0, total_s - factor * rounds_s),
        intra_step_s=raw.intra_step_s * factor,
        inter_step_s=raw.inter_step_s * factor,
        intra_efficiency=raw.intra_efficiency / factor,
        inter_efficiency=raw.inter_efficiency / factor,
    )


class _Box:
    """Messages of one round for one vertex."""

    __slots__ = ("arrivals", "needed", "wanted")

    def __init__(self, needed: int) -> None:
        self.needed = needed
        self.arrivals: list[tuple[Transfer, Any]] = []
        self.wanted: simpy.Event | None = None


class _Stepwise:
    """Every vertex of the schedule is a process: it sends, waits for what it is sent, and adds."""

    def __init__(
        self, meeting: Meeting, schedule: Schedule, comm: Communicator, links: Links, steps: StepwiseParameters
    ) -> None:
        self.meeting, self.schedule, self.comm, self.links, self.steps = meeting, schedule, comm, links, steps
        self.table = per_rank(schedule)
        self.boxes: dict[tuple[int, int], _Box] = {}
        self.held: list[dict[int, Any]] = [{} for _ in range(schedule.vertices)]
        self.numbers = meeting.twin is not None
        moves = [transfer.chunk for transfers in schedule.rounds for transfer in transfers]
        self.posted = meeting.op.kind == "all_to_all" and len(set(moves)) == len(moves)
        """No message waits for another: each chunk goes from its owner to its reader."""
        if schedule.ranks > 2:
            comm.find_paths(meeting.gpus, {(t.source, t.destination) for r in schedule.rounds for t in r})
        self.add = adder(meeting.round_) if meeting.round_ is not None else None

    def run(self) -> Steps:
        meeting = self.meeting
        if meeting.twin is not None:
            for place, value in meeting.arrived.items():
                self.held[place] = bring(meeting.twin, self.schedule, place, value, meeting.sizes)
        yield meeting.env.timeout(self.steps.launch_s)
        if self.posted:
            self._post()
        vertices = [meeting.env.process(self._vertex(v)) for v in range(self.schedule.vertices)]
        yield meeting.env.all_of(vertices)
        if meeting.twin is not None:
            for place, value in meeting.arrived.items():
                meeting.outputs[place] = take(meeting.twin, self.schedule, place, self.held[place], value)
            meeting.gathered = sizes_of(meeting.twin, self.schedule, self.held[0])
        meeting.done.succeed()

    def _vertex(self, vertex: int) -> Steps:
        env = self.meeting.env
        for number, (sends, receives) in enumerate(self.table[vertex]):
            for transfer in sends if not self.posted else ():
                self._send(number, transfer, env.now)
            if not receives:
                continue
            box = self._box(vertex, number, len(receives))
            if len(box.arrivals) < box.needed:
                box.wanted = env.event()
                yield box.wanted
            self._merge(vertex, box)
            del self.boxes[vertex, number]

    def _post(self) -> None:
        """Every message at once, round by round: grouped sends wait for their links and for nothing else."""
        for number, transfers in enumerate(self.schedule.rounds):
            for transfer in transfers:
                self._send(number, transfer, self.meeting.env.now)

    def _box(self, vertex: int, number: int, needed: int) -> _Box:
        box = self.boxes.get((vertex, number))
        if box is None:
            box = self.boxes[vertex, number] = _Box(needed)
        return box

    def _send(self, number: int, transfer: Transfer, now_s: float) -> None:
        source, destination, chunk, _ = transfer
        gpus, steps = self.meeting.gpus, self.steps
        across = self.comm.crosses_nodes(gpus, source, destination)
        arrival_s = self.links.send(
            self.comm.path(gpus, source, destination),
            self.chunk_bytes(chunk),
            now_s,
            steps.inter_step_s if across else steps.intra_step_s,
            steps.inter_efficiency if across else steps.intra_efficiency,
            self.meeting.op.name,
        )
        payload = self.held[source].get(chunk) if self.numbers else None
        box = self._box(destination, number, len(self.table[destination][number].receives))
        event = self.meeting.env.timeout(arrival_s - now_s)
        event.callbacks.append(lambda _event: self._arrive(box, transfer, payload))

    def chunk_bytes(self, chunk: int) -> float:
        """Full-size bytes of one chunk."""
        op, schedule = self.meeting.op, self.schedule
        if op.kind == "all_to_all" and op.share:
            sender, receiver = divmod(chunk, schedule.ranks)
            return op.bytes * op.share[sender if op.back else receiver] / sum(op.share)
        if op.kind == "all_to_all":
            return op.bytes / schedule.ranks
        return op.bytes / schedule.chunks

    @staticmethod
    def _arrive(box: _Box, transfer: Transfer, payload: Any) -> None:
        box.arrivals.append((transfer, payload))
        if len(box.arrivals) == box.needed and box.wanted is not None:
            box.wanted.succeed()

    def _merge(self, vertex: int, box: _Box) -> None:
        """Terms that meet in one place are added in the order of their vertices, as `collectives.apply` does."""
        if not self.numbers:
            return
        held = self.held[vertex]
        terms: dict[int, list[tuple[int, Any]]] = {}
        for transfer, payload in box.arrivals:
            if transfer.reduce:
                terms.setdefault(transfer.chunk, []).append((transfer.source, payload))
            else:
                held[transfer.chunk] = payload
        for chunk, arrivals in terms.items():
            if chunk in held:
                arrivals.append((vertex, held[chunk]))
            arrivals.sort(key=lambda term: term[0])
            total = arrivals[0][1]
            for _, value in arrivals[1:]:
                total = self.add(total, value) if self.add else total
            held[chunk] = total
