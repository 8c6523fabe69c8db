"""A small model of the same kind: the layer pattern, head counts and experts stay, widths shrink.

Whatever layout cuts the big model also cuts the miniature (tp and ep act on counts, which stay), so numbers
computed on the miniature speak for the sharding of the big one.
"""

from dataclasses import replace
from math import ceil, gcd, sqrt

from simulator.errors import ModelError
from simulator.model.architecture import (
    Architecture,
    Attention,
    FeedForward,
    GroupedQueryAttention,
    LatentAttention,
    Layer,
    LinearAttention,
    MixtureOfExperts,
    Rope,
    shared_layers,
)

WINDOW, CHUNK, SPARSE_TOP_K, TUNING_FLOOR = 5, 6, 3, 3.0
"""Small enough that a prompt of a dozen tokens crosses each of them; all different, so that a mix-up shows."""
KV_LORA, Q_LORA, OUTPUT_LORA, COMPRESSION = 24, 40, 12, 4
"""Latent ranks; no layout cuts them, and they differ from each other and from the default hidden size."""
_MOE_TP = 64
"""Tensor parallelism inside an expert stays legal up to this size."""


def kept_layers(architecture: Architecture, at_least: int = 2) -> tuple[int, ...]:
    """Indices of the layers a miniature keeps: the first, the last, and the first of each further kind, in order.

    `at_least` adds evenly spaced layers until there are that many (or all), so that a pipeline of that depth fits.
    """
    layers = architecture.layers
    kept = {0, len(layers) - 1}
    seen = {layers[index] for index in kept}
    for index, layer in enumerate(layers):
        if layer not in seen:
            seen.add(layer)
            kept.add(index)
    free = [index for index in range(len(layers)) if index not in kept]
    missing = min(at_least - len(kept), len(free))
    kept |= {free[position * len(free) // missing] for position in range(missing)}
    return tuple(sorted(kept))


def _even(size: float) -> int:
    return max(2, 2 * round(size / 2))


def _multiple(size: float, unit: int) -> int:
    """The least multiple of `unit` that is not below `size`."""
    return unit * ceil(size / unit)


def _rope(rope: Rope | None, head_dim: int, small: int) -> Rope | None:
    return None if rope is None else replace(rope, dim=min(small, _even(small * rope.dim / head_dim)))


def _grouped_query(a: GroupedQueryAttention, head_dim: int) -> GroupedQueryAttention:
    tuning = None if a.temperature_tuning is None else (a.temperature_tuning[0], TUNING_FLOOR)
    return replace(
        a,
        head_dim=head_dim,
        v_head_dim=_even(head_dim * a.v_head_dim / a.head_dim),
        scale=a.scale * sqrt(a.head_dim / head_dim),
        rope=_rope(a.rope, a.head_dim, head_dim),
        window=None if a.window is None else WINDOW,
        chunk=None if a.chunk is None else CHUNK,
        sparse_top_k=None if a.sparse_top_k is None else SPARSE_TOP_K,
        temperature_tuning=tuning,
        q_lora_rank=None if a.q_lora_rank is None else Q_LORA,
        output_lora_rank=None if a.output_lora_rank is None else OUTPUT_LORA,
        kv_compression=min(a.kv_compression, COMPRESSION),
        indexer_head_dim=head_dim if a.indexer_head_dim else 0,
    )


def _latent(a: LatentAttention, head_dim: int) -> LatentAttention:
    rotary = _even(head_dim * a.rope_head_dim / a.nope_head_dim)
    before, after = a.nope_head_dim + a.rope_head_dim, head_dim + rotary
    return replace(
        a,
        q_lora_rank=None if a.q_lora_rank is None else Q_LORA,
        kv_lora_rank=KV_LORA,
        nope_head_dim=head_dim,
        rope_head_dim=rotary,
        v_head_dim=_even(head_dim * a.v_head_dim / a.nope_head_dim),
        scale=a.scale * sqrt(before / after),
        rope=replace(a.rope, dim=rotary),
        sparse_top_k=None if a.sparse_top_k is None else SPARSE_TOP_K,
        indexer_head_dim=head_dim if a.indexer_head_dim else 0,
    )


def _attention(attention: Attention, head_dim: int) -> Attention:
    match attention:
        case GroupedQueryAttention():
            return _grouped_query(attention, head_dim)
        case LatentAttention():
            return _latent(attention, head_dim)
        case LinearAttention():
            return replace(attention, key_head_dim=head_dim, value_head_dim=head_dim)


def _experts(moe: MixtureOfExperts, intermediate: int, tp: int, max_experts: int | None) -> MixtureOfExperts:
    small = _multiple(intermediate, gcd(moe.intermediate, _MOE_TP))
    shared = small * moe.shared_intermediate / moe.intermediate
    experts, top_k = moe.experts, moe.top_k
    if max_experts is not None and max_experts < experts:
        group = max(2 if moe.router.groups > 1 else 1, max_experts // moe.router.groups)
        experts = group * moe.router.groups
        top_k = min(top_k, group * moe.router.groups_kept)
    return replace(
        moe,
        experts=experts,
        top_k=top_k,
        intermediate=small,
        shared_intermediate=_multiple(shared, gcd(moe.shared_intermediate, tp)) if moe.shared_intermediate else 0,
    )


def _heads(attention: Attention) -> int:
    """The largest tp this attention can take: a legal tp divides it."""
    if isinstance(attention, LinearAttention):
        return gcd(attention.key_heads, attention.value_heads)
    return attention.heads


def _checked(architecture: Architecture, layers: tuple[int, ...], sizes: dict[str, int]) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ModelError(where=f"miniature: {name}", given=str(size), rule="must be at least 1")
    if sizes["head_dim"] % 2:
        raise ModelError(
            where="miniature: head_dim", given=str(sizes["head_dim"]), rule="must be even: rotation acts on pairs"
        )
    count = len(architecture.layers)
    if not layers or any(not 0 <= index < count for index in layers):
        raise ModelError(
            where="miniature: layers", given=str(list(layers)), rule=f"must be layer indices from 0 to {count - 1}"
        )


def miniature(
    architecture: Architecture,
    *,
    layers: tuple[int, ...] | None = None,
    hidden: int = 64,
    head_dim: int = 8,
    intermediate: int = 96,
    expert_intermediate: int = 16,
    vocab: int = 256,
    max_experts: int | None = None,
) -> Architecture:
    """The same family at small widths, with the layers of index `layers` (default: `kept_layers`).

    Head counts, KV-head counts, experts, top_k and groups stay (`max_experts` alone may cut experts; layouts
    with larger ep are then no longer legal). `intermediate` and `expert_intermediate` are least sizes: they are
    rounded up so that every tp legal on the big model, and tensor parallelism inside an expert up to 64, stays
    legal. Windows, chunks and latent ranks shrink too, and the softmax scale follows the head size with its
    YaRN factor kept. Raises ModelError for sizes below 1, an odd head_dim, or layers that do not exist.
    """
    chosen = kept_layers(architecture) if layers is None else layers
    sizes = {"hidden": hidden, "head_dim": head_dim, "intermediate": intermediate, "vocab": vocab}
    sizes |= {"expert_intermediate": expert_intermediate, "max_experts": 1 if max_experts is None else max_experts}
    _checked(architecture, chosen, sizes)
    tp = gcd(*(_heads(layer.attention) for layer in architecture.distinct_layers))

    def feed_forward(block: FeedForward) -> FeedForward:
        if isinstance(block, MixtureOfExperts):
            return _experts(block, expert_intermediate, tp, max_experts)
        return replace(block, intermediate=_multiple(intermediate, gcd(block.intermediate, tp)))

    small: dict[Layer, Layer] = {
        layer: Layer(_attention(layer.attention, head_dim), feed_forward(layer.feed_forward))
        for layer in architecture.distinct_layers
    }
    return replace(
        architecture,
        name=f"{architecture.name} (miniature)",
        hidden=hidden,
        vocab=vocab,
        layers=shared_layers(small[architecture.layers[index]] for index in chosen),
        notes=(*architecture.notes, f"miniature of layers {', '.join(map(str, chosen))}"),
    )
