"""A step priced without a table, part by part: what a table is filled with, checked against, and extended by.

A step's time is a sum of parts, each a function of few numbers: the body (everything but attention: one GEMM over all
tokens of the step, prefilled and decoded together), attention of the prompts, attention of the decoding sequences, and
the head. That is exact where no other work overlaps attention, and in the programs none does.
"""

from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache

from simulator.cost.op import NOTHING, price_op
from simulator.cost.price import Price
from simulator.cost.step import StepPricer
from simulator.cost.table.comm import price_comm
from simulator.cost.table.options import Setup
from simulator.model.architecture import LatentAttention
from simulator.program import ops
from simulator.program.build import Program, Segment, build, stage_layers
from simulator.program.work import AttentionShape, Sequence, Work

ATTENTION = (ops.Attend, ops.AttendLatent, ops.AttendLinear)
PACKING = (ops.DispatchPack, ops.DispatchUnpack, ops.CombinePack, ops.CombineUnpack)
REDUCED_NORM = 0.5
"""What a norm inside an all_reduce still takes, over a kernel of its own: its second pass, not its launch."""
EXPERTS_OF_TOKEN = 8
"""Experts that a token of a block-scaled model goes to (config.json of DeepSeek-V3, GLM-5, Qwen3; Qwen3.5: 10), by
which an expert op's pairs are read as the step's tokens."""
SHARED = (ops.Linear, ops.Activate, ops.Gate)
AttentionOp = ops.Attend | ops.AttendLatent | ops.AttendLinear


@dataclass(frozen=True, slots=True)
class Part:
    """Seconds of one part of a step on one stage."""

    time_s: float
    compute_s: float
    """Sum over the compute stream."""
    comm_s: float
    """Sum over the communication stream, hidden or not."""
    error: float
    """Expected relative error."""
    launches: int = 0
    """Kernels that the host launches when the step runs eagerly."""
    shared_s: float = 0.0
    """Sum over the ops on the tokens of all data-parallel attention ranks."""


