"""Where the time of a step goes, by kind of op: the latency budget of a replica's prefill and decode steps."""

from dataclasses import dataclass
from typing import Literal

from simulator.cost.price import Price
from simulator.cost.table.comm import price_comm
from simulator.cost.table.direct import DirectPricer
from simulator.planning.assess import skew_of
from simulator.planning.designs import Design, alone, setup_of
from simulator.planning.question import Question
from simulator.planning.result import BudgetItem
from simulator.program import ops
from simulator.program.work import Sequence, Work

Phase = Literal["prefill", "decode"]
_WORST = {"measured": 0, "fitted": 1, "roofline": 2}


@dataclass(slots=True)
class _Sum:
    seconds: float = 0.0
    error_s: float = 0.0
    provenance: str = "measured"

    def add(self, price: Price) -> None:
        self.seconds += price.time_s
        self.error_s += price.error * price.time_s
        if price.time_s > 0.0 and _WORST[price.provenance] > _WORST[self.provenance]:
            self.provenance = price.provenance


def kind_of(op: ops.Op) -> str:
    """The name under which an op's time is told."""
    match op:
        case ops.Linear():
            return "GEMM"
        case ops.Attend() | ops.AttendLatent() | ops.AttendLinear() | ops.MergeAttention():
            return "attention"
        case ops.Experts():
            return "experts"
        case ops.Route():
            return "router"
        case ops.Collective():
            return f"{op.kind} ({'+'.join(op.over)})"
        case ops.Send() | ops.Receive():
            return "pipeline"
    return "elementwise"


def step_budget(question: Question, design: Design, pool: int, phase: Phase, sequences: int) -> tuple[BudgetItem, ...]:
    """One step of a lane: `sequences` decodes at the mean context, or one chunk of a mean prompt; longest first.

    Ops are added up as if none ran beside another; the host's time is told whether or not it is hidden.
    """
    direct = DirectPricer(setup_of(question, alone(design)))
    work = _work(question, phase, sequences)
    sums: dict[str, _Sum] = {}
    for _, op in direct.program(0, work, skew_of(direct.setup)).ops():
        sums.setdefault(kind_of(op), _Sum()).add(_price(direct, op))
    host = direct.setup.engine.host_s(sequences if phase == "decode" else 1)
    sums["host"] = _Sum(host, host * direct.setup.engine.error, "fitted")
    total = sum(item.seconds for item in sums.values())
    found = [
        BudgetItem(phase, pool, name, s.seconds, s.seconds / total, s.provenance, s.error_s / s.seconds)
        for name, s in sums.items()
        if s.seconds > 0.0
    ]
    return tuple(sorted(found, key=lambda item: (-item.seconds, item.name)))


def _price(direct: DirectPricer, op: ops.Op) -> Price:
    """As the engine runs it: fused ops take nothing, its kernels their share."""
    if isinstance(op, ops.Collective | ops.Send | ops.Receive):
        return price_comm(direct.setup, op)
    return direct.op(op, -1)


def _work(question: Question, phase: Phase, sequences: int) -> Work:
    traffic = question.traffic
    if phase == "prefill":
        budget = max(question.space.max_batched_tokens)
        return Work((Sequence(0, max(2, min(round(traffic.mean_input), budget)), 0),))
    past = round(traffic.mean_input + traffic.mean_output / 2)
    return Work(tuple(Sequence(i, 1, past) for i in range(max(1, sequences))))


def provenance_shares(items: tuple[BudgetItem, ...], weights: dict[Phase, float]) -> tuple[tuple[str, float], ...]:
    """Part of the time on the critical path by where its price comes from; phases by weight, the host apart."""
    found: dict[str, float] = {}
    for item in items:
        name = "host" if item.name == "host" else item.provenance
        found[name] = found.get(name, 0.0) + item.share * weights.get(item.phase, 0.0)
    total = sum(found.values())
    return tuple((name, found[name] / total) for name in sorted(found)) if total else ()
