"""Llama 4 Scout and Maverick: chunked local layers, every fourth layer without positions, one routed expert a token.

Source: transformers' modeling_llama4.py and configuration_llama4.py (v5.0, 2025-12).
"""

from dataclasses import replace

from simulator.model.architecture import GroupedQueryAttention, Layer, MixtureOfExperts, Router
from simulator.model.config_reader import ConfigReader
from simulator.model.families.common import Body, checked_experts, layer_count
from simulator.model.families.llama import dense, grouped_query

_TUNING_SCALE, _TUNING_FLOOR = 0.1, 8192.0
"""Defaults of Llama4TextConfig: attn_scale and floor_scale."""


def _attentions(config: ConfigReader) -> tuple[GroupedQueryAttention, GroupedQueryAttention]:
    """(local layers: rotated and chunked; global layers: no positions, queries tuned by their position)."""
    bias = config.boolean("attention_bias", False)
    usual = grouped_query(config, qkv_bias=bias, output_bias=bias, theta_default=500_000.0)
    normed = config.boolean("use_qk_norm", True)
    local = replace(
        usual,
        rope=None if usual.rope is None else replace(usual.rope, interleaved=True),
        qk_norm="l2" if normed else "none",
        chunk=config.integer("attention_chunk_size", 8192),
    )
    tuned = config.boolean("attn_temperature_tuning", True)
    scale, floor = config.number("attn_scale", _TUNING_SCALE), config.number("floor_scale", _TUNING_FLOOR)
    return local, replace(usual, rope=None, temperature_tuning=(scale, floor) if tuned else None)


def _rotated(config: ConfigReader, layers: int) -> tuple[bool, ...]:
    """Which layers rotate positions: `no_rope_layers` (1: rotates), else all but every fourth."""
    if isinstance(config.items.get("no_rope_layers"), list) and config.items["no_rope_layers"]:
        return tuple(bool(flag) for flag in config.integers("no_rope_layers", layers))
    interval = config.integer("no_rope_layer_interval", 4)
    return tuple((index + 1) % interval != 0 for index in range(layers))


def llama4(config: ConfigReader) -> Body:
    """The text model; a vision tower is left out."""
    # attn_temperature_tuning was written as 4 (for "on") in early releases of Scout's config
    known = ConfigReader(
        {**config.items, "attn_temperature_tuning": bool(config.items.get("attn_temperature_tuning", True))},
        config.where,
    )
    layers = layer_count(known)
    width = known.integer("intermediate_size")
    moe = MixtureOfExperts(
        experts=known.integer("num_local_experts"),
        top_k=known.integer("num_experts_per_tok", 1),
        intermediate=width,
        router=Router(scoring="sigmoid", normalize=False, scale_input=True),
        shared_intermediate=width,
    )
    moe = checked_experts(known, moe, "num_local_experts")
    step = known.integer("interleave_moe_layer_step", 1)
    routed = (
        known.indices("moe_layers", layers) if known.has("moe_layers") else frozenset(range(step - 1, layers, step))
    )
    mlp = moe if len(routed) == layers else dense(known, "intermediate_size_mlp")
    local, globally = _attentions(known)
    built = tuple(
        Layer(local if rotated else globally, moe if index in routed else mlp)
        for index, rotated in enumerate(_rotated(known, layers))
    )
    return Body(layers=built, norm_eps=known.number("rms_norm_eps", 1e-5))
