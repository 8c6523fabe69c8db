"""The designs that a question allows: one replica each, of a GPU kind, a layout, a precision and an engine."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from simulator.cost.engine_profile import EngineProfile, find_engine
from simulator.cost.table import Setup
from simulator.engine.expert_exchange import with_exchange
from simulator.engine.server import PROMPT_OP_S
from simulator.errors import LayoutError, ShardsimError
from simulator.model.architecture import Architecture, LatentAttention, MixtureOfExperts
from simulator.model.quantization import canonical_dtype, override, with_precision
from simulator.parallel.layout import Layout
from simulator.planning.question import Platform, Question
from simulator.program.legality import check_layout

NEEDS = {"fp8": "fp8", "fp8_block": "fp8", "mxfp8": "fp8", "nvfp4": "fp4"}
"""Storage types whose products need tensor cores of that type; int8, int4 and mxfp4 also run as weight-only."""
MOST_PP = 8
"""Stages of one replica, at most, where none are listed: deeper ones only lengthen the first token."""
CONTEXT_PARALLEL = ("tensorrt-llm",)
"""Engines that cut one sequence's KV over ranks while they decode, and start so from the command line (Helix, cp_size
of trtllm-serve, 2026)."""


@dataclass(frozen=True, slots=True)
class Design:
    """One replica, before batch limits and replica counts."""

    platform: int
    """Index into the question's platforms."""
    layout: Layout
    precision: str
    kv_cache: str
    engine: str

    def label(self, question: Question) -> str:
        """Readable and unique: "H200 tp=8 fp8 vllm"."""
        layout = self.layout
        names = ("tp", "cp", "pp", "dp_attention", "ep")
        parts = [f"{name}={getattr(layout, name)}" for name in names if getattr(layout, name) > 1] or ["tp=1"]
        kv = f"+{self.kv_cache}-kv" if self.kv_cache else ""
        return f"{question.platforms[self.platform].name} {' '.join(parts)} {self.precision}{kv} {self.engine}"


def alone(design: Design) -> Design:
    """The same cut without a pipeline: whose step times serve every pp."""
    return replace(design, layout=replace(design.layout, pp=1))


@dataclass(frozen=True, slots=True)
class Refused:
    """A design that cannot be, and why."""

    design: Design
    reason: str


def stored(model: Architecture, precision: str, kv_cache: str) -> Architecture:
    """The model in a precision. A checkpoint that is of that family stays as published; nvfp4 and int4 leave what
    their public checkpoints leave (attention of latent models in bf16: nvidia/DeepSeek-R1-0528-FP4, 2025-06)."""
    quantization = model.quantization
    name = "" if precision == "checkpoint" else canonical_dtype(precision)
    family = name.removeprefix("nv").removeprefix("mx")[:3]
    if name and not any(family in dtype for dtype in (quantization.weights, quantization.experts)):
        quantization = with_precision(quantization, name)
        if name == "nvfp4" and isinstance(model.distinct_layers[-1].attention, LatentAttention):
            quantization = override(quantization, attention="bf16")
    if kv_cache:
        quantization = override(quantization, kv_cache=kv_cache)
    return replace(model, quantization=quantization)


def engine_profile(engine: str, max_batched_tokens: int) -> EngineProfile:
    """The newest version, with the prompt steps' host time that closed-loop runs show."""
    return replace(find_engine(engine), launch_s=PROMPT_OP_S[engine], max_batched_tokens=max_batched_tokens)


def setup_of(question: Question, design: Design) -> Setup:
    """What a step of the design is priced from."""
    platform = question.platforms[design.platform]
    model = stored(question.model, design.precision, design.kv_cache)
    profile = engine_profile(design.engine, max(question.space.max_batched_tokens))
    return with_exchange(Setup(model, design.layout, platform.device, platform.links(design.layout), profile))


