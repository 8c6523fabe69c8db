"""Checkpoint names of Hugging Face models, told in the names of `simulator.model.parameters`."""

import re
from typing import Final

from simulator.errors import ModelError

_RENAMES: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # Wrappers: causal models, multimodal ones (Llama 4, Kimi-K2.5), GPT-2.
        (r"^(model\.)?language_model\.(model\.)?", ""),
        (r"^(model|transformer)\.", ""),
        # GPT-2.
        (r"^h\.", "layers."),
        (r"^wte\.", "embed_tokens."),
        (r"^wpe\.", "embed_positions."),
        (r"^ln_f\.", "norm."),
        (r"\.ln_1\.", ".input_layernorm."),
        (r"\.ln_2\.", ".post_attention_layernorm."),
        (r"\.attn\.c_attn\.", ".self_attn.qkv_proj."),
        (r"\.attn\.c_proj\.", ".self_attn.o_proj."),
        (r"\.mlp\.c_fc\.", ".mlp.up_proj."),
        (r"\.mlp\.c_proj\.", ".mlp.down_proj."),
        # Mixtral and MiniMax-M2; Llama 4; gpt-oss; Qwen2-MoE.
        (r"\.(block_sparse_moe|feed_forward)\.", ".mlp."),
        (r"\.mlp\.router\.", ".mlp.gate."),
        (r"\.mlp\.e_score_correction_bias$", ".mlp.gate.e_score_correction_bias"),
        (r"\.mlp\.shared_expert\.", ".mlp.shared_experts."),
        (r"(\.experts\.\d+)\.w1\.", r"\1.gate_proj."),
        (r"(\.experts\.\d+)\.w3\.", r"\1.up_proj."),
        (r"(\.experts\.\d+)\.w2\.", r"\1.down_proj."),
        # Fused experts are parameters of their own: no ".weight", and "_bias" with an underscore.
        (r"(\.experts\.(?:gate_up|gate|up|down)_proj)_bias$", r"\1.bias"),
        (r"(\.experts\.(?:gate_up|gate|up|down)_proj)$", r"\1.weight"),
    )
)
_TRANSPOSED: Final = re.compile(r"(^|\.)h\.\d+\.(attn|mlp)\.c_\w+\.weight$")
_BUFFERS: Final = re.compile(r"rotary_emb\.inv_freq$|\.attn\.(masked_)?bias$")
_OTHER_PARTS: Final = re.compile(
    r"^(model\.)?(vision_model|vision_tower|visual|multi_modal_projector|mm_projector|mtp)\."
)
_QUANTIZED: Final = re.compile(
    r"(_scale_inv|_blocks|_scales|\.weight_scale|\.input_scale|\.qweight|\.qzeros|\.weight_packed)$"
)


def our_name(name: str) -> str | None:
    """`name` as parameters.py has it (fused and per-expert tensors still to be split and stacked).

    None for what the language model's forward pass does not read: rotary and mask buffers, vision towers,
    multi-token prediction under its own prefix. Raises ModelError for a quantised tensor.
    """
    if _BUFFERS.search(name) or _OTHER_PARTS.match(name):
        return None
    if _QUANTIZED.search(name):
        raise ModelError(
            where=name,
            given="a quantised tensor",
            rule="weights are read in float64, float32, float16 or bfloat16",
            way_out="convert the checkpoint to bfloat16 first",
        )
    for pattern, replacement in _RENAMES:
        name = pattern.sub(replacement, name)
    return name


def is_transposed(name: str) -> bool:
    """Whether the checkpoint stores this matrix as [in, out] (GPT-2's Conv1D)."""
    return _TRANSPOSED.search(name) is not None
