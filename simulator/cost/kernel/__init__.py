"""Time of one kernel at its shapes on a device, each with its provenance and expected error.

Scalar functions return a `Price` and are memoised; `*_times` take arrays (NumPy broadcasting) and return seconds.
A size of 0 is nothing to do and costs 0 s; negative, NaN or infinite sizes and unknown formats raise KernelError.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from simulator.cost.kernel import families
from simulator.cost.kernel.roofline import Timed
from simulator.cost.kernel.sizes import Array, sizes
from simulator.cost.kernel.work import causal_pairs, seen_keys
from simulator.cost.price import Bound, Price
from simulator.errors import KernelError
from simulator.hardware.device import Device

Sequences = tuple[tuple[int, int], ...]
"""(new tokens, past tokens) of each sequence of a batch."""
_CACHE = 65536


def _price(timed: Timed) -> Price:
    time_s, compute_s, memory_s = float(timed.time_s), float(timed.compute_s), float(timed.memory_s)
    slower = max(compute_s, memory_s)
    # Where the launch and other fixed times are over half of it, neither side of the roofline binds.
    bound: Bound = "latency" if slower < 0.5 * time_s else "compute" if compute_s >= memory_s else "memory"
    return Price(time_s, timed.provenance, timed.error, bound)


@lru_cache(maxsize=_CACHE)
def gemm(device: Device, m: int, n: int, k: int, dtype: str) -> Price:
    """[m, k] x [k, n]; `dtype` is the weights' format (activations bf16 where weight-only)."""
    return _price(families.bmm_timed(device, 1, m, n, k, dtype))


@lru_cache(maxsize=_CACHE)
def bmm(device: Device, batch: int, m: int, n: int, k: int, dtype: str) -> Price:
    """`batch` equal products [m, k] x [k, n]."""
    return _price(families.bmm_timed(device, batch, m, n, k, dtype))


@lru_cache(maxsize=_CACHE)
def attention_prefill(
    device: Device,
    sequences: Sequences,
    heads: int,
    kv_heads: int,
    head_dim: int,
    v_head_dim: int,
    kv_dtype: str,
    window: int | None = None,
) -> Price:
    """Causal attention of a batch of (new, past) sequences in one launch."""
    if not sequences:
        return Price(0.0, "roofline", 0.0, "latency")
    new, past = np.array(sequences, dtype=np.float64).T
    new, past, h, g = sizes("attention_prefill", {"new": new, "past": past, "heads": heads, "kv_heads": kv_heads})
    return _price(
        families.prefill_totals(
            device,
            causal_pairs(new, past, window).sum(),
            new.sum(),
            seen_keys(new, past, window).sum(),
            h[0],
            g[0],
            head_dim,
            v_head_dim,
            kv_dtype,
        )
    )


@lru_cache(maxsize=_CACHE)
def attention_decode(
    device: Device,
    sequences: int,
    kv_tokens: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    v_head_dim: int,
    kv_dtype: str,
    window: int | None = None,
) -> Price:
    """One new token of each sequence; `kv_tokens` is the sum of their KV lengths."""
    return _price(
        families.decode_timed(device, sequences, kv_tokens, heads, kv_heads, head_dim, v_head_dim, kv_dtype, window)
    )


@lru_cache(maxsize=_CACHE)
def mla_prefill(
    device: Device,
    sequences: Sequences,
    heads: int,
    kv_lora_rank: int,
    rope_dim: int,
    nope_dim: int,
    v_dim: int,
    kv_dtype: str,
) -> Price:
    """Expanded (non-absorbed) MLA attention; `kv_lora_rank` does not enter, the up-projection is a GEMM of its own."""
    return attention_prefill(device, sequences, heads, heads, nope_dim + rope_dim, v_dim, kv_dtype)


@lru_cache(maxsize=_CACHE)
def mla_decode(
    device: Device, sequences: int, kv_tokens: int, heads: int, kv_lora_rank: int, rope_dim: int, kv_dtype: str
) -> Price:
    """Absorbed MLA decode; the absorption's batched GEMMs are separate `bmm`s."""
    return _price(families.mla_decode_timed(device, sequences, kv_tokens, heads, kv_lora_rank, rope_dim, kv_dtype))


