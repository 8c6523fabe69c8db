"""Small inline configs of every family, in config.json spelling: uneven sizes, so that a mix-up of fields shows."""

from pathlib import Path
from typing import Any

SHARED = Path(__file__).parents[1].parent / "shared" / "data" / "model_configs"
"""Real configs, where the checkout has them beside it."""

YARN = {"type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0}
_BASE: dict[str, Any] = {
    "vocab_size": 997,
    "hidden_size": 96,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "intermediate_size": 208,
    "max_position_embeddings": 640,
    "rms_norm_eps": 3e-6,
    "rope_theta": 7000.0,
}
_ROUTED = {
    "n_routed_experts": 12,
    "num_experts_per_tok": 3,
    "n_shared_experts": 2,
    "moe_intermediate_size": 40,
    "first_k_dense_replace": 2,
    "routed_scaling_factor": 2.5,
}
_LATENT = {
    "q_lora_rank": 36,
    "kv_lora_rank": 28,
    "qk_nope_head_dim": 10,
    "qk_rope_head_dim": 6,
    "v_head_dim": 14,
    "rope_scaling": {**YARN, "original_max_position_embeddings": 64},
}
_LINEAR = {
    "linear_num_key_heads": 4,
    "linear_num_value_heads": 8,
    "linear_key_head_dim": 10,
    "linear_value_head_dim": 14,
    "num_experts": 10,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 32,
}


def _config(model_type: str, *parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    merged: dict[str, Any] = {"model_type": model_type, **_BASE}
    for part in (*parts, more):
        merged.update(part)
    return merged


CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _config("llama", attention_bias=True, mlp_bias=True),
    "mistral": _config("mistral", sliding_window=48, head_dim=10),
    "qwen2": _config("qwen2"),
    "qwen3": _config("qwen3", head_dim=10, tie_word_embeddings=True),
    "mixtral": _config("mixtral", num_local_experts=6, num_experts_per_tok=2),
    "qwen2_moe": _config(
        "qwen2_moe",
        num_experts=6,
        num_experts_per_tok=2,
        moe_intermediate_size=40,
        shared_expert_intermediate_size=56,
        decoder_sparse_step=2,
    ),
    "qwen3_moe": _config(
        "qwen3_moe", num_experts=10, num_experts_per_tok=3, moe_intermediate_size=40, norm_topk_prob=True
    ),
    "gpt_oss": _config(
        "gpt_oss", num_local_experts=6, num_experts_per_tok=2, head_dim=10, sliding_window=16, attention_bias=True
    ),
    "deepseek": _config("deepseek", _ROUTED),
    "deepseek_v2": _config("deepseek_v2", _ROUTED, _LATENT, n_group=4, topk_group=2),
    "deepseek_v3": _config("deepseek_v3", _ROUTED, _LATENT, n_group=4, topk_group=2, norm_topk_prob=True),
    "deepseek_v32": _config(
        "deepseek_v32", _ROUTED, _LATENT, index_topk=20, index_n_heads=6, index_head_dim=8, norm_topk_prob=True
    ),
    "kimi_k2": _config("kimi_k2", _ROUTED, _LATENT),
    "glm4_moe": _config("glm4_moe", _ROUTED, use_qk_norm=True, attention_bias=True),
    "glm4_moe_lite": _config("glm4_moe_lite", _ROUTED, _LATENT),
    "glm_moe_dsa": _config("glm_moe_dsa", _ROUTED, _LATENT),
    "minimax_m2": _config(
        "minimax_m2", num_local_experts=6, num_experts_per_tok=2, head_dim=10, rotary_dim=6, use_qk_norm=True
    ),
    "minimax_m3": _config(
        "minimax_m3",
        num_local_experts=6,
        num_experts_per_tok=2,
        dense_intermediate_size=112,
        shared_intermediate_size=40,
        moe_layer_freq=[0, 0, 1, 1, 1, 1],
        sparse_attention_config={
            "sparse_topk_blocks": 3,
            "sparse_block_size": 16,
            "sparse_num_index_heads": 2,
            "sparse_index_dim": 12,
            "sparse_attention_freq": [0, 1, 1, 1, 1, 1],
        },
    ),
    "mimo_v2_flash": _config(
        "mimo_v2_flash",
        _ROUTED,
        head_dim=18,
        v_head_dim=12,
        partial_rotary_factor=0.334,
        swa_num_attention_heads=12,
        swa_num_key_value_heads=6,
        sliding_window=16,
        swa_rope_theta=500,
        hybrid_layer_pattern=[0, 1, 1, 0, 1, 1],
        moe_layer_freq=[0, 1, 1, 1, 1, 1],
    ),
    "qwen3_next": _config("qwen3_next", _LINEAR, partial_rotary_factor=0.5),
    "qwen3_5_moe": {"model_type": "qwen3_5_moe", "text_config": _config("qwen3_5_moe_text", _LINEAR, head_dim=16)},
    "qwen3_5": _config("qwen3_5", _LINEAR, head_dim=16),
    "llama4": {
        "model_type": "llama4",
        "text_config": _config(
            "llama4_text",
            num_local_experts=6,
            num_experts_per_tok=1,
            intermediate_size_mlp=304,
            interleave_moe_layer_step=2,
            attention_chunk_size=16,
        ),
    },
    "gpt2": {"model_type": "gpt2", "n_embd": 96, "n_layer": 5, "n_head": 12, "n_positions": 128, "vocab_size": 997},
    "gptj": {"model_type": "gptj", "n_embd": 96, "n_layer": 6, "n_head": 12, "rotary_dim": 4, "vocab_size": 997},
    "falcon": _config("falcon", num_kv_heads=4, new_decoder_architecture=True),
    "opt": _config("opt", ffn_dim=208),
    "mpt": {"model_type": "mpt", "d_model": 96, "n_layers": 6, "n_heads": 12, "vocab_size": 997},
    "bloom": {"model_type": "bloom", "n_embed": 96, "n_layer": 6, "n_head": 12, "vocab_size": 997},
    "gemma": _config("gemma", head_dim=10),
    "gemma2": _config("gemma2", head_dim=10, sliding_window=16),
    "gemma3": {"model_type": "gemma3", "text_config": _config("gemma3_text", head_dim=10, sliding_window=16)},
    "nemotron": _config("nemotron"),
    "phi3": _config("phi3"),
    "deepseek_v4": _config(
        "deepseek_v4",
        _ROUTED,
        num_key_value_heads=1,
        head_dim=20,
        qk_rope_head_dim=6,
        o_groups=3,
        o_lora_rank=22,
        q_lora_rank=26,
        index_head_dim=8,
        index_n_heads=6,
        index_topk=12,
        sliding_window=16,
        compress_ratios=[0, 0, 4, 128, 4, 128],
    ),
}
