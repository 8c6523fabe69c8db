"""A decoder-only language model as data: embedding, a tuple of layers, head.

Layers of the same kind are the same object, so that a program for 80 equal layers is built once.
Names follow Hugging Face's config.json where it has one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding. `scaling` holds the config's rope_scaling items, sorted, as given.

    Source: Su et al. 2021 (arXiv:2104.09864); YaRN: Peng et al. 2023 (arXiv:2309.00071).
    """

    theta: float
    dim: int
    """How many of a head's dimensions are rotated (partial rotary where below head_dim)."""
    interleaved: bool = False
    """Rotate pairs (2i, 2i+1), as DeepSeek does, instead of halves (i, i + dim/2)."""
    scaling: tuple[tuple[str, float | str | bool], ...] = ()


@dataclass(frozen=True, slots=True)
class GroupedQueryAttention:
    """Multi-head (kv_heads == heads), grouped-query or multi-query attention."""

    heads: int
    kv_heads: int
    head_dim: int
    v_head_dim: int
    scale: float
    rope: Rope | None
    """None: no position embedding in this layer (Llama 4's NoPE layers)."""
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: Literal["none", "head", "full", "l2"] = "none"
    """"head": RMSNorm with a weight over each head (Qwen3, GLM-4.5); "full": over all heads together
    (MiniMax-M2); "l2": RMS without a weight after rotation (Llama 4)."""
    window: int | None = None
    """Sliding window in tokens, the current one included; None: full attention."""
    sinks: bool = False
    """One learned logit per head joins the softmax's denominator (gpt-oss)."""
    output_gate: bool = False
    """A sigmoid gate from the hidden state multiplies the heads' output (Qwen3.5)."""
    sparse_top_k: int | None = None
    """Keys each query reads at most, chosen by an indexer (DeepSeek-V3.2, GLM-5); None: all."""
    chunk: int | None = None
    """Attention chunk in tokens (Llama 4's local layers); None: no chunks."""
    temperature_tuning: tuple[float, float] | None = None
    """(scale, floor) of Llama 4's query scaling on NoPE layers."""
    q_lora_rank: int | None = None
    """Queries through a low-rank pair of projections (DeepSeek-V4); None: one projection."""
    output_groups: int = 1
    output_lora_rank: int | None = None
    """The output through `output_groups` blocks of this rank, then one projection (DeepSeek-V4)."""
    shared_kv: bool = False
    """Keys are the values: one projection, half the cache (DeepSeek-V4)."""
    kv_compression: int = 1
    """Tokens merged into one cache entry beyond the `window` latest, which stay whole (DeepSeek-V4)."""
    indexer_heads: int = 0
    indexer_head_dim: int = 0


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Multi-head latent attention (MLA). Source: DeepSeek-V2, arXiv:2405.04434, section 2.1."""

    heads: int
    q_lora_rank: int | None
    kv_lora_rank: int
    nope_head_dim: int
    rope_head_dim: int
    v_head_dim: int
    scale: float
    rope: Rope
    qkv_bias: bool = False
    sparse_top_k: int | None = None
    indexer_heads: int = 0
    indexer_head_dim: int = 0
    norm_eps: float = 1e-6
    """Of the norms on the compressed query and key-value, whatever the model's own norm_eps is
    (deepseek-ai/DeepSeek-V3, inference/model.py, `RMSNorm(dim, eps=1e-6)`, 2024-12-26)."""


@dataclass(frozen=True, slots=True)
class LinearAttention:
    """Gated delta-rule attention with a fixed-size state (Qwen3.5, Qwen3-Next); priced, not computed.

    Source: Yang et al. 2024, Gated Delta Networks (arXiv:2412.06464).
    """

    key_heads: int
    value_heads: int
    key_head_dim: int
    value_head_dim: int
    conv_kernel: int


Attention = GroupedQueryAttention | LatentAttention | LinearAttention


@dataclass(frozen=True, slots=True)
class DenseMlp:
    """Gated (SwiGLU: gate, up, down) or plain (up, down) feed-forward block."""

    intermediate: int
    gated: bool = True
    activation: Literal["silu", "gelu", "gelu_tanh", "relu2", "clamped_swiglu"] = "silu"
    bias: bool = False


@dataclass(frozen=True, slots=True)
class Router:
    """How a token chooses its experts.

    scoring "softmax": softmax over all experts, then top-k (Qwen3, Mixtral, DeepSeek-V2);
    "sigmoid": independent scores, with a correction bias that steers the choice only (DeepSeek-V3);
    "softmax_topk": top-k of the logits, softmax over the chosen (gpt-oss).
    Llama 4: "sigmoid" with weights applied to the expert's input (`scale_input`).
    """

    scoring: Literal["softmax", "sigmoid", "softmax_topk"] = "softmax"
    normalize: bool = True
    """Divide the chosen weights by their sum."""
    routed_scale: float = 1.0
    groups: int = 1
    groups_kept: int = 1
    group_score: Literal["top2_sum", "max"] = "top2_sum"
    """How a group of experts is ranked: sum of its two best (V3) or its best (V2)."""
    correction_bias: bool = False
    bias: bool = False
    scale_input: bool = False


@dataclass(frozen=True, slots=True)
class MixtureOfExperts:
    """Routed experts, and shared ones that every token visits."""

    experts: int
    top_k: int
    intermediate: int
    router: Router
    activation: Literal["silu", "clamped_swiglu"] = "silu"
    bias: bool = False
    """Expert projections with bias (gpt-oss)."""
    shared_intermediate: int = 0
    """Width of the shared experts taken together; 0: none."""
    shared_gate: bool = False
    """A sigmoid gate on the shared expert's output (Qwen3.5, Qwen2-MoE)."""


