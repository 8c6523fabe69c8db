"""Ops of one feed-forward block, from the normed input "x" to "delta", complete over every axis."""

from collections.abc import Iterator
from math import ceil
from typing import Literal

from simulator.model.architecture import DenseMlp, Layer, MixtureOfExperts
from simulator.program.experts import expert_load, visit_share
from simulator.program.frame import ELEMENT_BYTES, Frame
from simulator.program.ops import (
    Activate,
    Add,
    Collective,
    CombinePack,
    CombineUnpack,
    DispatchPack,
    DispatchUnpack,
    ExpertExchange,
    Experts,
    Gate,
    Linear,
    Op,
    Route,
    SliceTokens,
)
from simulator.program.sharding import uses_all_to_all


def feed_forward_ops(frame: Frame, layer: Layer) -> Iterator[Op]:
    """x -> delta; the residual stream's own cut (whole, or a share over tp) is restored at the end."""
    match layer.feed_forward:
        case DenseMlp() as mlp:
            yield from gather_residual(frame, "x")
            yield from _dense(frame, mlp)
            yield from reduce_delta(frame, "delta", "mlp")
        case MixtureOfExperts() as moe if uses_all_to_all(frame.layout):
            yield from _dispatched(frame, moe)
        case MixtureOfExperts() as moe:
            yield from gather_residual(frame, "x")
            yield from _gathered(frame, moe)


def gather_residual(frame: Frame, name: str) -> Iterator[Op]:
    """With sequence parallelism the normed shares are gathered before a column-parallel linear."""
    if frame.sequence_parallel:
        yield Collective(
            name=f"{name}_all_gather", inputs=(name,), outputs=(name,), kind="all_gather", over=("tp",),
            bytes=frame.activation_bytes(frame.tokens, frame.architecture.hidden),
        )  # fmt: skip


def reduce_delta(frame: Frame, name: str, block: str, over: tuple[str, ...] = ("tp",)) -> Iterator[Op]:
    """Pays the sum owed by a row-parallel linear: all_reduce, or reduce_scatter onto the shares."""
    if frame.layout.size(over) == 1:
        return
    full = frame.activation_bytes(frame.tokens, frame.architecture.hidden)
    if not frame.sequence_parallel:
        yield Collective(
            name=f"{block}_all_reduce", inputs=(name,), outputs=(name,), kind="all_reduce", over=over, bytes=full
        )
        return
    rest = tuple(axis for axis in over if axis != "tp")
    if frame.layout.size(rest) > 1:
        yield Collective(
            name=f"{block}_all_reduce", inputs=(name,), outputs=(name,), kind="all_reduce", over=rest, bytes=full
        )
    yield Collective(
        name=f"{block}_reduce_scatter", inputs=(name,), outputs=(name,), kind="reduce_scatter", over=("tp",), bytes=full
    )


def _dense(
    frame: Frame, mlp: DenseMlp, prefix: str = "mlp", source: str = "x", out: str = "delta",
    tp: int = 0, tokens: int = -1,
) -> Iterator[Op]:  # fmt: skip
    tp = tp or frame.layout.tp
    tokens = frame.tokens if tokens < 0 else tokens
    hidden, width, dtype = frame.architecture.hidden, mlp.intermediate // tp, frame.architecture.quantization.weights
    names = ("gate_proj", "up_proj") if mlp.gated else ("up_proj",)
    outputs = tuple(f"{out}_{name}" for name in names)
    yield Linear(
        name=f"{prefix}.{'gate_up' if mlp.gated else 'up'}_proj", inputs=(source,), outputs=outputs,
        weights=tuple(f"{prefix}.{name}.weight" for name in names),
        biases=tuple(f"{prefix}.{name}.bias" for name in names) if mlp.bias else (), tokens=tokens, k=hidden,
        ns=(width,) * len(names), dtype=dtype, parallel="column" if tp > 1 else "replicated",
    )  # fmt: skip
    yield Activate(
        name=f"{prefix}.act",
        inputs=outputs,
        outputs=(f"{out}_act",),
        kind=mlp.activation,
        tokens=tokens,
        features=width,
    )
    yield Linear(
        name=f"{prefix}.down_proj", inputs=(f"{out}_act",), outputs=(out,), weights=(f"{prefix}.down_proj.weight",),
        biases=(f"{prefix}.down_proj.bias",) if mlp.bias else (), tokens=tokens, k=width, ns=(hidden,), dtype=dtype,
        parallel="row" if tp > 1 else "replicated",
    )  # fmt: skip


