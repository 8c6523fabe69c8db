"""Hypothesis strategies for small architectures and the layouts they can take.

Sizes are uneven on purpose: no two of a model's widths need be equal, vocabularies and prompts do not divide
by anything, and there may be more data-parallel coordinates than prompts. A layout is drawn first, and the model
is then drawn so that the layout can cut it: nothing is filtered away.
"""

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from simulator.model.architecture import (
    Architecture,
    Attention,
    DenseMlp,
    FeedForward,
    GroupedQueryAttention,
    LatentAttention,
    Layer,
    MixtureOfExperts,
    Rope,
    Router,
)
from simulator.parallel.layout import AXES, Layout

MOST_RANKS = 12


@dataclass(frozen=True)
class Case:
    """A model, a layout it can take, and prompts."""

    architecture: Architecture
    layout: Layout
    prompts: tuple[tuple[int, ...], ...]


def divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


@st.composite
def layouts(draw: st.DrawFn, most_ranks: int = MOST_RANKS, layers: int = 3, experts: bool = True) -> Layout:
    """Sizes whose product stays small; the axis that gets its chance first differs from draw to draw."""
    left, sizes = most_ranks, dict.fromkeys(("tp", "pp", "dp", "cp", "dp_attention"), 1)
    for name in draw(st.permutations(tuple(sizes))):
        ceiling = {"pp": layers, "dp": 2}.get(name, 4)
        sizes[name] = draw(st.integers(1, max(1, min(left, ceiling))))
        left //= sizes[name]
    block = sizes["tp"] * sizes["cp"] * sizes["dp_attention"]
    ep = draw(st.sampled_from(divisors(block))) if experts else 1
    return Layout(
        **sizes,
        ep=ep,
        sequence_parallel=draw(st.booleans()),
        micro_batches=draw(st.integers(1, 3)),
        moe_dispatch=draw(st.sampled_from(("auto", "all_to_all", "all_gather"))),
        redundant_experts=draw(st.integers(0, 3)) if ep > 1 else 0,
        rank_order=tuple(draw(st.permutations(AXES))),
    )


@st.composite
def ropes(draw: st.DrawFn, head_dim: int) -> Rope | None:
    if draw(st.integers(0, 5)) == 0:
        return None
    dim = draw(st.sampled_from(range(2, head_dim + 1, 2)))
    return Rope(draw(st.sampled_from((50.0, 1e4))), dim, draw(st.booleans()))


@st.composite
def grouped_query(draw: st.DrawFn, tp: int) -> GroupedQueryAttention:
    """Heads that tp divides; KV heads below, at and above tp."""
    heads = tp * draw(st.integers(1, 4))
    kv_heads = draw(st.sampled_from([d for d in divisors(heads) if d % tp == 0 or tp % d == 0]))
    head_dim, v_head_dim = draw(st.sampled_from((4, 6, 8))), draw(st.sampled_from((4, 5, 8)))
    rope = draw(ropes(head_dim))
    local = draw(st.sampled_from(("all", "all", "window", "chunk")))
    return GroupedQueryAttention(
        heads, kv_heads, head_dim, v_head_dim, head_dim**-0.5, rope,
        qkv_bias=draw(st.booleans()), output_bias=draw(st.booleans()),
        qk_norm=draw(st.sampled_from(("none", "head", "full", "l2"))),
        window=draw(st.integers(2, 5)) if local == "window" else None,
        chunk=draw(st.integers(3, 6)) if local == "chunk" else None,
        sinks=draw(st.booleans()),
        temperature_tuning=(0.1, 3.0) if rope is None else None,
    )  # fmt: skip


@st.composite
def latent(draw: st.DrawFn, tp: int) -> LatentAttention:
    nope, rotated = draw(st.sampled_from((3, 6))), draw(st.sampled_from((2, 4)))
    return LatentAttention(
        heads=tp * draw(st.integers(1, 3)), q_lora_rank=draw(st.sampled_from((None, 9, 14))),
        kv_lora_rank=draw(st.sampled_from((7, 12))), nope_head_dim=nope, rope_head_dim=rotated,
        v_head_dim=draw(st.sampled_from((4, 5))), scale=(nope + rotated) ** -0.5,
        rope=Rope(1e4, rotated, draw(st.booleans())), qkv_bias=draw(st.booleans()),
    )  # fmt: skip


def attentions(tp: int) -> st.SearchStrategy[Attention]:
    return st.one_of(grouped_query(tp), grouped_query(tp), latent(tp))