@lru_cache(maxsize=_CACHE)
def grouped_gemm(device: Device, rows: tuple[int, ...], n: int, k: int, dtype: str) -> Price:
    """One launch over local experts; `rows` is the tokens of each."""
    return _price(families.grouped_timed(device, sum(rows), sum(r > 0 for r in rows), n, k, dtype))


@lru_cache(maxsize=_CACHE)
def moe_ffn(device: Device, rows: tuple[int, ...], hidden: int, inter: int, dtype: str, gated: bool = True) -> Price:
    """Expert feed-forward: gate and up in one grouped GEMM, then down."""
    up = grouped_gemm(device, rows, inter * (2 if gated else 1), hidden, dtype)
    down = grouped_gemm(device, rows, hidden, inter, dtype)
    return Price(up.time_s + down.time_s, up.provenance, up.error, up.bound)


@lru_cache(maxsize=_CACHE)
def elementwise(device: Device, read_bytes: float, written_bytes: float, name: str = "") -> Price:
    """A streaming kernel (norm, rotary, activation, quantise, embedding, permute, sampling, add)."""
    return _price(families.elementwise_timed(device, read_bytes, written_bytes))


def gemm_times(device: Device, m: ArrayLike, n: ArrayLike, k: ArrayLike, dtype: str) -> Array:
    """Seconds of an array of GEMMs."""
    return families.bmm_timed(device, 1, m, n, k, dtype).time_s


def bmm_times(device: Device, batch: ArrayLike, m: ArrayLike, n: ArrayLike, k: ArrayLike, dtype: str) -> Array:
    """Seconds of an array of batched GEMMs."""
    return families.bmm_timed(device, batch, m, n, k, dtype).time_s


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
) -> Array:
    """Seconds of prefill for `sequences` equal sequences in each element."""
    return families.prefill_timed(
        device, sequences, new, past, heads, kv_heads, head_dim, v_head_dim, kv_dtype, window
    ).time_s


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
) -> Array:
    """Seconds of decode attention."""
    return families.decode_timed(
        device, sequences, kv_tokens, heads, kv_heads, head_dim, v_head_dim, kv_dtype, window
    ).time_s


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
) -> Array:
    """Seconds of expanded MLA prefill."""
    return families.mla_prefill_timed(device, sequences, new, past, heads, rope_dim, nope_dim, v_dim, kv_dtype).time_s


def mla_decode_times(
    device: Device,
    sequences: ArrayLike,
    kv_tokens: ArrayLike,
    heads: ArrayLike,
    kv_lora_rank: int,
    rope_dim: int,
    kv_dtype: str,
) -> Array:
    """Seconds of absorbed MLA decode."""
    return families.mla_decode_timed(device, sequences, kv_tokens, heads, kv_lora_rank, rope_dim, kv_dtype).time_s


def grouped_gemm_times(
    device: Device, rows: ArrayLike, active: ArrayLike, n: ArrayLike, k: ArrayLike, dtype: str
) -> Array:
    """Seconds of grouped GEMMs of `rows` tokens over `active` experts."""
    return families.grouped_timed(device, rows, active, n, k, dtype).time_s


def elementwise_times(device: Device, read_bytes: ArrayLike, written_bytes: ArrayLike) -> Array:
    """Seconds of streaming kernels."""
    return families.elementwise_timed(device, read_bytes, written_bytes).time_s


__all__ = [
    "KernelError",
    "Sequences",
    "attention_decode",
    "attention_decode_times",
    "attention_prefill",
    "attention_prefill_times",
    "bmm",
    "bmm_times",
    "elementwise",
    "elementwise_times",
    "gemm",
    "gemm_times",
    "grouped_gemm",
    "grouped_gemm_times",
    "mla_decode",
    "mla_decode_times",
    "mla_prefill",
    "mla_prefill_times",
    "moe_ffn",
]
