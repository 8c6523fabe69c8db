"""What a sequence keeps between steps: keys and values a token, and fixed states.

Grouped-query attention keeps kv_heads x (head_dim + v_head_dim) elements a token and layer; latent attention
kv_lora_rank + rope_head_dim (DeepSeek-V2, arXiv:2405.04434, table 1); linear attention nothing a token, but a
state of fixed size a sequence.
"""

from collections import Counter
from functools import lru_cache

from simulator.errors import ModelError
from simulator.model.architecture import (
    Architecture,
    Attention,
    GroupedQueryAttention,
    LatentAttention,
    LinearAttention,
    Quantization,
)
from simulator.model.quantization import bytes_per_element

INDEXER_BYTES_PER_ELEMENT = 1.0 + 4.0 / 128
"""The indexer's keys are kept in fp8 with one fp32 scale per 128 (DeepSeek-V3.2 report, 2025-09, inference code)."""
LINEAR_STATE_BYTES_PER_ELEMENT = 4.0
"""Recurrent states are kept in float32 (Qwen3.5 config.json, mamba_ssm_dtype, 2026-02)."""
CONV_STATE_BYTES_PER_ELEMENT = 2.0


def layer_kv_elements(attention: Attention) -> int:
    """Cache elements one token adds in one layer (an indexer's keys not counted)."""
    match attention:
        case GroupedQueryAttention() as a:
            return a.kv_heads * (a.head_dim if a.shared_kv else a.head_dim + a.v_head_dim)
        case LatentAttention() as a:
            return a.kv_lora_rank + a.rope_head_dim
        case LinearAttention():
            return 0


def indexer_bytes(attention: Attention) -> float:
    """Bytes of the indexer's key that one token adds in one layer; 0 without an indexer."""
    match attention:
        case GroupedQueryAttention(indexer_head_dim=width) | LatentAttention(indexer_head_dim=width):
            return width * INDEXER_BYTES_PER_ELEMENT
        case LinearAttention():
            return 0.0


def layer_kv_bytes(attention: Attention, quantization: Quantization) -> float:
    """Cache bytes one token adds in one layer, before windows and compression."""
    return layer_kv_elements(attention) * bytes_per_element(quantization.kv_cache) + indexer_bytes(attention)


def kv_elements_per_token(architecture: Architecture) -> int:
    """Cache elements one token adds in all layers, windows not considered (as model tables count)."""
    return sum(layer_kv_elements(layer.attention) for layer in architecture.layers)


def kv_bytes_per_token(architecture: Architecture) -> float:
    """Cache bytes one token adds in all layers in the architecture's KV type, windows not considered."""
    return sum(layer_kv_bytes(layer.attention, architecture.quantization) for layer in architecture.layers)


def fixed_state_bytes(attention: Attention) -> float:
    """Bytes a sequence keeps in one layer whatever its length: linear attention's state and convolution inputs."""
    if not isinstance(attention, LinearAttention):
        return 0.0
    a = attention
    state = a.value_heads * a.key_head_dim * a.value_head_dim
    channels = 2 * a.key_heads * a.key_head_dim + a.value_heads * a.value_head_dim
    conv = channels * (a.conv_kernel - 1)
    return state * LINEAR_STATE_BYTES_PER_ELEMENT + conv * CONV_STATE_BYTES_PER_ELEMENT


def kept_tokens(attention: Attention, tokens: int) -> int:
    """Tokens of a sequence of `tokens` whose keys a layer must still hold for the next token.

    A window of w (the current token included) needs the last w; a chunked layer the running chunk, which is
    empty right after a chunk is complete but then holds the full chunk's pages until they are freed: at most chunk.
    """
    if not isinstance(attention, GroupedQueryAttention):
        return tokens
    limits = [limit for limit in (attention.window, attention.chunk) if limit is not None]
    return min([tokens, *limits])


def layer_sequence_bytes(attention: Attention, quantization: Quantization, tokens: int) -> float:
    """Bytes one layer keeps for a sequence of `tokens`: windows, compressed entries and fixed states included."""
    per_token = layer_kv_elements(attention) * bytes_per_element(quantization.kv_cache)
    kept: float = kept_tokens(attention, tokens)
    index = indexer_bytes(attention) * tokens
    if isinstance(attention, GroupedQueryAttention) and attention.kv_compression > 1:
        entries = tokens // attention.kv_compression
        kept, index = kept + entries, indexer_bytes(attention) * entries
    return kept * per_token + index + fixed_state_bytes(attention)


@lru_cache(maxsize=4096)
def kv_bytes(architecture: Architecture, tokens: int) -> float:
    """Bytes one sequence of `tokens` keeps in all layers, on no particular GPU.

    Raises ModelError for a negative length.
    """
    if tokens < 0:
        raise ModelError(where="tokens", given=str(tokens), rule="must not be negative")
    repeats = Counter(layer.attention for layer in architecture.layers)
    return sum(times * layer_sequence_bytes(a, architecture.quantization, tokens) for a, times in repeats.items())
