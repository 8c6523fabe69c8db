"""Qwen3-Next and Qwen3.5: three gated delta-rule layers to one of full attention. Priced only.

Source: transformers' modeling_qwen3_next.py and modeling_qwen3_5_moe.py (2025-09, 2026-02).
"""

from dataclasses import replace

from simulator.model.architecture import DenseMlp, Layer, LinearAttention, MixtureOfExperts
from simulator.model.config_reader import ConfigReader
from simulator.model.families.common import Body, layer_count, mtp_note
from simulator.model.families.llama import dense, grouped_query
from simulator.model.families.mixture import is_sparse, qwen_experts

_REFUSED = "linear attention: the gated delta rule is priced, not computed"


def _linear(config: ConfigReader) -> LinearAttention:
    attention = LinearAttention(
        key_heads=config.integer("linear_num_key_heads"),
        value_heads=config.integer("linear_num_value_heads"),
        key_head_dim=config.integer("linear_key_head_dim"),
        value_head_dim=config.integer("linear_value_head_dim"),
        conv_kernel=config.integer("linear_conv_kernel_dim", 4),
    )
    if attention.value_heads % attention.key_heads:
        raise config.wrong(
            "linear_num_value_heads", f"must be a multiple of linear_num_key_heads = {attention.key_heads}"
        )
    return attention


def _linear_layers(config: ConfigReader, layers: int) -> tuple[bool, ...]:
    if not config.has("layer_types"):
        interval = config.integer("full_attention_interval", 4)
        return tuple((index + 1) % interval != 0 for index in range(layers))
    kinds = config.strings("layer_types", layers)
    if not set(kinds) <= {"linear_attention", "full_attention"}:
        raise config.wrong("layer_types", "must hold only linear_attention and full_attention")
    return tuple(kind == "linear_attention" for kind in kinds)


def _body(config: ConfigReader, feed_forward: tuple[DenseMlp | MixtureOfExperts, ...]) -> Body:
    bias = config.boolean("attention_bias", False)
    full = replace(
        grouped_query(
            config, qkv_bias=bias, output_bias=bias, qk_norm="head", theta_default=10_000_000.0, partial_default=0.25
        ),
        output_gate=config.boolean("attn_output_gate", True),
    )
    linear = _linear(config)
    flags = _linear_layers(config, len(feed_forward))
    return Body(
        layers=tuple(Layer(linear if flag else full, block) for flag, block in zip(flags, feed_forward, strict=True)),
        norm_eps=config.number("rms_norm_eps", 1e-6),
        numbers_refused=_REFUSED,
        notes=mtp_note(config, "mtp_num_hidden_layers"),
    )


def hybrid_moe(config: ConfigReader) -> Body:
    """Qwen3-Next and Qwen3.5-MoE: routed experts and a shared one behind a sigmoid gate."""
    layers = layer_count(config)
    moe = qwen_experts(config, shared=True, normalize_default=True)
    sparse = is_sparse(config, layers)
    mlp = moe if all(sparse) else dense(config)
    return _body(config, tuple(moe if routed else mlp for routed in sparse))


def hybrid_dense(config: ConfigReader) -> Body:
    """Qwen3.5 without experts."""
    return _body(config, (dense(config),) * layer_count(config))
