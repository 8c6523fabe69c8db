"""GLM-4.5 to 4.7 (glm4_moe), GLM-4.7-Flash (glm4_moe_lite) and GLM-5 (glm_moe_dsa).

Sources: transformers' modeling_glm4_moe.py (v5.0, 2025-12) and configuration_glm_moe_dsa.py (v5.2, 2026-02).
"""

from simulator.model.config_reader import ConfigReader
from simulator.model.families.common import Body, mtp_note
from simulator.model.families.deepseek import deepseek_experts, deepseek_router, deepseek_v3, deepseek_v32, stacked
from simulator.model.families.llama import grouped_query

_DSA_DEFAULTS = {"index_topk": 2048, "index_n_heads": 32, "index_head_dim": 128, "rope_theta": 1_000_000.0}
"""Defaults of GlmMoeDsaConfig, filled in where a config leaves them out."""


def glm4_moe(config: ConfigReader) -> Body:
    """Grouped-query attention with half-rotated heads; DeepSeek-V3's router; biases and norms on q, k by switch."""
    attention = grouped_query(
        config,
        qkv_bias=config.boolean("attention_bias", False),
        output_bias=False,
        qk_norm="head" if config.boolean("use_qk_norm", False) else "none",
        partial_default=0.5,
    )
    router = deepseek_router(config, "sigmoid", normalize_default=True)
    return Body(
        layers=stacked(config, attention, deepseek_experts(config, router)),
        norm_eps=config.number("rms_norm_eps", 1e-5),
        notes=mtp_note(config, "num_nextn_predict_layers"),
    )


def glm4_moe_lite(config: ConfigReader) -> Body:
    """GLM-4.7-Flash: DeepSeek-V3's layers (latent attention, sigmoid router) at 30 B."""
    items = {"rope_theta": 1_000_000.0, **{key: value for key, value in config.items.items() if value is not None}}
    return deepseek_v3(ConfigReader(items, config.where))


def glm_moe_dsa(config: ConfigReader) -> Body:
    """GLM-5: DeepSeek-V3.2's layers with its own index sizes."""
    items = {**_DSA_DEFAULTS, **{key: value for key, value in config.items.items() if value is not None}}
    return deepseek_v32(ConfigReader(items, config.where))
