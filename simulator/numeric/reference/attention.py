"""Attention of one sequence: grouped-query and multi-head latent, with the sequence's KV cache.

Both work on all new tokens of one sequence at once, every query looking at every key through an explicit
mask, so that prefill, prefill with a past and decode are one and the same code.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from simulator.errors import NotBuiltError
from simulator.model.architecture import Architecture, Attention, GroupedQueryAttention, LatentAttention
from simulator.numeric.reference.parts import Array, Weights, linear, norm, rms, softmax
from simulator.numeric.reference.rope import rotate

LayerCache = Mapping[str, Array]
"""What a layer remembers of one sequence, token by token.

Grouped-query: "k" [tokens, kv_heads, head_dim] (normed and rotated), "v" [tokens, kv_heads, v_head_dim].
Latent: "latent" [tokens, kv_lora_rank] (normed), "rope_key" [tokens, rope_head_dim] (rotated).
"""
Record = Callable[[str, Array], None]


def attend(
    a: Attention, x: Array, past: LayerCache | None, weights: Weights, architecture: Architecture, record: Record
) -> tuple[Array, LayerCache]:
    """Attention output [new tokens, hidden] and the extended cache, for x [new tokens, hidden]."""
    match a:
        case GroupedQueryAttention(
            output_gate=False,
            sparse_top_k=None,
            q_lora_rank=None,
            output_lora_rank=None,
            shared_kv=False,
            kv_compression=1,
        ):
            return _grouped_query(a, x, past, weights, architecture, record)
        case LatentAttention(sparse_top_k=None):
            return _latent(a, x, past, weights, architecture, record)
    raise NotBuiltError(
        given=f"{architecture.name}: {type(a).__name__}",
        rule="the numbers of linear, output-gated, sparse and compressed attention are not built",
        way_out="price this model without numbers",
    )


def _length(past: LayerCache | None) -> int:
    return 0 if past is None else len(next(iter(past.values())))


def _extended(past: LayerCache | None, new: dict[str, Array]) -> LayerCache:
    return new if past is None else {name: np.concatenate([past[name], rows]) for name, rows in new.items()}


def visible(a: Attention, query_positions: Array, key_positions: Array) -> NDArray[np.bool_]:
    """Which keys each query may read, [queries, keys]: itself and earlier ones, in its window, in its chunk."""
    q, k = query_positions[:, None], key_positions[None, :]
    seen: NDArray[np.bool_] = k <= q
    if isinstance(a, GroupedQueryAttention) and a.window is not None:
        seen = seen & (k > q - a.window)
    if isinstance(a, GroupedQueryAttention) and a.chunk is not None:
        seen = seen & (k // a.chunk == q // a.chunk)
    return seen


def _read(scores: Array, values: Array, seen: NDArray[np.bool_], sinks: Array | None) -> Array:
    """softmax(scores) values for one head: scores [queries, keys], values [keys, v_head_dim].

    A sink is one more key whose value is zero: it takes part in the softmax, then is dropped
    (Xiao et al. 2023, arXiv:2309.17453; learned, as in openai/gpt-oss, gpt_oss/torch/model.py `sdpa`).
    """
    scores = np.where(seen, scores, -np.inf)
    if sinks is not None:
        scores = np.concatenate([scores, np.broadcast_to(sinks, (len(scores), 1))], axis=1)
    return softmax(scores)[:, : len(values)] @ values


def _grouped_query(
    a: GroupedQueryAttention,
    x: Array,
    past: LayerCache | None,
    weights: Weights,
    architecture: Architecture,
    record: Record,
) -> tuple[Array, LayerCache]:
    """Ainslie et al. 2023, arXiv:2305.13245: query head h reads KV head h * kv_heads // heads."""
    n, start, eps = len(x), _length(past), architecture.norm_eps
    positions = np.arange(start, start + n, dtype=np.float64)
    q, k, v = (linear(x, weights, f"self_attn.{p}_proj") for p in "qkv")
    if a.qk_norm == "full":
        q, k = norm(q, weights, "self_attn.q_norm", eps), norm(k, weights, "self_attn.k_norm", eps)
    q, k = q.reshape(n, a.heads, a.head_dim), k.reshape(n, a.kv_heads, a.head_dim)
    if a.qk_norm == "head":
        q, k = norm(q, weights, "self_attn.q_norm", eps), norm(k, weights, "self_attn.k_norm", eps)
    if a.rope is not None:
        q, k = (rotate(part, positions, a.rope, architecture.max_position) for part in (q, k))
    if a.qk_norm == "l2":
        q, k = rms(q, eps), rms(k, eps)
    if a.temperature_tuning is not None:
        scale, floor = a.temperature_tuning
        # Llama 4: meta-llama/llama-models, models/llama4/model.py, `attn_temperature_tuning`, 2025-04-05.
        q = q * (1.0 + scale * np.log1p(np.floor((positions + 1.0) / floor)))[:, None, None]
    cache = _extended(past, {"k": k, "v": v.reshape(n, a.kv_heads, a.v_head_dim)})
    seen = visible(a, positions, np.arange(start + n, dtype=np.float64))
    heads = []
    for h in range(a.heads):
        group = h * a.kv_heads // a.heads
        sink = weights["self_attn.sinks"][h] if a.sinks else None
        scores = q[:, h] @ cache["k"][:, group].T * a.scale
        heads.append(_read(scores, cache["v"][:, group], seen, sink))
    joined = np.concatenate(heads, axis=1)
    record("heads", joined)
    return linear(joined, weights, "self_attn.o_proj"), cache


