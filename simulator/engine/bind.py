"""A program made ready to run: names resolved to slots, ops parted by stream, each with its price.

Every write of a name gets a slot of its own (as registers are renamed), so that a stream that runs ahead never
overwrites what the other has yet to read. Numbers have slots of their own: layers that are only timed write
none, so the miniature's residual stream passes over them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from simulator.cost.op import price_op
from simulator.cost.price import Price
from simulator.hardware.device import Device
from simulator.program.build import Program, Segment
from simulator.program.ops import Collective, CommOp, ComputeOp, Experts, Op, Receive, Send


@dataclass(frozen=True, slots=True)
class NumberSlots:
    """The miniature's twin of an op, and where its values are."""

    op: Op
    segment: Segment
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    split_like: int
    """Slot of the gathered tensor whose sizes cut this reduce_scatter; -1: even."""


@dataclass(frozen=True, slots=True)
class BoundOp:
    """One op of the full-size program with its slots, and its twin where numbers run."""

    index: int
    op: ComputeOp | CommOp
    segment: Segment
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    numbers: NumberSlots | None


@dataclass(frozen=True, slots=True)
class BoundProgram:
    """The two streams of a rank, in program order each."""

    program: Program
    miniature: Program | None
    compute: tuple[BoundOp, ...]
    comm: tuple[BoundOp, ...]
    slots: int
    number_slots: int
    sampled: tuple[tuple[int, int], ...]
    """(micro-batch, number slot) of each sampled tensor."""


def bind(program: Program, miniature: Program | None = None, kept: tuple[int, ...] = ()) -> BoundProgram:
    """Slots for every tensor; `kept[i]` is the full model's layer that the miniature's layer i stands for."""
    twins = _twins(miniature, kept) if miniature else {}
    names: dict[tuple[int, str], int] = {}
    number_names: dict[tuple[int, str], int] = {}
    slots = number_slots = 0
    compute: list[BoundOp] = []
    comm: list[BoundOp] = []
    sampled: list[tuple[int, int]] = []
    for index, (segment, op) in enumerate(program.ops()):
        batch = segment.micro_batch
        inputs = tuple(names[batch, name] for name in op.inputs if name != "ids")
        outputs = tuple(range(slots, slots + len(op.outputs)))
        slots += len(outputs)
        names.update(((batch, name), slot) for name, slot in zip(op.outputs, outputs, strict=True))
        twin_segment = twins.get((batch, segment.place, segment.layer))
        numbers = None
        if twin_segment is not None:
            twin = twin_segment.ops[_place_in(segment, op)]
            read = tuple(number_names[batch, name] for name in twin.inputs if name != "ids")
            written = tuple(range(number_slots, number_slots + len(twin.outputs)))
            number_slots += len(written)
            like = getattr(twin, "split_like", "")
            numbers = NumberSlots(twin, twin_segment, read, written, number_names[batch, like] if like else -1)
            number_names.update(((batch, name), slot) for name, slot in zip(twin.outputs, written, strict=True))
            if "sampled" in twin.outputs:
                sampled.append((batch, written[0]))
        bound = BoundOp(index, op, segment, inputs, outputs, numbers)
        (comm if isinstance(op, Collective | Send | Receive) else compute).append(bound)
    return BoundProgram(program, miniature, tuple(compute), tuple(comm), slots, number_slots, tuple(sampled))


def _place_in(segment: Segment, op: Op) -> int:
    for place, candidate in enumerate(segment.ops):
        if candidate is op:
            return place
    raise ValueError(op.name)


def _twins(miniature: Program, kept: tuple[int, ...]) -> dict[tuple[int, str, int], Segment]:
    return {(s.micro_batch, s.place, kept[s.layer] if s.layer >= 0 else s.layer): s for s in miniature.segments}


class Prices:
    """Prices of compute ops, each looked up once; equal layers share their op objects.

    `price` prices an op where an engine runs it its own way; None: each op as its own kernel.
    """

    def __init__(self, device: Device, price: Callable[[ComputeOp, int], Price] | None = None) -> None:
        self._price = price or (lambda op, ep_index: price_op(op, device, ep_index))
        self._found: dict[tuple[int, int], Price] = {}
        self._alive: list[Op] = []

    def of(self, op: ComputeOp, ep_index: int) -> Price:
        """Price on the rank at `ep_index` of its ep group (which matters to experts only)."""
        key = (id(op), ep_index if isinstance(op, Experts) else 0)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._price(op, key[1])
            self._alive.append(op)
        return found
