"""Mixtral, Qwen2-MoE, Qwen3-MoE and gpt-oss: grouped-query attention with routed experts.

Sources: transformers' modeling_mixtral.py, modeling_qwen2_moe.py, modeling_qwen3_moe.py and
modeling_gpt_oss.py (v5.0, 2025-12).
"""

from dataclasses import replace

from simulator.model.architecture import GroupedQueryAttention, Layer, MixtureOfExperts, Router
from simulator.model.config_reader import ConfigReader
from simulator.model.families.common import Body, checked_experts, layer_count
from simulator.model.families.llama import dense, grouped_query, windowed

GPT_OSS_SWIGLU_LIMIT = 7.0
"""Clamp of gpt-oss's SwiGLU (openai/gpt-oss-120b config.json, 2025-08); its slope 1.702 is in the model's code."""


def mixtral(config: ConfigReader) -> Body:
    """Softmax over all experts, top-k, weights divided by their sum; every layer routed."""
    layers = layer_count(config)
    moe = MixtureOfExperts(
        experts=config.integer("num_local_experts", 8),
        top_k=config.integer("num_experts_per_tok", 2),
        intermediate=config.integer("intermediate_size"),
        router=Router(scoring="softmax", normalize=True),
    )
    moe = checked_experts(config, moe, "num_local_experts")
    attention = grouped_query(config, qkv_bias=False, output_bias=False, theta_default=1_000_000.0)
    built = tuple(Layer(attention=a, feed_forward=moe) for a in windowed(config, attention, layers))
    return Body(layers=built, norm_eps=config.number("rms_norm_eps", 1e-5))


def qwen_experts(config: ConfigReader, shared: bool, normalize_default: bool) -> MixtureOfExperts:
    """Qwen's routed experts, with a gated shared expert where the family has one."""
    # transformers 5.23 writes Qwen3-MoE's count under Mixtral's name.
    key = "num_local_experts" if config.has("num_local_experts") and not config.has("num_experts") else "num_experts"
    moe = MixtureOfExperts(
        experts=config.integer(key),
        top_k=config.integer("num_experts_per_tok"),
        intermediate=config.integer("moe_intermediate_size"),
        router=Router(scoring="softmax", normalize=config.boolean("norm_topk_prob", normalize_default)),
        shared_intermediate=config.integer("shared_expert_intermediate_size") if shared else 0,
        shared_gate=shared,
    )
    return checked_experts(config, moe, key)


def is_sparse(config: ConfigReader, layers: int) -> tuple[bool, ...]:
    """Which layers are routed: every `decoder_sparse_step`-th, less `mlp_only_layers`."""
    step = config.integer("decoder_sparse_step", 1)
    dense_layers = config.indices("mlp_only_layers", layers)
    return tuple(index not in dense_layers and (index + 1) % step == 0 for index in range(layers))


def _qwen_layers(config: ConfigReader, attention: GroupedQueryAttention, moe: MixtureOfExperts) -> tuple[Layer, ...]:
    layers = layer_count(config)
    sparse = is_sparse(config, layers)
    mlp = moe if all(sparse) else dense(config)
    attentions = windowed(config, attention, layers)
    return tuple(Layer(a, moe if routed else mlp) for a, routed in zip(attentions, sparse, strict=True))


def qwen3_moe(config: ConfigReader) -> Body:
    """Qwen3-MoE: as Qwen3 with 128 fine-grained experts and no shared one."""
    usual = {"use_sliding_window": False} if not config.has("use_sliding_window") else {}
    known = ConfigReader({**config.items, **usual}, config.where)
    bias = known.boolean("attention_bias", False)
    attention = grouped_query(known, qkv_bias=bias, output_bias=bias, qk_norm="head", theta_default=1_000_000.0)
    moe = qwen_experts(known, shared=False, normalize_default=False)
    return Body(layers=_qwen_layers(known, attention, moe), norm_eps=known.number("rms_norm_eps", 1e-6))


def qwen2_moe(config: ConfigReader) -> Body:
    """Qwen1.5-MoE and Qwen2-57B-A14B: biases on q, k, v and a shared expert behind a sigmoid gate."""
    usual = {"use_sliding_window": False} if not config.has("use_sliding_window") else {}
    known = ConfigReader({**config.items, **usual}, config.where)
    attention = grouped_query(known, qkv_bias=True, output_bias=False)
    moe = qwen_experts(known, shared=True, normalize_default=False)
    return Body(layers=_qwen_layers(known, attention, moe), norm_eps=known.number("rms_norm_eps", 1e-6))


def gpt_oss(config: ConfigReader) -> Body:
    """gpt-oss: alternating windows (sliding first), a sink a head, biases everywhere, clamped SwiGLU."""
    layers = layer_count(config)
    kinds = ["sliding_attention" if index % 2 == 0 else "full_attention" for index in range(layers)]
    known = ConfigReader({"layer_types": kinds, **config.items}, config.where)
    bias = known.boolean("attention_bias", True)
    attention = grouped_query(known, qkv_bias=bias, output_bias=bias, theta_default=150_000.0)
    attention = replace(attention, sinks=True)
    moe = MixtureOfExperts(
        experts=known.integer("num_local_experts"),
        top_k=known.integer("num_experts_per_tok"),
        intermediate=known.integer("intermediate_size"),
        router=Router(scoring="softmax_topk", normalize=False, bias=True),
        activation="clamped_swiglu",
        bias=True,
    )
    moe = checked_experts(known, moe, "num_local_experts")
    limit = known.number("swiglu_limit", GPT_OSS_SWIGLU_LIMIT)
    refused = (
        "" if limit == GPT_OSS_SWIGLU_LIMIT else f"swiglu_limit {limit:g} is built only as {GPT_OSS_SWIGLU_LIMIT:g}"
    )
    built = tuple(Layer(attention=a, feed_forward=moe) for a in windowed(known, attention, layers))
    return Body(layers=built, norm_eps=known.number("rms_norm_eps", 1e-5), numbers_refused=refused)