def _shared(frame: Frame, moe: MixtureOfExperts, source: str, tp: int, tokens: int) -> Iterator[Op]:
    mlp = DenseMlp(moe.shared_intermediate)
    yield from _dense(frame, mlp, "mlp.shared_experts", source, "shared", tp, tokens)
    if moe.shared_gate:
        hidden = frame.architecture.hidden
        yield Linear(
            name="shared_expert_gate", inputs=(source,), outputs=("shared_gate",),
            weights=("mlp.shared_expert_gate.weight",), tokens=tokens, k=hidden, ns=(1,), dtype="bf16",
            parallel="replicated",
        )  # fmt: skip
        yield Gate(
            name="shared_expert_gated",
            inputs=("shared", "shared_gate"),
            outputs=("shared",),
            tokens=tokens,
            features=hidden,
        )


def _route(frame: Frame, moe: MixtureOfExperts, source: str, tokens: int) -> Op:
    return Route(
        name="router", inputs=(source,), outputs=("expert_ids", "expert_weights"), weight="mlp.gate.weight",
        bias="mlp.gate.bias" if moe.router.bias else "",
        correction="mlp.gate.e_score_correction_bias" if moe.router.correction_bias else "",
        router=moe.router, tokens=tokens, hidden=frame.architecture.hidden, experts=moe.experts, top_k=moe.top_k,
    )  # fmt: skip


def _experts(
    frame: Frame, moe: MixtureOfExperts, inputs: tuple[str, str, str], out: str, routed: float, owed: tuple[str, ...]
) -> Op:
    parts = ("gate_proj", "up_proj", "down_proj")
    return Experts(
        name="experts", inputs=inputs, outputs=(out,), weights=tuple(f"mlp.experts.{p}.weight" for p in parts),
        biases=tuple(f"mlp.experts.{p}.bias" for p in parts) if moe.bias else (),
        load=expert_load(moe, frame.layout, routed, frame.options.expert_skew), hidden=frame.architecture.hidden,
        intermediate=moe.intermediate // frame.layout.expert_tp, dtype=frame.architecture.quantization.experts,
        activation=moe.activation, scale_input=moe.router.scale_input, owed=owed,
    )  # fmt: skip


def _gathered(frame: Frame, moe: MixtureOfExperts) -> Iterator[Op]:
    """Every rank of the block sees every token, computes its own experts, and the sums are reduced."""
    hidden, tokens = frame.architecture.hidden, frame.tokens
    unlike, alike = frame.unlike, frame.alike
    spread = frame.layout.size(unlike)
    everyone = ceil(frame.usual_tokens * spread) if spread > 1 else tokens
    source = "x"
    if spread > 1:
        source = "x_all"
        yield Collective(
            name="dispatch_all_gather", inputs=("x",), outputs=(source,), kind="all_gather", over=unlike,
            bytes=everyone * hidden * ELEMENT_BYTES[frame.options.dispatch_dtype],
        )  # fmt: skip
    yield _route(frame, moe, source, everyone)
    owed = tuple(axis for axis in ("dp_attention", "cp", "tp") if frame.layout.size((axis,)) > 1)
    yield _experts(frame, moe, (source, "expert_ids", "expert_weights"), "routed", everyone, owed)
    if moe.shared_intermediate:
        yield from _shared(frame, moe, "x", frame.layout.tp, tokens)
    if spread > 1:
        yield Collective(
            name="combine_reduce_scatter", inputs=("routed",), outputs=("routed",), kind="reduce_scatter", over=unlike,
            bytes=frame.activation_bytes(everyone, hidden), split_like=source,
        )  # fmt: skip
    if not moe.shared_intermediate:
        yield from reduce_delta(frame, "routed", "experts", alike)
        yield _renamed(frame, ("routed",))
    elif alike == ("tp",):  # both owe the same sum: pay it once
        yield Add(name="add_shared", inputs=("routed", "shared"), outputs=("delta",), tokens=tokens, features=hidden)
        yield from reduce_delta(frame, "delta", "experts", alike)
    else:
        yield from reduce_delta(frame, "routed", "experts", alike)
        yield from reduce_delta(frame, "shared", "shared_experts")
        yield _renamed(frame, ("routed", "shared"))


def _renamed(frame: Frame, names: tuple[str, ...]) -> Op:
    return Add(
        name="expert_output", inputs=names, outputs=("delta",), tokens=frame.residual_tokens,
        features=frame.architecture.hidden,
    )  # fmt: skip


