"""DeepSeek-MoE 16B, V2, V3/R1/V3.1, V3.2 and Kimi-K2: latent attention, shared experts, first layers dense.

Sources: modeling_deepseek.py published with each model; transformers' modeling_deepseek_v3.py (v5.0, 2025-12);
DeepSeek-V3 report, arXiv:2412.19437, section 2.1.
"""

from dataclasses import replace
from typing import Literal

from simulator.model.architecture import Attention, LatentAttention, Layer, MixtureOfExperts, Router
from simulator.model.config_reader import ConfigReader
from simulator.model.config_rope import latent_scale, rope_from
from simulator.model.families.common import Body, checked_experts, layer_count, mtp_note
from simulator.model.families.llama import dense, grouped_query

SPARSE_REFUSED = "sparse attention: the indexer's choice of keys is priced, not computed"


def latent(config: ConfigReader) -> LatentAttention:
    """MLA heads; positions rotate interleaved pairs unless `rope_interleave` says otherwise."""
    nope, rotary = config.integer("qk_nope_head_dim"), config.integer("qk_rope_head_dim", least=2)
    if rotary % 2:
        raise config.wrong("qk_rope_head_dim", "must be even: rotation acts on pairs")
    rope = rope_from(config, rotary, interleaved=config.boolean("rope_interleave", True))
    return LatentAttention(
        heads=config.integer("num_attention_heads"),
        q_lora_rank=config.optional_integer("q_lora_rank"),
        kv_lora_rank=config.integer("kv_lora_rank"),
        nope_head_dim=nope,
        rope_head_dim=rotary,
        v_head_dim=config.integer("v_head_dim"),
        scale=latent_scale(nope + rotary, rope),
        rope=rope,
        qkv_bias=config.boolean("attention_bias", False),
    )


def deepseek_router(config: ConfigReader, scoring_default: str, normalize_default: bool) -> Router:
    """The router by `scoring_func` and `topk_method`: greedy, group_limited_greedy (V2) or noaux_tc (V3)."""
    scoring: Literal["softmax", "sigmoid"] = (
        "sigmoid" if config.one_of("scoring_func", ("softmax", "sigmoid"), scoring_default) == "sigmoid" else "softmax"
    )
    usual = "noaux_tc" if scoring == "sigmoid" else "group_limited_greedy"
    method = config.one_of("topk_method", ("greedy", "group_limited_greedy", "noaux_tc"), usual)
    grouped = method != "greedy"
    return Router(
        scoring=scoring,
        normalize=config.boolean("norm_topk_prob", normalize_default),
        routed_scale=config.number("routed_scaling_factor", 1.0),
        groups=config.integer("n_group", 1) if grouped else 1,
        groups_kept=config.integer("topk_group", 1) if grouped else 1,
        group_score="top2_sum" if method == "noaux_tc" else "max",
        correction_bias=method == "noaux_tc",
    )


def deepseek_experts(config: ConfigReader, router: Router) -> MixtureOfExperts:
    """Fine-grained experts with `n_shared_experts` shared ones, taken together as one wide block."""
    intermediate = config.integer("moe_intermediate_size")
    moe = MixtureOfExperts(
        experts=config.integer("n_routed_experts"),
        top_k=config.integer("num_experts_per_tok"),
        intermediate=intermediate,
        router=router,
        shared_intermediate=intermediate * config.integer("n_shared_experts", 0, least=0),
    )
    return checked_experts(config, moe, "n_routed_experts")


def stacked(config: ConfigReader, attention: Attention, moe: MixtureOfExperts) -> tuple[Layer, ...]:
    """`first_k_dense_replace` dense layers, then routed ones (every `moe_layer_freq`-th)."""
    layers = layer_count(config)
    first = config.integer("first_k_dense_replace", 0, least=0)
    if first > layers:
        raise config.wrong("first_k_dense_replace", f"must not exceed num_hidden_layers = {layers}")
    if isinstance(config.items.get("moe_layer_freq"), list):
        routed = tuple(bool(flag) for flag in config.integers("moe_layer_freq", layers))
    else:
        step = config.integer("moe_layer_freq", 1)
        routed = tuple(index >= first and index % step == 0 for index in range(layers))
    mlp = moe if all(routed) else dense(config)
    return tuple(Layer(attention, moe if flag else mlp) for flag in routed)


def _body(config: ConfigReader, attention: Attention, router: Router, refused: str = "") -> Body:
    return Body(
        layers=stacked(config, attention, deepseek_experts(config, router)),
        norm_eps=config.number("rms_norm_eps", 1e-6),
        notes=mtp_note(config, "num_nextn_predict_layers"),
        numbers_refused=refused,
    )


def deepseek_moe(config: ConfigReader) -> Body:
    """DeepSeek-MoE 16B (2024-01): plain multi-head attention, softmax over all experts, weights not normalised."""
    bias = config.boolean("attention_bias", False)
    attention = grouped_query(config, qkv_bias=bias, output_bias=bias)
    return _body(config, attention, deepseek_router(config, "softmax", normalize_default=False))


def deepseek_v2(config: ConfigReader) -> Body:
    """DeepSeek-V2 and V2-Lite: MLA, softmax scores, groups ranked by their best expert."""
    return _body(config, latent(config), deepseek_router(config, "softmax", normalize_default=False))


def deepseek_v3(config: ConfigReader) -> Body:
    """DeepSeek-V3, R1, V3.1, Kimi-K2: MLA, sigmoid scores with a correction bias, groups ranked by their best two."""
    return _body(config, latent(config), deepseek_router(config, "sigmoid", normalize_default=True))


def deepseek_v32(config: ConfigReader) -> Body:
    """DeepSeek-V3.2 and GLM-5: MLA whose queries read only `index_topk` keys that an indexer chose."""
    attention = replace(
        latent(config),
        sparse_top_k=config.integer("index_topk"),
        indexer_heads=config.integer("index_n_heads"),
        indexer_head_dim=config.integer("index_head_dim"),
    )
    return _body(config, attention, deepseek_router(config, "sigmoid", normalize_default=True), SPARSE_REFUSED)