def designs(question: Question) -> tuple[tuple[Design, ...], tuple[Refused, ...]]:
    """Every legal design within the GPUs there are, and those refused, with the reason."""
    good: list[Design] = []
    bad: list[Refused] = []
    for index, platform in enumerate(question.platforms):
        for precision, kv_cache in question.space.precisions:
            model = stored(question.model, precision, kv_cache)
            lacks = _lacks(model, platform)
            for layout in layouts(question, platform, model):
                for engine in question.space.engines:
                    design = Design(index, layout, precision, kv_cache, engine)
                    reason = lacks or _illegal(model, layout, engine)
                    if reason:
                        bad.append(Refused(design, reason))
                    else:
                        good.append(design)
    return tuple(good), tuple(bad)


def _lacks(model: Architecture, platform: Platform) -> str:
    """Why the GPU cannot run this precision; empty: it can."""
    used = {model.quantization.weights, model.quantization.experts}
    for dtype in sorted(used):
        if NEEDS.get(dtype, "bf16") not in platform.device.peak_flops_per_s:
            return f"{platform.device.name} has no {NEEDS[dtype]} tensor cores"
    return ""


def _illegal(model: Architecture, layout: Layout, engine: str) -> str:
    """Why the model or the engine does not take this layout; empty: they do."""
    if engine == "vllm" and layout.ep > 1 and layout.ep != layout.block:
        return "vLLM spreads experts over all ranks of a stage (--enable-expert-parallel) or over none"
    if layout.cp > 1 and engine not in CONTEXT_PARALLEL:
        return f"{engine} is not started with context parallelism"
    if layout.dp_attention > 1 and layout.ep == 1:
        return "data-parallel attention without expert parallelism gathers every token on every rank"
    try:
        check_layout(model, layout)
    except LayoutError as error:
        return brief(error)
    return ""


def brief(error: ShardsimError) -> str:
    """What is wrong, without the file it stands in or a way out: the other candidates are that."""
    return " ".join(part for part in (error.where, error.given, error.rule) if part)


def layouts(question: Question, platform: Platform, model: Architecture) -> Iterator[Layout]:
    """Layouts of one replica: powers of two along each axis, within the GPUs.

    tp stays within a node unless the space says otherwise: beyond it is an all-reduce over the network in every layer,
    and pipelines and experts cross nodes instead (Megatron-LM, arXiv:2104.04473, section 3.2)."""
    space = question.space
    most = min(platform.max_gpus, question.max_gpus, space.most_replica_gpus or question.max_gpus)
    moe = any(isinstance(layer.feed_forward, MixtureOfExperts) for layer in model.distinct_layers)
    widest = most if space.tp_across_nodes else min(platform.per_node, most)
    for tp, cp in product(space.tp or _powers(widest), space.cp):
        for pp in space.pp or _powers(min(MOST_PP, most // (tp * cp))):
            for attention in space.dp_attention or (_powers(most // (tp * cp * pp)) if moe else (1,)):
                block = tp * cp * attention
                if block * pp > most or block * pp > platform.max_gpus:
                    continue
                for ep in space.ep or (_powers(block) if moe else (1,)):
                    if block % ep == 0:
                        yield _layout(model, tp, cp, pp, attention, ep)


def _layout(model: Architecture, tp: int, cp: int, pp: int, attention: int, ep: int) -> Layout:
    """With as many copies of busy experts as an uneven ep needs."""
    moe = next((x.feed_forward for x in model.distinct_layers if isinstance(x.feed_forward, MixtureOfExperts)), None)
    redundant = -moe.experts % ep if moe is not None and ep > 1 else 0
    return Layout(tp=tp, cp=cp, pp=pp, dp_attention=attention, ep=ep, redundant_experts=redundant)


def _powers(top: int) -> tuple[int, ...]:
    """1, 2, 4 ... up to `top`.

    >>> _powers(12), _powers(0)
    ((1, 2, 4, 8), ())
    """
    return tuple(1 << k for k in range(top.bit_length()) if 1 << k <= top)
