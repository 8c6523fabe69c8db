"""The time of one step without its timeline: two streams of one rank, list-scheduled in closed form.

Every rank is taken to be alike (the busiest rank's experts stand for all), so a collective starts when this rank
reaches it. Runs of equal layers are priced once: as soon as a layer meets the streams in the state in which the
layer before met them, the rest of the run repeats it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from simulator.cost.op import price_op
from simulator.cost.price import Price
from simulator.hardware.device import Device
from simulator.program.build import Program, Segment
from simulator.program.ops import Collective, CombinePack, CommOp, ComputeOp, DispatchUnpack, Experts, Op, Receive, Send

PriceComm = Callable[[CommOp], Price]
PriceCompute = Callable[[ComputeOp], Price]
Beside = Callable[[Op], bool]
_SAME_S = 1e-12


def _never(_op: Op) -> bool:
    return False


def is_shared(op: Op) -> bool:
    """Whether an op works on the tokens of all data-parallel attention ranks, however they are dealt over the ranks.

    The experts and what packs for them, and gathering all ranks' tokens for experts that are cut over them. An
    all_to_all is not: the rank with most tokens sends and receives most, and the others wait for it.
    """
    if isinstance(op, Collective):
        return op.kind in ("all_gather", "reduce_scatter") and "dp_attention" in op.over
    return isinstance(op, Experts | DispatchUnpack | CombinePack)


@dataclass(frozen=True, slots=True)
class StepPrice:
    """Seconds of one step of one pipeline stage, from its first op to its last."""

    time_s: float
    compute_s: float
    """Sum over the compute stream."""
    comm_s: float
    """Sum over the communication stream, hidden or not."""
    error: float
    """Expected relative error: the ops' own, weighted by their time."""
    shared_s: float = 0.0
    """Sum over the ops on the tokens of all attention ranks (`is_shared`)."""


@dataclass(slots=True)
class _Clock:
    """When each stream is free and each tensor is ready."""

    compute_s: float
    comm_s: float
    ready_s: dict[str, float]
    side_s: float = 0.0
    """When the second compute stream is free."""
    busy_s: tuple[float, float] = (0.0, 0.0)
    error_s: float = 0.0
    shared_s: float = 0.0

    @property
    def last_s(self) -> float:
        """When the last stream is done."""
        return max(self.compute_s, self.comm_s, self.side_s)

    def state(self) -> tuple[float, ...]:
        """What the next layer can see, relative to the later stream."""
        last = self.last_s
        carried = (self.ready_s.get(name, 0.0) - last for name in ("h", "delta"))
        return (self.compute_s - last, self.comm_s - last, self.side_s - last, *carried)


class StepPricer:
    """Prices programs of one device; `comm` prices collectives, sends and receives.

    `compute` prices the other ops where an engine runs them its own way; None: each op as its own kernel.
    `beside` says which ops run on a second compute stream; None: none.
    """

    def __init__(
        self, device: Device, comm: PriceComm, compute: PriceCompute | None = None, beside: Beside | None = None
    ) -> None:
        self._device, self._comm = device, comm
        self._compute = compute or self._alone
        self._beside = beside or _never

    def price(self, program: Program) -> StepPrice:
        """Time of one stage's step over all its micro-batches."""
        clock = _Clock(0.0, 0.0, {})
        segments = program.segments
        index = 0
        while index < len(segments):
            run = 1
            while index + run < len(segments) and segments[index + run].ops is segments[index].ops:
                run += 1
            self._run(clock, segments[index], run)
            index += run
        total = clock.last_s
        compute_s, comm_s = clock.busy_s
        busy = compute_s + comm_s
        return StepPrice(total, compute_s, comm_s, clock.error_s / busy if busy else 0.0, clock.shared_s)

    def _run(self, clock: _Clock, segment: Segment, times: int) -> None:
        prices = [(op, self._price(op)) for op in segment.ops]
        clock.shared_s += times * sum(price.time_s for op, price in prices if is_shared(op))
        before = clock.state()
        for done in range(times):
            start, busy, error = clock.last_s, clock.busy_s, clock.error_s
            _advance(clock, prices, self._beside)
            after = clock.state()
            if all(abs(a - b) < _SAME_S for a, b in zip(before, after, strict=True)):
                left = times - done - 1
                _repeat(clock, left, clock.last_s - start, busy, error)
                return
            before = after

    def _price(self, op: Op) -> Price:
        if isinstance(op, Collective | Send | Receive):
            return self._comm(op)
        return self._compute(op)

    def _alone(self, op: ComputeOp) -> Price:
        busiest = max(range(len(op.load.rows)), key=op.load.totals.__getitem__) if isinstance(op, Experts) else 0
        return price_op(op, self._device, busiest)


def _advance(clock: _Clock, prices: list[tuple[Op, Price]], beside: Beside) -> None:
    ready = clock.ready_s
    compute_busy, comm_busy = clock.busy_s
    for op, price in prices:
        start = max((ready[name] for name in op.inputs if name in ready), default=0.0)
        clock.error_s += price.error * price.time_s
        if isinstance(op, Collective | Send | Receive):
            end = clock.comm_s = max(start, clock.comm_s) + price.time_s
            comm_busy += price.time_s
        elif beside(op):
            end = clock.side_s = max(start, clock.side_s) + price.time_s
            compute_busy += price.time_s
        else:
            end = clock.compute_s = max(start, clock.compute_s) + price.time_s
            compute_busy += price.time_s
        for name in op.outputs:
            ready[name] = end
    clock.busy_s = (compute_busy, comm_busy)


def _repeat(clock: _Clock, times: int, step_s: float, busy: tuple[float, float], error_s: float) -> None:
    """Adds the layer just run `times` times more."""
    shift = times * step_s
    clock.compute_s += shift
    clock.comm_s += shift
    clock.side_s += shift
    clock.ready_s = {name: at + shift for name, at in clock.ready_s.items()}
    compute, comm = clock.busy_s
    clock.busy_s = (compute + times * (compute - busy[0]), comm + times * (comm - busy[1]))
    clock.error_s += times * (clock.error_s - error_s)