def _latent(
    a: LatentAttention, x: Array, past: LayerCache | None, weights: Weights, architecture: Architecture, record: Record
) -> tuple[Array, LayerCache]:
    """DeepSeek-V2, arXiv:2405.04434, section 2.1.2-2.1.3 and appendix C, equations 37-47, not absorbed."""
    n, start = len(x), _length(past)
    positions = np.arange(start, start + n, dtype=np.float64)
    if a.q_lora_rank is None:
        q = linear(x, weights, "self_attn.q_proj")
    else:
        compressed = linear(x, weights, "self_attn.q_a_proj")
        q = linear(norm(compressed, weights, "self_attn.q_a_layernorm", a.norm_eps), weights, "self_attn.q_b_proj")
    q = q.reshape(n, a.heads, a.nope_head_dim + a.rope_head_dim)
    q_nope, q_rope = q[..., : a.nope_head_dim], q[..., a.nope_head_dim :]
    q_rope = rotate(q_rope, positions, a.rope, architecture.max_position)

    joint = linear(x, weights, "self_attn.kv_a_proj_with_mqa")
    latent = norm(joint[:, : a.kv_lora_rank], weights, "self_attn.kv_a_layernorm", a.norm_eps)
    rope_key = rotate(joint[:, None, a.kv_lora_rank :], positions, a.rope, architecture.max_position)[:, 0]
    cache = _extended(past, {"latent": latent, "rope_key": rope_key})

    expanded = linear(cache["latent"], weights, "self_attn.kv_b_proj")
    expanded = expanded.reshape(start + n, a.heads, a.nope_head_dim + a.v_head_dim)
    seen = visible(a, positions, np.arange(start + n, dtype=np.float64))
    heads = []
    for h in range(a.heads):
        key, value = expanded[:, h, : a.nope_head_dim], expanded[:, h, a.nope_head_dim :]
        scores = (q_nope[:, h] @ key.T + q_rope[:, h] @ cache["rope_key"].T) * a.scale
        heads.append(_read(scores, value, seen, None))
    joined = np.concatenate(heads, axis=1)
    record("heads", joined)
    return linear(joined, weights, "self_attn.o_proj"), cache