def _dispatched(frame: Frame, moe: MixtureOfExperts) -> Iterator[Op]:
    """Each rank routes the tokens it alone owns and sends them to their experts by all_to_all."""
    hidden, layout = frame.architecture.hidden, frame.layout
    cut = tuple(a for a in frame.alike if not (a == "tp" and frame.sequence_parallel))
    own = -(-frame.residual_tokens // layout.size(cut))
    source = "x"
    if cut:
        source = "x_own"
        yield SliceTokens(name="own_tokens", inputs=("x",), outputs=(source,), over=cut, tokens=own, features=hidden)
    yield _route(frame, moe, source, own)
    if moe.shared_intermediate:
        yield from _shared(frame, moe, source, 1, own)
    yield from _exchange(frame, moe, source, own)
    names = ("routed", "shared") if moe.shared_intermediate else ("routed",)
    yield Add(name="expert_output", inputs=names, outputs=("delta",), tokens=own, features=hidden)
    if cut:
        yield Collective(
            name="own_all_gather", inputs=("delta",), outputs=("delta",), kind="all_gather", over=cut,
            bytes=frame.activation_bytes(frame.residual_tokens, hidden),
        )  # fmt: skip


def _own_share(frame: Frame) -> float:
    """Part of a data coordinate's tokens that one of its ranks alone owns."""
    return 1.0 / frame.layout.size(frame.alike)


def _carried(
    frame: Frame, moe: MixtureOfExperts, phase: Literal["dispatch", "combine"], tokens: int
) -> ExpertExchange | None:
    """The exchange for its kernel's price; None where NCCL's all_to_all carries it."""
    kernel = frame.options.expert_kernel
    if kernel == "nccl":
        return None
    if kernel == "auto":
        kernel = "deepep_low_latency" if frame.work.decode else "deepep_normal"
    slots = moe.experts + frame.layout.redundant_experts
    groups, kept = moe.router.groups, moe.router.groups_kept
    return ExpertExchange(phase, kernel, tokens, frame.architecture.hidden, moe.top_k, slots, groups, kept)


def _exchange(frame: Frame, moe: MixtureOfExperts, source: str, own: int) -> Iterator[Op]:
    hidden, layout, options = frame.architecture.hidden, frame.layout, frame.options
    inner = layout.expert_tp
    tokens, names = own * inner, [source, "expert_ids", "expert_weights"]
    owed: tuple[str, ...] = ()
    if inner > 1:
        owed = ("moe_tp",)
        for i, (name, width) in enumerate(zip(tuple(names), (hidden, moe.top_k, moe.top_k), strict=True)):
            names[i] = f"{name}_moe"
            yield Collective(
                name=f"{name}_moe_all_gather", inputs=(name,), outputs=(names[i],), kind="all_gather",
                over=("moe_tp",), bytes=frame.activation_bytes(tokens, width),
            )  # fmt: skip
    share = visit_share(moe, layout, options.expert_skew)
    visits = tokens * sum(share)
    # What arrives was sent by ranks of the usual load, whatever this rank's own is.
    usual = (
        tokens * frame.usual_tokens / frame.tokens if frame.tokens else frame.usual_tokens * _own_share(frame) * inner
    )
    received = usual * layout.ep * max(share)
    yield DispatchPack(name="dispatch_pack", inputs=tuple(names), outputs=("parcels",), tokens=tokens, hidden=hidden)
    yield Collective(
        name="dispatch", inputs=("parcels",), outputs=("received",), kind="all_to_all", over=("ep",), dim="stack",
        bytes=visits * hidden * ELEMENT_BYTES[options.dispatch_dtype], share=share,
        exchange=_carried(frame, moe, "dispatch", tokens), dtype=options.dispatch_dtype,
    )  # fmt: skip
    yield DispatchUnpack(
        name="dispatch_unpack", inputs=("received",), outputs=("rows", "row_ids", "row_weights"), tokens=received,
        hidden=hidden,
    )  # fmt: skip
    yield _experts(frame, moe, ("rows", "row_ids", "row_weights"), "expert_rows", usual * layout.ep, owed)
    yield CombinePack(
        name="combine_pack", inputs=("expert_rows", "received"), outputs=("answers",), tokens=received, hidden=hidden
    )
    yield Collective(
        name="combine", inputs=("answers",), outputs=("returned",), kind="all_to_all", over=("ep",), dim="stack",
        bytes=visits * hidden * ELEMENT_BYTES[options.combine_dtype], share=share, back=True,
        exchange=_carried(frame, moe, "combine", tokens), dtype=options.combine_dtype,
    )  # fmt: skip
    yield CombineUnpack(
        name="combine_unpack", inputs=("returned", "parcels", names[0]), outputs=("routed",), tokens=tokens,
        hidden=hidden, owed=owed,
    )  # fmt: skip
    if inner > 1:
        yield Collective(
            name="moe_tp_reduce_scatter", inputs=("routed",), outputs=("routed",), kind="reduce_scatter",
            over=("moe_tp",), bytes=frame.activation_bytes(tokens, hidden), split_like=names[0],
        )  # fmt: skip
