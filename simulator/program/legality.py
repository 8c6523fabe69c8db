"""What layouts a model can take; each refusal says which rule and a way out."""

from simulator.errors import LayoutError
from simulator.model.architecture import (
    Architecture,
    DenseMlp,
    GroupedQueryAttention,
    LatentAttention,
    Layer,
    LinearAttention,
    MixtureOfExperts,
)
from simulator.parallel.layout import Layout


def _divisors(*values: int) -> str:
    smallest = min(values)
    return ", ".join(str(d) for d in range(1, smallest + 1) if all(v % d == 0 for v in values))


def _check_attention(layer: Layer, tp: int) -> None:
    match layer.attention:
        case GroupedQueryAttention(heads=heads, kv_heads=kv_heads):
            if heads % tp:
                raise LayoutError(
                    where="tp",
                    given=str(tp),
                    rule=f"must divide num_attention_heads = {heads}",
                    way_out=f"use {_divisors(heads)}",
                )
            if kv_heads % tp and tp % kv_heads:
                legal = [d for d in range(1, heads + 1) if heads % d == 0 and (kv_heads % d == 0 or d % kv_heads == 0)]
                raise LayoutError(
                    where="tp",
                    given=str(tp),
                    rule=f"must divide num_key_value_heads = {kv_heads} or be a multiple of it",
                    way_out=f"use {', '.join(map(str, legal))}",
                )
        case LatentAttention(heads=heads):
            if heads % tp:
                raise LayoutError(
                    where="tp",
                    given=str(tp),
                    rule=f"must divide num_attention_heads = {heads}",
                    way_out=f"use {_divisors(heads)}",
                )
        case LinearAttention(key_heads=keys, value_heads=values):
            if keys % tp or values % tp:
                raise LayoutError(
                    where="tp",
                    given=str(tp),
                    rule=f"must divide the linear attention's heads {keys} and {values}",
                    way_out=f"use {_divisors(keys, values)}",
                )


def _check_feed_forward(layer: Layer, layout: Layout) -> None:
    match layer.feed_forward:
        case DenseMlp(intermediate=width):
            if width % layout.tp:
                raise LayoutError(
                    where="tp",
                    given=str(layout.tp),
                    rule=f"must divide intermediate_size = {width}",
                    way_out=f"use {_divisors(width, 1024)}",
                )
        case MixtureOfExperts() as moe:
            _check_experts(moe, layout)


def _check_experts(moe: MixtureOfExperts, layout: Layout) -> None:
    slots = moe.experts + layout.redundant_experts
    if layout.ep == 1 and layout.redundant_experts:
        raise LayoutError(
            where="redundant_experts",
            given=str(layout.redundant_experts),
            rule="copies of an expert relieve other ranks, and with ep = 1 there are none",
            way_out="use redundant_experts = 0, or more ep",
        )
    if layout.ep > slots:
        raise LayoutError(
            where="ep",
            given=str(layout.ep),
            rule=f"is larger than the number of experts {slots}",
            way_out=f"use at most {moe.experts}, or redundant_experts = {layout.ep - moe.experts}",
        )
    if slots % layout.ep:
        missing = -slots % layout.ep
        raise LayoutError(
            where="ep",
            given=str(layout.ep),
            rule=f"must divide experts + redundant_experts = {slots}",
            way_out=f"set redundant_experts = {layout.redundant_experts + missing}, or use ep of {_divisors(slots)}",
        )
    if moe.intermediate % layout.expert_tp:
        raise LayoutError(
            where="moe_tp",
            given=str(layout.expert_tp),
            rule=f"must divide moe_intermediate_size = {moe.intermediate}",
            way_out=f"use more ep; moe_tp may be {_divisors(moe.intermediate, 1024)}",
        )
    tp = layout.tp
    if moe.shared_intermediate % tp:
        raise LayoutError(
            where="tp", given=str(tp), rule=f"must divide the shared experts' width {moe.shared_intermediate}"
        )


def check_layout(architecture: Architecture, layout: Layout) -> None:
    """Raises LayoutError where the model cannot be cut this way."""
    for layer in architecture.distinct_layers:
        _check_attention(layer, layout.tp)
        _check_feed_forward(layer, layout)
        if layout.cp > 1 and isinstance(layer.attention, LinearAttention):
            raise LayoutError(
                where="cp",
                given=str(layout.cp),
                rule="linear attention is not built for context parallelism",
                way_out="use cp = 1",
            )
    moe = any(isinstance(layer.feed_forward, MixtureOfExperts) for layer in architecture.distinct_layers)
    if not moe and layout.ep > 1:
        raise LayoutError(
            where="ep", given=str(layout.ep), rule=f"{architecture.name} has no experts", way_out="use ep = 1"
        )
    if not moe and layout.redundant_experts:
        raise LayoutError(
            where="redundant_experts", given=str(layout.redundant_experts), rule=f"{architecture.name} has no experts"
        )
    if layout.pp > len(architecture.layers):
        raise LayoutError(
            where="pp",
            given=str(layout.pp),
            rule=f"exceeds the number of layers {len(architecture.layers)}",
            way_out=f"use at most {len(architecture.layers)}",
        )
    if layout.tp > architecture.vocab:
        raise LayoutError(where="tp", given=str(layout.tp), rule=f"exceeds the vocabulary {architecture.vocab}")
