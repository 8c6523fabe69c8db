"""Llama 2/3, Yi, CodeLlama, Mistral, Qwen2/2.5, Qwen3: grouped-query attention and a gated dense block.

Sources: transformers' modeling_llama.py, modeling_mistral.py, modeling_qwen2.py, modeling_qwen3.py (v5.0, 2025-12).
"""

from dataclasses import replace
from typing import Literal

from simulator.model.architecture import DenseMlp, GroupedQueryAttention, Layer
from simulator.model.config_reader import ConfigReader
from simulator.model.config_rope import partial_dim, rope_from
from simulator.model.families.common import Body, head_dim, kv_heads, layer_count

_ACTIVATION: dict[str, Literal["silu", "gelu", "gelu_tanh", "relu2"]] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu2": "relu2",
}
_LAYER_TYPES = {"full_attention", "sliding_attention"}


def grouped_query(
    config: ConfigReader,
    *,
    qkv_bias: bool,
    output_bias: bool,
    qk_norm: Literal["none", "head", "full", "l2"] = "none",
    theta_default: float = 10_000.0,
    partial_default: float = 1.0,
) -> GroupedQueryAttention:
    """Full-attention heads with halves-rotated positions and the usual scale of 1/sqrt(head_dim)."""
    dim = head_dim(config)
    return GroupedQueryAttention(
        heads=config.integer("num_attention_heads"),
        kv_heads=kv_heads(config),
        head_dim=dim,
        v_head_dim=dim,
        scale=dim**-0.5,
        rope=rope_from(config, partial_dim(config, dim, partial_default), theta_default),
        qkv_bias=qkv_bias,
        output_bias=output_bias,
        qk_norm=qk_norm,
    )


def dense(config: ConfigReader, key: str = "intermediate_size") -> DenseMlp:
    """The gated block gate, up, down."""
    name = config.one_of("hidden_act", tuple(_ACTIVATION), "silu")
    return DenseMlp(config.integer(key), activation=_ACTIVATION[name], bias=config.boolean("mlp_bias", False))


def layer_types(config: ConfigReader, layers: int) -> tuple[str, ...]:
    """One of full_attention and sliding_attention a layer, by `layer_types` or the older sliding-window keys.

    Qwen slides from layer `max_window_layers` on, and only where `use_sliding_window`; Mistral in all layers.
    """
    if config.has("layer_types"):
        kinds = config.strings("layer_types", layers)
        if not set(kinds) <= _LAYER_TYPES:
            raise config.wrong("layer_types", f"must hold only {', '.join(sorted(_LAYER_TYPES))}")
        return kinds
    window = config.has("sliding_window") and config.boolean("use_sliding_window", True)
    first = config.integer("max_window_layers", 0, least=0) if config.has("use_sliding_window") else 0
    return tuple("sliding_attention" if window and index >= first else "full_attention" for index in range(layers))


def windowed(config: ConfigReader, attention: GroupedQueryAttention, layers: int) -> tuple[GroupedQueryAttention, ...]:
    """One attention a layer, those of sliding layers with the config's window."""
    kinds = layer_types(config, layers)
    if "sliding_attention" not in kinds:
        return (attention,) * layers
    sliding = replace(attention, window=config.integer("sliding_window"))
    return tuple(sliding if kind == "sliding_attention" else attention for kind in kinds)


def _body(config: ConfigReader, attention: GroupedQueryAttention, eps: float = 1e-6) -> Body:
    layers = layer_count(config)
    mlp = dense(config)
    built = tuple(Layer(attention=a, feed_forward=mlp) for a in windowed(config, attention, layers))
    return Body(layers=built, norm_eps=config.number("rms_norm_eps", eps))


def llama(config: ConfigReader) -> Body:
    """Llama 1 to 3, Yi, CodeLlama; also Mistral and Mistral-Nemo, which add windows and head_dim."""
    bias = config.boolean("attention_bias", False)
    return _body(config, grouped_query(config, qkv_bias=bias, output_bias=bias))


def qwen2(config: ConfigReader) -> Body:
    """Qwen2 and Qwen2.5: biases on q, k and v always; windows only where switched on."""
    usual = {"use_sliding_window": False} if not config.has("use_sliding_window") else {}
    known = ConfigReader({**config.items, **usual}, config.where)
    return _body(known, grouped_query(known, qkv_bias=True, output_bias=False, theta_default=1_000_000.0))


def qwen3(config: ConfigReader) -> Body:
    """Qwen3 dense: RMSNorm over each head of q and k."""
    usual = {"use_sliding_window": False} if not config.has("use_sliding_window") else {}
    known = ConfigReader({**config.items, **usual}, config.where)
    bias = known.boolean("attention_bias", False)
    attention = grouped_query(known, qkv_bias=bias, output_bias=bias, qk_norm="head", theta_default=1_000_000.0)
    return _body(known, attention)
