"""Arrays of ops of one family -> times: the vectorised twins of the scalar functions, for step-time tables."""

import numpy as np
from numpy.typing import ArrayLike

from simulator.cost.kernel.formats import canonical
from simulator.cost.kernel.roofline import Timed, roofline_times
from simulator.cost.kernel.sizes import Array, sizes
from simulator.cost.kernel.work import KV_BYTES, Work, causal_pairs, gemm_work, grouped_work, seen_keys
from simulator.errors import KernelError
from simulator.hardware.device import Device


def _kv_bytes(kv_dtype: str) -> float:
    name = {"bfloat16": "bf16", "float16": "fp16"}.get(kv_dtype, kv_dtype)
    if name not in KV_BYTES:
        raise KernelError(
            given=repr(kv_dtype),
            rule="the KV cache's format must be known",
            way_out=f"use one of {', '.join(KV_BYTES)}",
        )
    return KV_BYTES[name]


def bmm_timed(device: Device, batch: ArrayLike, m: ArrayLike, n: ArrayLike, k: ArrayLike, dtype: str) -> Timed:
    """`batch` equal products [m, k] x [k, n]."""
    b, rows, columns, inner = sizes("gemm", {"batch": batch, "m": m, "n": n, "k": k})
    return roofline_times(device, gemm_work(b, rows, columns, inner, canonical(dtype)))


def grouped_timed(device: Device, rows: ArrayLike, active: ArrayLike, n: ArrayLike, k: ArrayLike, dtype: str) -> Timed:
    """`rows` tokens over `active` experts' [k, n] weights."""
    r, a, columns, inner = sizes("grouped_gemm", {"rows": rows, "active": active, "n": n, "k": k})
    return roofline_times(device, grouped_work(r, a, columns, inner, canonical(dtype)))


def prefill_timed(
    device: Device,
    sequences: ArrayLike,
    new: ArrayLike,
    past: ArrayLike,
    heads: ArrayLike,
    kv_heads: ArrayLike,
    head_dim: int,
    v_head_dim: int,
    kv_dtype: str,
    window: int | None = None,
) -> Timed:
    """`sequences` equal sequences of `new` tokens after `past` cached ones, causal."""
    s, n, p, h, g = sizes(
        "attention_prefill", {"sequences": sequences, "new": new, "past": past, "heads": heads, "kv_heads": kv_heads}
    )
    return prefill_totals(
        device, s * causal_pairs(n, p, window), s * n, s * seen_keys(n, p, window), h, g, head_dim, v_head_dim, kv_dtype
    )


def prefill_totals(
    device: Device,
    pairs: Array,
    new: Array,
    keys: Array,
    heads: Array,
    kv_heads: Array,
    head_dim: int,
    v_head_dim: int,
    kv_dtype: str,
) -> Timed:
    """Prefill from the totals over a batch: query-key pairs, new tokens, keys read."""
    width = float(head_dim + v_head_dim)
    moved = new * heads * width * 2.0 + keys * kv_heads * width * _kv_bytes(kv_dtype)
    return roofline_times(device, Work(2.0 * pairs * heads * width, moved, "bf16"))


def decode_timed(
    device: Device,
    sequences: ArrayLike,
    kv_tokens: ArrayLike,
    heads: ArrayLike,
    kv_heads: ArrayLike,
    head_dim: int,
    v_head_dim: int,
    kv_dtype: str,
    window: int | None = None,
) -> Timed:
    """One new token for each of `sequences`, with `kv_tokens` keys over all of them."""
    s, t, h, g = sizes(
        "attention_decode", {"sequences": sequences, "kv_tokens": kv_tokens, "heads": heads, "kv_heads": kv_heads}
    )
    keys = t if window is None else np.minimum(t, s * float(window))
    width = float(head_dim + v_head_dim)
    moved = s * h * width * 2.0 + keys * g * width * _kv_bytes(kv_dtype)
    return roofline_times(device, Work(2.0 * keys * h * width, moved, "bf16"))


def mla_decode_timed(
    device: Device,
    sequences: ArrayLike,
    kv_tokens: ArrayLike,
    heads: ArrayLike,
    kv_lora_rank: int,
    rope_dim: int,
    kv_dtype: str,
) -> Timed:
    """Absorbed MLA: every head reads the one latent of kv_lora_rank + rope_dim. DeepSeek-V2, arXiv:2405.04434, 2.1."""
    s, t, h = sizes("mla_decode", {"sequences": sequences, "kv_tokens": kv_tokens, "heads": heads})
    latent = float(kv_lora_rank + rope_dim)
    moved = t * latent * _kv_bytes(kv_dtype) + s * h * (latent + kv_lora_rank) * 2.0
    return roofline_times(device, Work(2.0 * t * h * (latent + kv_lora_rank), moved, "bf16"))


def mla_prefill_timed(
    device: Device,
    sequences: ArrayLike,
    new: ArrayLike,
    past: ArrayLike,
    heads: ArrayLike,
    rope_dim: int,
    nope_dim: int,
    v_dim: int,
    kv_dtype: str,
) -> Timed:
    """Expanded MLA: keys of nope + rope, values of v for every head (the up-projection is its own GEMM)."""
    return prefill_timed(device, sequences, new, past, heads, heads, nope_dim + rope_dim, v_dim, kv_dtype)


def elementwise_timed(device: Device, read_bytes: ArrayLike, written_bytes: ArrayLike) -> Timed:
    """A streaming kernel: bytes in, bytes out."""
    r, w = sizes("elementwise", {"read_bytes": read_bytes, "written_bytes": written_bytes})
    return roofline_times(device, Work(np.zeros_like(r), r + w, "bf16"))
