"""One step of one pool: every rank runs its program on two streams, and meets the others in collectives."""

from collections.abc import Generator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import simpy

from simulator.engine.bind import BoundOp, BoundProgram, Prices
from simulator.engine.communicator import Communicator
from simulator.engine.deployment import Fidelity
from simulator.engine.flows import FlowNetwork
from simulator.engine.links import Links
from simulator.engine.log import OpRecord
from simulator.engine.meeting import Meeting, Mode
from simulator.errors import StalledError
from simulator.numeric.batch import Tokens, ids_of
from simulator.numeric.kernels import run_op
from simulator.numeric.rank import OpContext, RankState
from simulator.numeric.run import Probe
from simulator.parallel.layout import Layout
from simulator.program.ops import Collective, Receive, Send
from simulator.program.sharding import coordinate

Steps = Generator[simpy.Event, Any, None]


@dataclass(slots=True)
class Machine:
    """What outlives a step: the clock, the links, the prices, the log."""

    env: simpy.Environment
    comm: Communicator
    links: Links
    prices: Prices
    ops: list[OpRecord]
    fidelity: Fidelity = "auto"
    flows: FlowNetwork | None = None
    """The fluid network, with fidelity "flow"."""
    keep_ops: bool = True


@dataclass(slots=True)
class StepPlan:
    """One step of one pool. `states` and `tokens` are None where no numbers run."""

    pool: str
    step: int
    phase: str
    layout: Layout
    gpus: tuple[int, ...]
    programs: tuple[BoundProgram, ...]
    states: list[RankState] | None = None
    tokens: Tokens | None = None
    probe: Probe | None = None


@dataclass(slots=True)
class _Rank:
    """The slots of one rank during a step."""

    rank: int
    bound: BoundProgram
    ready_s: list[float | None]
    values: list[Any]
    sizes: dict[int, tuple[int, ...]]
    waits: dict[int, simpy.Event] = field(default_factory=dict)
    waiting_for: str = ""


