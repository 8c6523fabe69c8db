"""Tiny checkpoints of real families, and what Hugging Face transformers computes with them.

The checkpoints hold no stored weights: `checkpoint` draws them from names and shapes, so that the test which
compares stored outputs, the live test and the script that makes the outputs all see the same numbers.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.model.architecture import Architecture
from simulator.model.from_config import architecture_from_config
from simulator.numeric.reference import ReferenceModel
from simulator.numeric.weights import weights_from_state_dict

Prompts = Sequence[tuple[int, ...]]
FOLDER = Path(__file__).parent / "oracle_data"
SEED = 20261123
PROMPTS = ((3, 17, 5, 30, 11, 2, 26, 9, 33, 14, 7), (21, 8, 35, 1, 19))
"""Token ids below 37; the first is longer than the windows and chunks below."""
STEPS = 4
LONG_PROMPT = tuple((7 * i * i + 3 * i + 5) % 37 for i in range(83))
"""Beyond the 64 positions that llama3 and YaRN scaling start from."""
TOLERANCE = 1e-9

_BASE = {
    "vocab_size": 37,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 20,
    "hidden_act": "silu",
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "beta_fast": 8.0,
    "beta_slow": 1.0,
    "original_max_position_embeddings": 64,
}
_LATENT = {
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "kv_lora_rank": 12,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 6,
    "v_head_dim": 10,
    "n_routed_experts": 12,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 10,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "num_hidden_layers": 3,
    "rms_norm_eps": 1e-6,
    "rope_scaling": {**_YARN, "mscale": 1.0, "mscale_all_dim": 0.7},
    "num_nextn_predict_layers": 0,
}

CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {
        **_BASE,
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "rope_theta": 10000.0,
        "rope_scaling": _LLAMA3,
        "tie_word_embeddings": True,
    },
    "qwen2": {**_BASE, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "head_dim": 4, "rope_theta": 1e6},
    "qwen3": {
        **_BASE,
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "head_dim": 10,
        "attention_bias": False,
        "rope_theta": 1e6,
        "rope_scaling": _YARN,
    },
    "mixtral": {
        **_BASE,
        "model_type": "mixtral",
        "architectures": ["MixtralForCausalLM"],
        "num_local_experts": 5,
        "num_experts_per_tok": 2,
        "sliding_window": None,
        "rope_theta": 1e6,
    },
    "qwen3_moe": {
        **_BASE,
        "model_type": "qwen3_moe",
        "architectures": ["Qwen3MoeForCausalLM"],
        "num_experts": 8,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 14,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
        "attention_bias": False,
        "rope_theta": 1e6,
    },
    "qwen2_moe": {
        **_BASE,
        "model_type": "qwen2_moe",
        "architectures": ["Qwen2MoeForCausalLM"],
        "head_dim": 4,
        "num_experts": 6,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 14,
        "shared_expert_intermediate_size": 18,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": False,
        "rope_theta": 1e6,
    },
    "deepseek_v2": {
        **_BASE,
        **_LATENT,
        "model_type": "deepseek_v2",
        "architectures": ["DeepseekV2ForCausalLM"],
        "head_dim": 6,
        "q_lora_rank": None,
        "n_shared_experts": 2,
        "topk_method": "group_limited_greedy",
        "n_group": 4,
        "topk_group": 2,
        "norm_topk_prob": False,
        "routed_scaling_factor": 1.5,
        "scoring_func": "softmax",
        "rope_theta": 10000.0,
    },
    "deepseek_v3": {
        **_BASE,
        **_LATENT,
        "model_type": "deepseek_v3",
        "architectures": ["DeepseekV3ForCausalLM"],
        "head_dim": 6,
        "q_lora_rank": 10,
        "n_shared_experts": 1,
        "topk_method": "noaux_tc",
        "n_group": 3,
        "topk_group": 2,
        "norm_topk_prob": True,
        "routed_scaling_factor": 2.5,
        "scoring_func": "sigmoid",
        "rope_theta": 10000.0,
    },
    "gpt_oss": {
        **_BASE,
        "model_type": "gpt_oss",
        "architectures": ["GptOssForCausalLM"],
        "attention_bias": True,
        "num_local_experts": 6,
        "num_experts_per_tok": 2,
        "experts_per_token": 2,
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention"],
        "swiglu_limit": 7.0,
        "rope_theta": 150000.0,
        "head_dim": 16,
        "max_position_embeddings": 1024,
        "rope_scaling": {**_YARN, "original_max_position_embeddings": 256, "truncate": False},
    },
    "glm4_moe": {
        **_BASE,
        "model_type": "glm4_moe",
        "architectures": ["Glm4MoeForCausalLM"],
        "attention_bias": True,
        "use_qk_norm": True,
        "partial_rotary_factor": 0.5,
        "n_routed_experts": 8,
        "n_shared_experts": 1,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 10,
        "first_k_dense_replace": 1,
        "n_group": 1,
        "topk_group": 1,
        "norm_topk_prob": True,
        "routed_scaling_factor": 1.5,
        "num_nextn_predict_layers": 0,
        "rope_theta": 1e6,
    },
    "minimax_m2": {
        **_BASE,
        "model_type": "minimax_m2",
        "architectures": ["MiniMaxM2ForCausalLM"],
        "num_local_experts": 8,
        "num_experts_per_tok": 3,
        "rotary_dim": 4,
        "use_qk_norm": True,
        "qk_norm_type": "per_layer",
        "use_routing_bias": True,
        "use_mtp": True,
        "num_mtp_modules": 1,
        "scoring_func": "sigmoid",
        "shared_intermediate_size": 0,
        "rope_theta": 5e6,
    },
    "llama4": {
        **_BASE,
        "model_type": "llama4_text",
        "architectures": ["Llama4ForCausalLM"],
        "num_hidden_layers": 4,
        "intermediate_size_mlp": 28,
        "num_local_experts": 5,
        "num_experts_per_tok": 1,
        "interleave_moe_layer_step": 2,
        "attention_bias": False,
        "use_qk_norm": True,
        "attention_chunk_size": 6,
        "no_rope_layers": [1, 1, 1, 0],
        "attn_temperature_tuning": True,
        "attn_scale": 0.1,
        "floor_scale": 4,
        "rope_theta": 500000.0,
        "rope_scaling": _LLAMA3,
    },
}
CONFIGS["mistral"] = {
    **_BASE,
    "model_type": "mistral",
    "architectures": ["MistralForCausalLM"],
    "sliding_window": 5,
    "rope_theta": 1e6,
}
CONFIGS["glm4_moe_lite"] = {
    **CONFIGS["deepseek_v3"],
    "model_type": "glm4_moe_lite",
    "architectures": ["Glm4MoeLiteForCausalLM"],
    "rms_norm_eps": 1e-5,
    "n_group": 1,
    "topk_group": 1,
    "rope_scaling": None,
    "rope_interleave": True,
}
CONFIGS["gpt2"] = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "vocab_size": 37,
    "n_embd": 24,
    "n_layer": 2,
    "n_head": 3,
    "n_positions": 128,
    "activation_function": "gelu_new",
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": None,
}
"""Stands for GPT-3, which has the same layers (Brown et al. 2020, arXiv:2005.14165, section 2.1)."""


def architecture(family: str) -> Architecture:
    """The case's model, read from its config as a user's would be."""
    return architecture_from_config(CONFIGS[family], family)


@dataclass(frozen=True, slots=True)
class Expected:
    """What transformers computed: checkpoint layout, and per prompt its logits and greedy tokens."""

    shapes: Mapping[str, tuple[int, ...]]
    """Of every tensor in the checkpoint files, by its name there."""
    logits: tuple[NDArray[np.float64], ...]
    """[prompt tokens + STEPS, vocab]: of every prompt token, then of each cached decode step."""
    tokens: tuple[tuple[int, ...], ...]


def checkpoint(shapes: Mapping[str, tuple[int, ...]], seed: int = SEED) -> dict[str, NDArray[np.float32]]:
    """Tensors of these names and shapes, one generator each; float32, which every reader keeps exactly."""
    return {name: _tensor(name, shape, seed) for name, shape in shapes.items()}


def _tensor(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    stream = np.random.SeedSequence(seed, spawn_key=tuple(name.encode()))
    normal = np.random.default_rng(stream).standard_normal(shape)
    if ("norm" in name or ".ln_" in name) and name.endswith("weight"):
        value = 1.0 + 0.2 * normal
    elif name.endswith(("bias", "sinks")):
        value = 0.3 * normal
    elif "embed_tokens" in name or "wte" in name or "wpe" in name:
        value = normal
    else:
        # Fused gate_up of gpt-oss meets its clamp at 7 only where large.
        value = normal * (4.0 if "gate_up_proj" in name else 1.5) / shape[-1] ** 0.5
    return np.asarray(value, dtype=np.float32)


def load(family: str) -> Expected:
    """The stored outputs of one case."""
    layout = json.loads((FOLDER / "layouts.json").read_text(encoding="utf-8"))[family]
    with np.load(FOLDER / "outputs.npz") as stored:
        logits = tuple(stored[f"{family}.logits.{i}"] for i in range(len(PROMPTS)))
        tokens = tuple(tuple(stored[f"{family}.tokens.{i}"].tolist()) for i in range(len(PROMPTS)))
    return Expected({name: tuple(shape) for name, shape in layout.items()}, logits, tokens)


def reference(family: str, expected: Expected, arch: Architecture | None = None) -> ReferenceModel:
    """Our reference with the case's checkpoint."""
    arch = arch or architecture(family)
    return ReferenceModel(arch, weights_from_state_dict(arch, checkpoint(expected.shapes)))


def run(
    model: ReferenceModel, prompts: Prompts = PROMPTS
) -> tuple[tuple[NDArray[np.float64], ...], tuple[tuple[int, ...], ...]]:
    """Logits and tokens as in `Expected`, all prompts in one batch."""
    step = model.forward(prompts)
    rows = [[logits] for logits in step.all_logits]
    tokens = [[int(token)] for token in step.next_tokens]
    for _ in range(STEPS):
        step = model.forward([[chosen[-1]] for chosen in tokens], step.caches)
        for sequence, logits in enumerate(step.all_logits):
            rows[sequence].append(logits)
            tokens[sequence].append(int(step.next_tokens[sequence]))
    return tuple(np.concatenate(r) for r in rows), tuple(tuple(t) for t in tokens)


def largest_error(model: ReferenceModel, expected: Expected, prompts: Prompts = PROMPTS) -> float:
    """Largest relative error of any logit of any prompt, prefill and decode."""
    return max(
        relative_error(ours, theirs) for ours, theirs in zip(run(model, prompts)[0], expected.logits, strict=True)
    )


def relative_error(found: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """Largest difference over the largest expected magnitude."""
    return float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))