FeedForward = DenseMlp | MixtureOfExperts


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer: norm, attention, add, norm, feed-forward, add."""

    attention: Attention
    feed_forward: FeedForward


def shared_layers(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """The same tuple with equal layers made one object, so that identity finds equal layers."""
    seen: dict[Layer, Layer] = {}
    return tuple(seen.setdefault(layer, layer) for layer in layers)


@dataclass(frozen=True, slots=True)
class Quantization:
    """Storage types of weights, experts, KV cache and of activations between ops.

    One of "bf16", "fp16", "fp32", "fp8", "fp8_block", "nvfp4", "mxfp4", "int8", "int4"; `quantization.py` says
    how many bytes each takes, scales included. Embedding, head, norms, routers and biases stay in bf16.
    """

    weights: str = "bf16"
    """Attention, dense blocks and shared experts."""
    experts: str = "bf16"
    kv_cache: str = "bf16"
    activations: str = "bf16"
    attention: str = ""
    """Attention projections, where not as `weights` (NVFP4 checkpoints keep them in bf16); empty: as weights."""
    int4_group: int = 128
    """Weights that share one scale in "int4" (32 in Kimi-K2.5)."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """A whole model. `layers` has one entry per layer; equal layers are one object."""

    name: str
    family: str
    """Hugging Face `model_type`: "llama", "qwen3_moe", "deepseek_v3", ..."""
    hidden: int
    vocab: int
    layers: tuple[Layer, ...]
    norm_eps: float
    max_position: int
    tie_embeddings: bool
    norm: Literal["rms", "layer"] = "rms"
    quantization: Quantization = Quantization()
    learned_positions: int = 0
    """Rows of a learned position table (GPT-3); 0: none."""
    source: str = ""
    notes: tuple[str, ...] = ()
    numbers_refused: str = ""
    """Why the numbers of this model are not built; empty: they are."""

    def __hash__(self) -> int:
        """Cheap on purpose: caches keyed by an architecture would else hash a hundred layers on every call."""
        return hash((self.name, self.hidden, self.vocab, len(self.layers), self.quantization))

    @property
    def distinct_layers(self) -> tuple[Layer, ...]:
        """The different kinds of layer, in order of first appearance."""
        return tuple(dict.fromkeys(self.layers))