NO_PART = Part(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Stage:
    """One kind of pipeline stage: an index that stands for `times` stages of equal layers."""

    index: int
    times: int


def stages_of(setup: Setup) -> tuple[Stage, ...]:
    """The different pipeline stages: the first, the last, and those between that hold equal layers."""
    layers, pp = setup.architecture.layers, setup.layout.pp
    kinds: dict[tuple[object, ...], list[int]] = {}
    for index, mine in enumerate(stage_layers(len(layers), pp)):
        held = tuple(id(layers[i]) for i in mine)
        kinds.setdefault((index == 0, index == pp - 1, held), []).append(index)
    return tuple(Stage(members[0], len(members)) for members in kinds.values())


QUANTISED = ("fp8_block", "nvfp4")
"""Types whose products need their input's scales computed first."""


def works(tokens: int, decode: bool) -> Work:
    """A step of `tokens` new tokens whose attention is not looked at."""
    if decode:
        return Work(tuple(Sequence(i, 1, 1) for i in range(tokens)))
    return Work((Sequence(0, tokens, 0),))


def _last_rows(head: Segment) -> int:
    """Where in the head's ops each sequence is cut to its last token."""
    return next(i for i, op in enumerate(head.ops) if isinstance(op, ops.LastTokens))


class DirectPricer:
    """Prices parts of steps of one setup by building their programs."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.stages = stages_of(setup)
        self._latent = any(isinstance(layer.attention, LatentAttention) for layer in setup.architecture.distinct_layers)
        self._steps = StepPricer(setup.device, lambda op: price_comm(setup, op), self._compute, self._beside)
        self._whole = StepPricer(setup.device, lambda op: price_comm(setup, op), self._with_attention, self._beside)
        self.body = lru_cache(maxsize=4096)(self._body)
        self.head = lru_cache(maxsize=4096)(self._head)
        self.prefill_attention = lru_cache(maxsize=16384)(self._prefill_attention)
        self.decode_attention = lru_cache(maxsize=16384)(self._decode_attention)
        self.attention_ops = lru_cache(maxsize=64)(self._attention_ops)

    def _compute(self, op: ops.ComputeOp) -> Price:
        return NOTHING if isinstance(op, ATTENTION) else self._with_attention(op)

    def op(self, op: ops.ComputeOp, ep_index: int) -> Price:
        """One op as the engine runs it, on the rank at `ep_index` of its ep group (which matters to experts only); -1:
        on the busiest."""
        return self._with_attention(op, ep_index)

    def _with_attention(self, op: ops.ComputeOp, ep_index: int = -1) -> Price:
        engine = self.setup.engine
        if isinstance(op, engine.fused) or op.name in engine.fused_names or self._inside(op):
            return NOTHING
        busiest = max(ep_index, 0)
        if isinstance(op, ops.Experts) and ep_index < 0:
            busiest = max(range(len(op.load.rows)), key=op.load.totals.__getitem__)
        backend = engine.gemm_kernels if isinstance(op, ops.Linear) else engine.kernels
        chain_s = engine.expert_chain_s(self.setup.device.generation)
        price = price_op(op, self.setup.device, busiest, backend, chain_s)
        share = engine.kernel_share / REDUCED_NORM if self._reduced(op) else engine.kernel_share
        time_s = price.time_s / share
        if isinstance(op, ops.Linear | ops.Experts) and op.dtype == "fp8_block":
            tokens = op.tokens if isinstance(op, ops.Linear) else sum(op.load.totals) / EXPERTS_OF_TOKEN
            time_s = engine.block_fp8_time_s(self.setup.device.generation, tokens, time_s)
        if self._latent and isinstance(op, ops.Linear | ops.Experts) and op.dtype in QUANTISED:
            time_s += engine.latent_quantise_s
        return Price(time_s, price.provenance, price.error, price.bound)

    def _inside(self, op: ops.ComputeOp) -> bool:
        """Whether the expert exchange's kernels pack and unpack, and were measured with it."""
        return isinstance(op, PACKING) and self.setup.program.expert_kernel != "nccl"

    def _reduced(self, op: ops.ComputeOp) -> bool:
        """Whether the all_reduce before adds and normalises too."""
        if not isinstance(op, ops.Norm) or len(op.inputs) != 2:
            return False
        layout = self.setup.layout
        return layout.tp > 1 and not layout.sequence_parallel and op.tokens <= self.setup.engine.reduced_norm_tokens

    def _beside(self, op: ops.Op) -> bool:
        """Whether the op runs on a second compute stream: a shared expert beside the routed ones."""
        return isinstance(op, SHARED) and "shared_expert" in op.name and op.tokens <= self.setup.engine.side_tokens

    def program(self, stage: int, work: Work, skew: float) -> Program:
        """The stage's program for one micro-batch."""
        options = replace(self.setup.program, expert_skew=skew)
        return build(self.setup.architecture, self.setup.layout, stage, (work,), options)

    def _body(self, stage: int, tokens: int, decode: bool, skew: float) -> Part:
        """Everything but attention and head over `tokens` new tokens."""
        if tokens == 0:
            return NO_PART
        program = self.program(stage, works(tokens, decode), skew)
        if stage < self.setup.layout.pp - 1:
            return self._priced(program, program.segments)
        # The final norm runs over all tokens, the vocabulary over each sequence's last.
        head = program.segments[-1]
        return self._priced(program, (*program.segments[:-1], replace(head, ops=head.ops[: _last_rows(head)])))

    def _head(self, stage: int, sequences: int) -> Part:
        """Vocabulary and sampling for `sequences`; nothing on stages before the last."""
        if sequences == 0 or stage < self.setup.layout.pp - 1:
            return NO_PART
        program = self.program(stage, works(sequences, decode=True), 0.0)
        head = program.segments[-1]
        return self._priced(program, (replace(head, ops=head.ops[_last_rows(head) :]),))

    def _priced(self, program: Program, segments: tuple[Segment, ...]) -> Part:
        found = self._steps.price(replace(program, segments=segments))
        launches = sum(len(segment.ops) for segment in segments)
        return Part(found.time_s, found.compute_s, found.comm_s, found.error, launches, found.shared_s)

    def _attention_ops(self, stage: int, decode: bool) -> tuple[tuple[AttentionOp, int], ...]:
        """The different attention ops of a stage, and how many layers run each."""
        program = self.program(stage, works(2, decode), 0.0)
        found: Counter[AttentionOp] = Counter()
        for _, op in program.ops():
            if isinstance(op, ATTENTION):
                found[op] += 1
        return tuple(found.items())

    def _attention(self, stage: int, shape: AttentionShape, decode: bool, heads: int) -> Part:
        total, error = 0.0, 0.0
        tokens = sum(new for new, _ in shape.prefills) + shape.decodes
        for op, times in self.attention_ops(stage, decode):
            shaped = replace(op, shape=shape)
            if isinstance(shaped, ops.AttendLinear):
                shaped = replace(shaped, tokens=tokens * heads)
            elif heads > 1:  # drafted tokens of a sequence read its cache together, as more heads would
                shaped = replace(shaped, heads=shaped.heads * heads)
            price = self._with_attention(shaped)
            total += times * price.time_s
            error += times * price.time_s * price.error
        return Part(total, total, 0.0, error / total if total else 0.0)

    def _share(self) -> float:
        return 1.0 / self.setup.layout.cp

    def _prefill_attention(self, stage: int, new: int, past: int, sequences: int) -> Part:
        """Attention of `sequences` prompts of `new` tokens, each after `past` cached ones."""
        if new == 0 or sequences == 0:
            return NO_PART
        shape = AttentionShape(((new, past),) * sequences, 0, 0, self._share())
        return self._attention(stage, shape, decode=False, heads=1)

    def _decode_attention(self, stage: int, sequences: int, kv_tokens: int, new: int = 1) -> Part:
        """Attention of `sequences` decoding ones over `kv_tokens` in all; `new` tokens each to verify."""
        if sequences == 0:
            return NO_PART
        shape = AttentionShape((), sequences, max(kv_tokens, sequences), self._share())
        return self._attention(stage, shape, decode=True, heads=new)

    def whole(self, sequences: tuple[Sequence, ...], skew: float = 0.0) -> float:
        """Device seconds of a step of these very sequences, stage after stage: the oracle of the parts."""
        pp = self.setup.layout.pp
        return sum(self._whole.price(self.program(s, Work(sequences), skew)).time_s for s in range(pp))
