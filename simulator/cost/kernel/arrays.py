"""Seconds of arrays of ops, by NumPy broadcasting: what step-time tables are built from."""

import numpy as np
from numpy.typing import ArrayLike

from simulator.cost.kernel import families
from simulator.cost.kernel.families import AttentionKind
from simulator.cost.kernel.formats import canonical
from simulator.cost.kernel.grouped import TILE, ExpertBlock, ExpertRows, filled, mma_rows
from simulator.cost.kernel.prompts import Prompts
from simulator.cost.kernel.sizes import Array, sizes
from simulator.hardware.device import Device


def gemm_times(device: Device, m: ArrayLike, n: ArrayLike, k: ArrayLike, dtype: str, backend: str = "") -> Array:
    """Seconds of GEMMs [m, k] x [k, n]."""
    return families.bmm_timed(device, 1, m, n, k, dtype, backend).time_s


def bmm_times(
    device: Device, batch: ArrayLike, m: ArrayLike, n: ArrayLike, k: ArrayLike, dtype: str, backend: str = ""
) -> Array:
    """Seconds of batched GEMMs."""
    return families.bmm_timed(device, batch, m, n, k, dtype, backend).time_s


def _prompts(op: str, sequences: ArrayLike, new: ArrayLike, past: ArrayLike) -> Prompts:
    s, n, p = sizes(op, {"sequences": sequences, "new": new, "past": past})
    return Prompts(s[..., None], n[..., None], p[..., None])


def attention_prefill_times(
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
    backend: str = "",
) -> Array:
    """Seconds of prefill of `sequences` equal sequences in each element."""
    kind = AttentionKind(head_dim, v_head_dim, kv_dtype, window, backend=backend)
    prompts = _prompts("attention_prefill", sequences, new, past)
    return families.prefill_timed(device, prompts, heads, kv_heads, kind).time_s


def attention_decode_times(
    device: Device,
    sequences: ArrayLike,
    kv_tokens: ArrayLike,
    heads: ArrayLike,
    kv_heads: ArrayLike,
    head_dim: int,
    v_head_dim: int,
    kv_dtype: str,
    window: int | None = None,
    backend: str = "",
) -> Array:
    """Seconds of decode attention; `kv_tokens` is the sum over the sequences of an element."""
    kind = AttentionKind(head_dim, v_head_dim, kv_dtype, window, backend=backend)
    return families.decode_timed(device, sequences, kv_tokens, heads, kv_heads, kind).time_s


def mla_prefill_times(
    device: Device,
    sequences: ArrayLike,
    new: ArrayLike,
    past: ArrayLike,
    heads: ArrayLike,
    kv_lora_rank: int,
    rope_dim: int,
    nope_dim: int,
    v_dim: int,
    kv_dtype: str,
    backend: str = "",
) -> Array:
    """Seconds of expanded MLA prefill."""
    widths = (kv_lora_rank, rope_dim, nope_dim, v_dim)
    prompts = _prompts("mla_prefill", sequences, new, past)
    return families.latent_prefill_timed(device, prompts, heads, widths, kv_dtype, backend).time_s


def mla_decode_times(
    device: Device,
    sequences: ArrayLike,
    kv_tokens: ArrayLike,
    heads: ArrayLike,
    kv_lora_rank: int,
    rope_dim: int,
    kv_dtype: str,
    backend: str = "",
) -> Array:
    """Seconds of absorbed MLA decode."""
    widths = (kv_lora_rank, rope_dim)
    return families.latent_decode_timed(device, sequences, kv_tokens, heads, widths, kv_dtype, backend).time_s


def _even_rows(op: str, rows: ArrayLike, active: ArrayLike, dtype: str) -> ExpertRows:
    """Rows spread evenly over the active experts."""
    r, a = sizes(op, {"rows": rows, "active": active})
    each = np.divide(r, a, out=np.zeros_like(r), where=a > 0)
    pad = mma_rows(canonical(dtype))
    return ExpertRows(r, a, a * filled(each, TILE), a * filled(each, pad) * pad)


def grouped_gemm_times(
    device: Device, rows: ArrayLike, active: ArrayLike, n: ArrayLike, k: ArrayLike, dtype: str, variant: str = ""
) -> Array:
    """Seconds of grouped GEMMs of `rows` tokens spread evenly over `active` experts."""
    return families.grouped_timed(device, _even_rows("grouped_gemm", rows, active, dtype), n, k, dtype, variant).time_s


def moe_ffn_times(
    device: Device,
    rows: ArrayLike,
    active: ArrayLike,
    hidden: ArrayLike,
    inter: ArrayLike,
    dtype: str,
    gated: bool = True,
    variant: str = "",
) -> Array:
    """Seconds of expert blocks of `rows` tokens spread evenly over `active` local experts."""
    spread = _even_rows("moe_ffn", rows, active, dtype)
    r, a, h, i = sizes("moe_ffn", {"rows": rows, "active": active, "hidden": hidden, "inter": inter})
    block = ExpertBlock(h, i, a, np.ones_like(r), r, np.asarray(2.0 if gated else 1.0))
    return families.experts_timed(device, spread, block, dtype, variant).time_s


def elementwise_times(device: Device, read_bytes: ArrayLike, written_bytes: ArrayLike) -> Array:
    """Seconds of streaming kernels."""
    return families.elementwise_timed(device, read_bytes, written_bytes).time_s
