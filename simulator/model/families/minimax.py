"""MiniMax-M2 (to M2.7) and M3, and Xiaomi's MiMo-V2-Flash: grouped-query attention, sigmoid routers.

Sources: transformers' modeling_minimax_m2.py (2026); config.json of MiniMax-M3 and MiMo-V2-Flash (2026).
"""

from dataclasses import replace
from typing import Literal

from simulator.model.architecture import DenseMlp, GroupedQueryAttention, Layer, MixtureOfExperts, Router
from simulator.model.config_reader import ConfigReader
from simulator.model.config_rope import partial_dim, rope_from
from simulator.model.families.common import Body, checked_experts, kv_heads, layer_count, mtp_note
from simulator.model.families.deepseek import deepseek_experts, deepseek_router
from simulator.model.families.llama import dense, grouped_query


def _router(config: ConfigReader) -> Router:
    sigmoid = config.one_of("scoring_func", ("softmax", "sigmoid"), "sigmoid") == "sigmoid"
    return Router(
        scoring="sigmoid" if sigmoid else "softmax",
        normalize=True,
        routed_scale=config.number("routed_scaling_factor", 1.0),
        correction_bias=config.boolean("use_routing_bias", True),
    )


def _experts(config: ConfigReader, activation: Literal["silu", "clamped_swiglu"] = "silu") -> MixtureOfExperts:
    moe = MixtureOfExperts(
        experts=config.integer("num_local_experts"),
        top_k=config.integer("num_experts_per_tok"),
        intermediate=config.integer("intermediate_size"),
        router=_router(config),
        activation=activation,
        shared_intermediate=config.integer("shared_intermediate_size", 0, least=0),
    )
    return checked_experts(config, moe, "num_local_experts")


def minimax_m2(config: ConfigReader) -> Body:
    """Every layer routed; RMSNorm over all heads of q and of k together, half-rotated heads."""
    attention = grouped_query(
        config,
        qkv_bias=False,
        output_bias=False,
        qk_norm="full" if config.boolean("use_qk_norm", True) else "none",
        theta_default=5_000_000.0,
    )
    layers = layer_count(config)
    return Body(
        layers=(Layer(attention, _experts(config)),) * layers,
        norm_eps=config.number("rms_norm_eps", 1e-6),
        notes=mtp_note(config, "num_mtp_modules") if config.boolean("use_mtp", False) else (),
    )


def _sparse(config: ConfigReader, attention: GroupedQueryAttention) -> GroupedQueryAttention:
    """Layers that read `sparse_topk_blocks` blocks of `sparse_block_size` keys."""
    sparse = config.nested("sparse_attention_config")
    return replace(
        attention,
        sparse_top_k=sparse.integer("sparse_topk_blocks") * sparse.integer("sparse_block_size"),
        indexer_heads=sparse.integer("sparse_num_index_heads"),
        indexer_head_dim=sparse.integer("sparse_index_dim"),
    )


def minimax_m3(config: ConfigReader) -> Body:
    """First layers dense with full attention; the rest routed with block-sparse attention. Priced only."""
    layers = layer_count(config)
    full = grouped_query(config, qkv_bias=False, output_bias=False, qk_norm="head", theta_default=5_000_000.0)
    sparse = _sparse(config, full)
    mlp = DenseMlp(config.integer("dense_intermediate_size"), activation="clamped_swiglu")
    moe = _experts(config, "clamped_swiglu")
    routed = config.integers("moe_layer_freq", layers)
    flags = config.nested("sparse_attention_config").integers("sparse_attention_freq", layers)
    built = tuple(
        Layer(sparse if narrow else full, moe if flag else mlp) for narrow, flag in zip(flags, routed, strict=True)
    )
    return Body(
        layers=built,
        norm_eps=config.number("rms_norm_eps", 1e-6),
        numbers_refused="block-sparse attention: the choice of key blocks is priced, not computed",
        notes=("the shape of the block indexer (index heads x dim for queries, one key) is assumed",),
    )


def mimo_v2(config: ConfigReader) -> Body:
    """MiMo-V2-Flash: windows of 128 in five layers of six, with their own KV heads, theta and sinks. Priced only."""
    layers = layer_count(config)
    full = replace(
        grouped_query(config, qkv_bias=config.boolean("attention_bias", False), output_bias=False),
        v_head_dim=config.integer("v_head_dim"),
        sinks=config.boolean("add_full_attention_sink_bias", False),
    )
    sliding = replace(
        full,
        kv_heads=kv_heads(config, "swa_num_key_value_heads", "swa_num_attention_heads"),
        heads=config.integer("swa_num_attention_heads"),
        window=config.integer("sliding_window"),
        sinks=config.boolean("add_swa_attention_sink_bias", True),
        rope=rope_from(config, partial_dim(config, full.head_dim), theta_key="swa_rope_theta"),
    )
    moe, mlp = deepseek_experts(config, deepseek_router(config, "sigmoid", normalize_default=True)), dense(config)
    pattern = config.integers("hybrid_layer_pattern", layers)
    routed = config.integers("moe_layer_freq", layers)
    built = tuple(
        Layer(sliding if slides else full, moe if flag else mlp) for slides, flag in zip(pattern, routed, strict=True)
    )
    return Body(
        layers=built,
        norm_eps=config.number("layernorm_epsilon", 1e-5),
        numbers_refused="attention_value_scale is priced, not computed",
        notes=mtp_note(config, "num_nextn_predict_layers"),
    )