class StepRun:
    """Runs a plan on a machine; `run` is a SimPy process that ends when every rank has."""

    def __init__(self, machine: Machine, plan: StepPlan) -> None:
        self.machine, self.plan = machine, plan
        self.env = machine.env
        self.ranks = [
            _Rank(rank, bound, [None] * bound.slots, [None] * bound.number_slots, {})
            for rank, bound in enumerate(plan.programs)
        ]
        self.meetings: dict[tuple[int, int], Meeting] = {}
        self.mail: dict[tuple[int, int, int], simpy.Event] = {}
        self.unfinished: set[tuple[int, str]] = set()

    def run(self) -> Steps:
        """Starts both streams of every rank and waits for all of them."""
        streams = []
        for rank in self.ranks:
            for name, stream in (("compute", self._compute), ("comm", self._comm)):
                self.unfinished.add((rank.rank, name))
                streams.append(self.env.process(stream(rank)))
        yield self.env.all_of(streams)

    def sampled(self) -> dict[int, int]:
        """Sequence id -> token, from the miniature's ranks that sampled."""
        found: dict[int, int] = {}
        for rank in self.ranks:
            for batch, slot in rank.bound.sampled:
                assert rank.bound.miniature is not None
                work = rank.bound.miniature.works[batch]
                for sequence, token in zip(work.sequences, rank.values[slot], strict=True):
                    found[sequence.id] = int(token)
        return found

    def stalled(self) -> StalledError:
        """The story of a run that stopped with ranks still waiting."""
        told = [f"rank {rank.rank} waits in {rank.waiting_for}" for rank in self.ranks if rank.waiting_for]
        absent = {
            f"{meeting.op.name} over {'x'.join(meeting.op.over)}: never came {list(meeting.missing)}"
            for meeting in self.meetings.values()
            if meeting.missing
        }
        return StalledError(
            where=f"step {self.plan.step} of pool {self.plan.pool!r}",
            given="; ".join([*told[:8], *sorted(absent)[:8]]),
            rule="the simulation has nothing left to do while ranks still wait",
        )

    # ---- slots ------------------------------------------------------------------------------------------------

    def _inputs_ready(self, rank: _Rank, bound: BoundOp) -> Steps:
        for slot in bound.inputs:
            if rank.ready_s[slot] is None:
                rank.waiting_for = f"{bound.op.name!r} (layer {bound.segment.layer}), for an input"
                event = rank.waits.get(slot)
                if event is None:
                    event = rank.waits[slot] = self.env.event()
                yield event
                rank.waiting_for = ""

    @staticmethod
    def _publish(rank: _Rank, bound: BoundOp, at_s: float) -> None:
        for slot in bound.outputs:
            rank.ready_s[slot] = at_s
            event = rank.waits.pop(slot, None)
            if event is not None:
                event.succeed()

    @staticmethod
    def _latest(rank: _Rank, bound: BoundOp, at_least_s: float) -> float:
        latest = at_least_s
        for slot in bound.inputs:
            at_s = rank.ready_s[slot]
            if at_s is not None and at_s > latest:
                latest = at_s
        return latest

    # ---- compute ----------------------------------------------------------------------------------------------

    def _compute(self, rank: _Rank) -> Steps:
        """Runs ahead of the clock between collectives: what it computes is known, and ready at a later time."""
        plan, env, prices = self.plan, self.env, self.machine.prices
        ep_index = coordinate(plan.layout, rank.rank, ("ep",))
        now_s = env.now
        for bound in rank.bound.compute:
            for slot in bound.inputs:
                if rank.ready_s[slot] is None:
                    yield from self._inputs_ready(rank, bound)
                    break
            start_s = self._latest(rank, bound, now_s)
            price = prices.of(bound.op, ep_index)  # type: ignore[arg-type]
            now_s = start_s + price.time_s
            if bound.numbers is not None and plan.states is not None:
                self._kernel(rank, bound)
            if self.machine.keep_ops and price.time_s > 0:
                kind = type(bound.op).__name__
                self._log(rank, bound, "compute", kind, start_s, now_s, 0.0, price.provenance, price.bound)
            self._publish(rank, bound, now_s)
        if now_s > env.now:
            yield env.timeout(now_s - env.now)
        self.unfinished.discard((rank.rank, "compute"))

    def _kernel(self, rank: _Rank, bound: BoundOp) -> None:
        numbers, plan = bound.numbers, self.plan
        assert numbers is not None
        assert plan.states is not None
        assert plan.tokens is not None
        assert rank.bound.miniature is not None
        state, segment = plan.states[rank.rank], numbers.segment
        work = rank.bound.miniature.works[segment.micro_batch]
        ids = ids_of(work, plan.layout, rank.rank, plan.tokens) if segment.layer == -1 else _NO_IDS
        inputs = tuple(rank.values[slot] for slot in numbers.inputs)
        outputs = run_op(numbers.op, inputs, OpContext(state, segment.layer, work, ids))  # type: ignore[arg-type]
        self._store(rank, bound, outputs)

    def _store(self, rank: _Rank, bound: BoundOp, outputs: tuple[Any, ...]) -> None:
        numbers = bound.numbers
        assert numbers is not None
        for slot, value in zip(numbers.outputs, outputs, strict=True):
            rank.values[slot] = value
        if self.plan.probe is not None:
            self.plan.probe(rank.rank, numbers.segment, numbers.op, outputs)

    # ---- communication ----------------------------------------------------------------------------------------

    def _comm(self, rank: _Rank) -> Steps:
        env = self.env
        now_s = env.now
        for bound in rank.bound.comm:
            yield from self._inputs_ready(rank, bound)
            arrive_s = self._latest(rank, bound, now_s)
            if arrive_s > env.now:
                yield env.timeout(arrive_s - env.now)
            match bound.op:
                case Collective() as op:
                    yield from self._meet(rank, bound, op)
                case Send():
                    self._post(rank, bound)
                case Receive():
                    yield from self._receive(rank, bound)
            now_s = env.now
            self._publish(rank, bound, now_s)
        self.unfinished.discard((rank.rank, "comm"))

    def _meet(self, rank: _Rank, bound: BoundOp, op: Collective) -> Steps:
        plan, machine = self.plan, self.machine
        group = plan.layout.group_of(op.over)[rank.rank]
        key = (bound.index, group[0])
        meeting = self.meetings.get(key)
        if meeting is None:
            gpus = tuple(plan.gpus[member] for member in group)
            meeting = self.meetings[key] = Meeting(self.env, op, group, gpus)
        elif op.bytes > meeting.op.bytes:  # members may bring unequally much: the one that brings most binds
            meeting.op = op
        place = group.index(rank.rank)
        numbers = bound.numbers if plan.states is not None else None
        meeting.arrived[place] = rank.values[numbers.inputs[0]] if numbers else None
        if numbers is not None and meeting.twin is None:
            assert isinstance(numbers.op, Collective)
            assert plan.states is not None
            meeting.twin, meeting.round_ = numbers.op, plan.states[rank.rank].round_
            meeting.sizes = rank.sizes.get(numbers.split_like)
        if len(meeting.arrived) == len(group):
            del self.meetings[key]
            meeting.run(machine.comm, machine.links, self._mode(numbers is not None), machine.flows)
        start_s = self.env.now
        rank.waiting_for = f"{op.name!r} (layer {bound.segment.layer})"
        yield meeting.done
        rank.waiting_for = ""
        if numbers is not None:
            self._store(rank, bound, (meeting.outputs[place],))
            if meeting.gathered is not None:
                rank.sizes[numbers.outputs[0]] = meeting.gathered
        if machine.keep_ops:
            price = machine.comm.price(op, meeting.gpus)
            self._log(rank, bound, "comm", op.kind, start_s, self.env.now, op.bytes, price.provenance, price.bound)

    def _mode(self, numbers: bool) -> Mode:
        """auto: chunk by chunk where numbers run, in closed form elsewhere."""
        fidelity = self.machine.fidelity
        if fidelity == "auto":
            return "stepwise" if numbers else "closed_form"
        return fidelity

    def _post(self, rank: _Rank, bound: BoundOp) -> None:
        """A pipeline send: the message is on its way, the stream goes on."""
        op, plan = bound.op, self.plan
        assert isinstance(op, Send)
        peer = self._peer(rank.rank, op.offset)
        value = rank.values[bound.numbers.inputs[0]] if bound.numbers is not None and plan.states else None
        gpus = (plan.gpus[rank.rank], plan.gpus[peer])
        start_s = self.env.now
        wire = Collective(
            name=op.name, inputs=(), outputs=(), kind="all_gather", over=("pp",), bytes=op.bytes
        )  # a pair's step latency and efficiency
        comm, links, flows = self.machine.comm, self.machine.links, self.machine.flows
        steps, across = comm.steps(wire, gpus), comm.crosses_nodes(gpus, 0, 1)
        latency_s = steps.launch_s + (steps.inter_step_s if across else steps.intra_step_s)
        efficiency = steps.inter_efficiency if across else steps.intra_efficiency
        path, key = comm.path(gpus, 0, 1), (rank.rank, peer, bound.segment.micro_batch)
        if flows is not None:
            sent: simpy.Event = self.env.process(flows.send(gpus, path, op.bytes, latency_s, efficiency, op.name))
        else:
            arrival_s = links.send(path, op.bytes, start_s, latency_s, efficiency, op.name)
            sent = self.env.timeout(arrival_s - start_s)
        sent.callbacks.append(partial(self._delivered, rank, bound, key, value, start_s))

    def _delivered(
        self, rank: _Rank, bound: BoundOp, key: tuple[int, int, int], value: Any, start_s: float, _event: simpy.Event
    ) -> None:
        self._box(key).succeed(value)
        if self.machine.keep_ops and isinstance(bound.op, Send):
            self._log(rank, bound, "comm", "send", start_s, self.env.now, bound.op.bytes, "fitted", "link")

    def _box(self, key: tuple[int, int, int]) -> simpy.Event:
        """The letter box of (from, to, micro-batch): whoever comes first makes it."""
        if key not in self.mail:
            self.mail[key] = self.env.event()
        return self.mail[key]

    def _receive(self, rank: _Rank, bound: BoundOp) -> Steps:
        op = bound.op
        assert isinstance(op, Receive)
        key = (self._peer(rank.rank, op.offset), rank.rank, bound.segment.micro_batch)
        rank.waiting_for = f"receive from rank {key[0]}"
        value = yield self._box(key)
        rank.waiting_for = ""
        if bound.numbers is not None and self.plan.states is not None:
            self._store(rank, bound, (value,))

    def _peer(self, rank: int, offset: int) -> int:
        stages = self.plan.layout.group_of(("pp",))[rank]
        return stages[stages.index(rank) + offset]

    def _log(
        self, rank: _Rank, bound: BoundOp, stream: str, kind: str, start_s: float, end_s: float, size_bytes: float,
        provenance: str, bound_by: str,
    ) -> None:  # fmt: skip
        plan, segment = self.plan, bound.segment
        self.machine.ops.append(
            OpRecord(
                plan.step,
                plan.phase,
                plan.pool,
                rank.rank,
                plan.gpus[rank.rank],
                stream,
                segment.layer,
                segment.micro_batch,
                bound.op.name,
                kind,
                start_s,
                end_s,
                size_bytes,
                provenance,
                bound_by,
            )
        )


_NO_IDS: Any = None
"""Only the embedding reads ids."""
