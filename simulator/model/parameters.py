"""Every tensor of a model, by its Hugging Face name, with named axes.

One list serves the parameter count, the memory of a shard, random weights and the sharding rules
(which look at axis names, never at positions).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Literal

from simulator.model.architecture import (
    Architecture,
    DenseMlp,
    FeedForward,
    GroupedQueryAttention,
    LatentAttention,
    Layer,
    LinearAttention,
    MixtureOfExperts,
)

Kind = Literal["embedding", "head", "attention", "mlp", "expert", "router", "shared_expert", "norm"]


@dataclass(frozen=True, slots=True)
class Axis:
    """A named axis of `count` units, each `width` elements wide; sharding cuts between units."""

    name: str
    count: int
    width: int = 1

    @property
    def size(self) -> int:
        """Elements along the axis."""
        return self.count * self.width


@dataclass(frozen=True, slots=True)
class Parameter:
    """One weight tensor; `name` is relative to its layer (`self_attn.q_proj.weight`)."""

    name: str
    axes: tuple[Axis, ...]
    kind: Kind

    @property
    def shape(self) -> tuple[int, ...]:
        """Unsharded shape."""
        return tuple(axis.size for axis in self.axes)

    @property
    def size(self) -> int:
        """Unsharded number of elements."""
        return prod(self.shape)


def _linear(name: str, out: Axis, inner: Axis, kind: Kind, bias: bool = False) -> Iterator[Parameter]:
    yield Parameter(f"{name}.weight", (out, inner), kind)
    if bias:
        yield Parameter(f"{name}.bias", (out,), kind)


def _queries(a: GroupedQueryAttention, hidden: Axis) -> Iterator[Parameter]:
    heads = Axis("heads", a.heads, a.head_dim * (2 if a.output_gate else 1))
    if a.q_lora_rank is None:
        yield from _linear("self_attn.q_proj", heads, hidden, "attention", a.qkv_bias)
        return
    rank = Axis("q_lora", a.q_lora_rank)
    yield from _linear("self_attn.q_a_proj", rank, hidden, "attention", a.qkv_bias)
    yield Parameter("self_attn.q_a_norm.weight", (rank,), "norm")
    yield from _linear("self_attn.q_b_proj", heads, rank, "attention")


def _heads_output(a: GroupedQueryAttention, hidden: Axis) -> Iterator[Parameter]:
    if a.output_lora_rank is None:
        yield from _linear("self_attn.o_proj", hidden, Axis("heads", a.heads, a.v_head_dim), "attention", a.output_bias)
        return
    ranks = Axis("heads", a.output_groups, a.output_lora_rank)  # groups of heads are cut as heads are
    group = Axis("group_features", a.heads * a.v_head_dim // a.output_groups)
    yield from _linear("self_attn.o_a_proj", ranks, group, "attention")
    yield from _linear("self_attn.o_b_proj", hidden, ranks, "attention", a.output_bias)


def _qk_norms(a: GroupedQueryAttention) -> Iterator[Parameter]:
    if a.qk_norm == "head":
        yield Parameter("self_attn.q_norm.weight", (Axis("head_dim", a.head_dim),), "norm")
        yield Parameter("self_attn.k_norm.weight", (Axis("head_dim", a.head_dim),), "norm")
    if a.qk_norm == "full":
        yield Parameter("self_attn.q_norm.weight", (Axis("heads", a.heads, a.head_dim),), "norm")
        yield Parameter("self_attn.k_norm.weight", (Axis("kv_heads", a.kv_heads, a.head_dim),), "norm")


def _grouped_query(a: GroupedQueryAttention, hidden: Axis) -> Iterator[Parameter]:
    yield from _queries(a, hidden)
    keys, values = Axis("kv_heads", a.kv_heads, a.head_dim), Axis("kv_heads", a.kv_heads, a.v_head_dim)
    yield from _linear("self_attn.k_proj", keys, hidden, "attention", a.qkv_bias)
    if not a.shared_kv:
        yield from _linear("self_attn.v_proj", values, hidden, "attention", a.qkv_bias)
    yield from _heads_output(a, hidden)
    yield from _qk_norms(a)
    if a.sinks:
        yield Parameter("self_attn.sinks", (Axis("heads", a.heads),), "attention")
    if a.kv_compression > 1:
        series = 2 if a.indexer_heads else 1  # overlapping windows keep two series (DeepSeek-V4's CSA)
        yield from _compressor("self_attn.compressor", a.head_dim * series, a.kv_compression, hidden)
    if a.indexer_heads:
        inner = Axis("q_lora", a.q_lora_rank) if a.q_lora_rank else hidden
        yield from _indexer(a.indexer_heads, a.indexer_head_dim, inner, hidden, a.kv_compression)


def _compressor(name: str, width: int, tokens: int, hidden: Axis) -> Iterator[Parameter]:
    entry = Axis("entry", width)
    yield from _linear(f"{name}.kv_proj", entry, hidden, "attention")
    yield from _linear(f"{name}.gate_proj", entry, hidden, "attention")
    yield Parameter(f"{name}.position_bias", (Axis("window", tokens), entry), "attention")


def _indexer(heads: int, head_dim: int, inner: Axis, hidden: Axis, tokens: int = 1) -> Iterator[Parameter]:
    """The indexer that chooses keys: queries, one key a token (or a compressed key a window), head weights."""
    yield from _linear("self_attn.indexer.wq_b", Axis("indexer", heads * head_dim), inner, "attention")
    if tokens > 1:
        yield from _compressor("self_attn.indexer.compressor", 2 * head_dim, tokens, hidden)
    else:
        yield from _linear("self_attn.indexer.wk", Axis("indexer_dim", head_dim), hidden, "attention")
    yield from _linear("self_attn.indexer.weights_proj", Axis("indexer_heads", heads), hidden, "attention")


def _latent(a: LatentAttention, hidden: Axis) -> Iterator[Parameter]:
    q_heads = Axis("heads", a.heads, a.nope_head_dim + a.rope_head_dim)
    if a.q_lora_rank is None:
        yield from _linear("self_attn.q_proj", q_heads, hidden, "attention")
    else:
        rank = Axis("q_lora", a.q_lora_rank)
        yield from _linear("self_attn.q_a_proj", rank, hidden, "attention", a.qkv_bias)
        yield Parameter("self_attn.q_a_layernorm.weight", (rank,), "norm")
        yield from _linear("self_attn.q_b_proj", q_heads, rank, "attention")
    kv_rank = Axis("kv_lora", a.kv_lora_rank)
    joint = Axis("kv_lora_and_rope", a.kv_lora_rank + a.rope_head_dim)
    yield from _linear("self_attn.kv_a_proj_with_mqa", joint, hidden, "attention", a.qkv_bias)
    yield Parameter("self_attn.kv_a_layernorm.weight", (kv_rank,), "norm")
    yield from _linear(
        "self_attn.kv_b_proj", Axis("heads", a.heads, a.nope_head_dim + a.v_head_dim), kv_rank, "attention"
    )
    yield from _linear("self_attn.o_proj", hidden, Axis("heads", a.heads, a.v_head_dim), "attention", a.qkv_bias)
    if a.indexer_heads:
        inner = Axis("q_lora", a.q_lora_rank) if a.q_lora_rank else hidden
        yield from _indexer(a.indexer_heads, a.indexer_head_dim, inner, hidden)


def _linear_attention(a: LinearAttention, hidden: Axis) -> Iterator[Parameter]:
    keys = Axis("heads", a.key_heads, a.key_head_dim)
    values = Axis("heads", a.value_heads, a.value_head_dim)
    gates = Axis("heads", a.value_heads)
    for name, out in (("q", keys), ("k", keys), ("v", values), ("z", values), ("a", gates), ("b", gates)):
        yield from _linear(f"linear_attn.in_proj_{name}", out, hidden, "attention")
    for name, out in (("q", keys), ("k", keys), ("v", values)):
        yield Parameter(f"linear_attn.conv1d_{name}.weight", (out, Axis("conv", a.conv_kernel)), "attention")
    yield Parameter("linear_attn.A_log", (gates,), "attention")
    yield Parameter("linear_attn.dt_bias", (gates,), "attention")
    yield Parameter("linear_attn.norm.weight", (Axis("head_dim", a.value_head_dim),), "norm")
    yield from _linear("linear_attn.out_proj", hidden, values, "attention")


def _mlp(mlp: DenseMlp, hidden: Axis) -> Iterator[Parameter]:
    inner = Axis("intermediate", mlp.intermediate)
    if mlp.gated:
        yield from _linear("mlp.gate_proj", inner, hidden, "mlp", mlp.bias)
    yield from _linear("mlp.up_proj", inner, hidden, "mlp", mlp.bias)
    yield from _linear("mlp.down_proj", hidden, inner, "mlp", mlp.bias)


def _experts(moe: MixtureOfExperts, hidden: Axis) -> Iterator[Parameter]:
    experts, inner = Axis("experts", moe.experts), Axis("expert_intermediate", moe.intermediate)
    yield Parameter("mlp.gate.weight", (Axis("all_experts", moe.experts), hidden), "router")
    if moe.router.bias:
        yield Parameter("mlp.gate.bias", (Axis("all_experts", moe.experts),), "router")
    if moe.router.correction_bias:
        yield Parameter("mlp.gate.e_score_correction_bias", (Axis("all_experts", moe.experts),), "router")
    for name, axes in (
        ("gate_proj", (experts, inner, hidden)),
        ("up_proj", (experts, inner, hidden)),
        ("down_proj", (experts, hidden, inner)),
    ):
        yield Parameter(f"mlp.experts.{name}.weight", axes, "expert")
        if moe.bias:
            yield Parameter(f"mlp.experts.{name}.bias", axes[:2], "expert")
    if moe.shared_intermediate:
        shared = Axis("intermediate", moe.shared_intermediate)
        yield from _linear("mlp.shared_experts.gate_proj", shared, hidden, "shared_expert")
        yield from _linear("mlp.shared_experts.up_proj", shared, hidden, "shared_expert")
        yield from _linear("mlp.shared_experts.down_proj", hidden, shared, "shared_expert")
    if moe.shared_gate:
        yield Parameter("mlp.shared_expert_gate.weight", (Axis("one", 1), hidden), "router")


def _feed_forward(block: FeedForward, hidden: Axis) -> Iterator[Parameter]:
    match block:
        case DenseMlp():
            yield from _mlp(block, hidden)
        case MixtureOfExperts():
            yield from _experts(block, hidden)


@lru_cache(maxsize=1024)
def _layer_parameters(hidden_size: int, norm: Literal["rms", "layer"], layer: Layer) -> tuple[Parameter, ...]:
    hidden = Axis("hidden", hidden_size)
    found: list[Parameter] = []
    match layer.attention:
        case GroupedQueryAttention() as a:
            found += _grouped_query(a, hidden)
        case LatentAttention() as a:
            found += _latent(a, hidden)
        case LinearAttention() as a:
            found += _linear_attention(a, hidden)
    found += _feed_forward(layer.feed_forward, hidden)
    for name in ("input_layernorm", "post_attention_layernorm"):
        found.append(Parameter(f"{name}.weight", (hidden,), "norm"))
        if norm == "layer":
            found.append(Parameter(f"{name}.bias", (hidden,), "norm"))
    return tuple(found)


def layer_parameters(architecture: Architecture, layer: Layer) -> tuple[Parameter, ...]:
    """The tensors of one layer, names relative to it; experts are stacked on a leading axis.

    Cached by (hidden, norm, layer): hashing a whole architecture of 100 layers a call would cost more than the list.
    """
    return _layer_parameters(architecture.hidden, architecture.norm, layer)


def outer_parameters(architecture: Architecture) -> tuple[Parameter, ...]:
    """Embedding, final norm and head (none where it is tied to the embedding)."""
    hidden, vocab = Axis("hidden", architecture.hidden), Axis("vocab", architecture.vocab)
    found = [
        Parameter("embed_tokens.weight", (vocab, hidden), "embedding"),
        Parameter("norm.weight", (hidden,), "norm"),
    ]
    if architecture.norm == "layer":
        found.append(Parameter("norm.bias", (hidden,), "norm"))
    if architecture.learned_positions:
        positions = Axis("positions", architecture.learned_positions)
        found.append(Parameter("embed_positions.weight", (positions, hidden), "embedding"))
    if not architecture.tie_embeddings:
        found.append(Parameter("lm_head.weight", (vocab, hidden), "head"))
    return tuple(found)
