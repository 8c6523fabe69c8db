"""DeepSeek's own inference config (dim, n_layers, ...), translated to the Hugging Face spelling.

Source: deepseek-ai/DeepSeek-V3, inference/model.py, class ModelArgs (2024-12, defaults included).
"""

from simulator.model.config_reader import ConfigReader

_NAMES = {
    "dim": "hidden_size",
    "inter_dim": "intermediate_size",
    "moe_inter_dim": "moe_intermediate_size",
    "n_layers": "num_hidden_layers",
    "n_dense_layers": "first_k_dense_replace",
    "n_heads": "num_attention_heads",
    "n_activated_experts": "num_experts_per_tok",
    "n_expert_groups": "n_group",
    "n_limited_groups": "topk_group",
    "route_scale": "routed_scaling_factor",
    "score_func": "scoring_func",
}
_MAX_POSITION = 16384
"""ModelArgs.max_seq_len is 4096 x 4; YaRN's factor 40 is applied over original_seq_len 4096 (ModelArgs)."""


def is_native(config: ConfigReader) -> bool:
    """Whether the config speaks DeepSeek's own words: dim and n_layers, and no model_type."""
    return config.has("dim") and config.has("n_layers") and not config.has("model_type")


def from_native(config: ConfigReader) -> ConfigReader:
    """The same facts in Hugging Face words; sigmoid scores mark V3 (correction bias), softmax V2."""
    items = {_NAMES.get(key, key): value for key, value in config.items.items()}
    sigmoid = config.one_of("score_func", ("softmax", "sigmoid"), "softmax") == "sigmoid"
    if config.items.get("q_lora_rank") == 0:
        items["q_lora_rank"] = None
    mscale = config.number("mscale", 1.0)
    items["model_type"] = "deepseek_v3" if sigmoid else "deepseek_v2"
    items["norm_topk_prob"] = sigmoid
    items.setdefault("max_position_embeddings", _MAX_POSITION)
    items["rope_scaling"] = {
        "rope_type": "yarn",
        "factor": config.number("rope_factor", 40.0),
        "original_max_position_embeddings": config.integer("original_seq_len", 4096),
        "beta_fast": config.integer("beta_fast", 32),
        "beta_slow": config.integer("beta_slow", 1),
        "mscale": mscale,
        "mscale_all_dim": mscale,
    }
    if config.text("dtype", "bf16") == "fp8":
        items["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    return ConfigReader(items, config.where)