@st.composite
def dense_blocks(draw: st.DrawFn, tp: int) -> DenseMlp:
    gated = draw(st.booleans())
    kinds = ("silu", "gelu_tanh", "clamped_swiglu") if gated else ("gelu", "gelu_tanh", "relu2")
    return DenseMlp(tp * draw(st.integers(3, 8)), gated, draw(st.sampled_from(kinds)), draw(st.booleans()))


@st.composite
def routers(draw: st.DrawFn, experts: int) -> tuple[Router, int]:
    """A router, and the most experts a token may choose with it."""
    scoring = draw(st.sampled_from(("softmax", "sigmoid", "softmax_topk")))
    sizes = [g for g in divisors(experts) if experts // g >= 2]
    groups = draw(st.sampled_from(sizes)) if scoring != "softmax_topk" and sizes else 1
    kept = draw(st.integers(1, groups))
    router = Router(
        scoring, normalize=draw(st.booleans()), routed_scale=draw(st.sampled_from((1.0, 2.5))), groups=groups,
        groups_kept=kept, group_score=draw(st.sampled_from(("top2_sum", "max"))),
        correction_bias=scoring == "sigmoid" and draw(st.booleans()), bias=draw(st.booleans()),
        scale_input=scoring == "sigmoid" and draw(st.booleans()),
    )  # fmt: skip
    return router, kept * (experts // groups)


@st.composite
def expert_blocks(draw: st.DrawFn, layout: Layout) -> MixtureOfExperts:
    """Experts that, with the layout's redundant ones, ep divides."""
    slots = layout.ep * draw(st.integers(1, 3))
    while slots - layout.redundant_experts < 2:
        slots += layout.ep
    experts = slots - layout.redundant_experts
    router, most = draw(routers(experts))
    clamped = draw(st.booleans())
    shared = draw(st.sampled_from((0, 5, 6))) * layout.tp
    return MixtureOfExperts(
        experts, draw(st.integers(1, min(most, 4))), layout.expert_tp * draw(st.integers(3, 6)), router,
        activation="clamped_swiglu" if clamped else "silu", bias=draw(st.booleans()), shared_intermediate=shared,
        shared_gate=bool(shared) and draw(st.booleans()),
    )  # fmt: skip


@st.composite
def architectures(draw: st.DrawFn, layout: Layout, layers: int = 3, experts: bool = True) -> Architecture:
    """One or two kinds of layer in any order; at least one MoE layer where the layout names experts."""
    needs = layout.ep > 1 or layout.redundant_experts > 0
    expert_kind = (
        [Layer(draw(attentions(layout.tp)), draw(expert_blocks(layout)))]
        if experts and (needs or draw(st.booleans()))
        else []
    )
    block: FeedForward = draw(dense_blocks(layout.tp))
    kinds = [*expert_kind, Layer(draw(attentions(layout.tp)), block)]
    count = draw(st.integers(max(layout.pp, len(kinds)), max(layers, layout.pp)))
    pattern = [*kinds, *(draw(st.sampled_from(kinds)) for _ in range(count - len(kinds)))]
    norm = draw(st.sampled_from(("rms", "rms", "layer")))
    return Architecture(
        "drawn", "drawn", draw(st.integers(9, 20)), draw(st.integers(17, 41)), tuple(draw(st.permutations(pattern))),
        1e-5, 64, draw(st.booleans()), norm=norm, learned_positions=draw(st.sampled_from((0, 0, 40))),
    )  # fmt: skip


@st.composite
def prompts(draw: st.DrawFn, vocab: int, most: int = 5, longest: int = 9) -> tuple[tuple[int, ...], ...]:
    token = st.integers(0, vocab - 1)
    return tuple(
        tuple(p) for p in draw(st.lists(st.lists(token, min_size=1, max_size=longest), min_size=1, max_size=most))
    )


@st.composite
def cases(draw: st.DrawFn, most_ranks: int = MOST_RANKS, experts: bool = True, **fixed: Any) -> Case:
    """Any small model under any layout it can take."""
    layout = draw(layouts(most_ranks, experts=experts))
    if fixed:
        layout = replace(layout, **fixed)
    architecture = draw(architectures(layout, experts=experts))
    if not any(isinstance(layer.feed_forward, MixtureOfExperts) for layer in architecture.layers):
        layout = replace(layout, redundant_experts=0)
    return Case(architecture, layout, draw(prompts(architecture.vocab)))
