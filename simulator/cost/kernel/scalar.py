"""Prices of single ops, memoised: what the program's time reading asks for."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from simulator.cost.kernel import families
from simulator.cost.kernel.families import AttentionKind
from simulator.cost.kernel.formats import canonical
from simulator.cost.kernel.grouped import ExpertBlock, expert_rows
from simulator.cost.kernel.latent import LATENT, NOPE, ROPE, VALUE
from simulator.cost.kernel.measured import Tables, activate, correction, deactivate
from simulator.cost.kernel.prompts import Prompts
from simulator.cost.kernel.roofline import Timed
from simulator.cost.kernel.sizes import sizes
from simulator.cost.price import Bound, Price
from simulator.hardware.device import Device

Sequences = tuple[tuple[int, int], ...]
"""(new tokens, past tokens) of each sequence of a batch."""
_CACHE = 65536


def _equal_and_new(sequences: Sequences) -> bool:
    """Whether the batch is what prefill tables hold: equal lengths, nothing cached."""
    return bool(sequences) and len(set(sequences)) == 1 and sequences[0][1] == 0


def use_measured(tables: Tables) -> None:
    """Ask measured tables first for kernels on their GPU; memoised prices are forgotten."""
    activate(tables)
    _forget()


def forget_measured(gpu: str | None = None) -> None:
    """Back to the fitted models, for one GPU or all."""
    deactivate(gpu)
    _forget()


def _forget() -> None:
    for memoised in (gemm, attention_prefill, attention_decode, mla_prefill, mla_decode):
        memoised.cache_clear()


def _price(timed: Timed) -> Price:
    time_s, compute_s, memory_s = float(timed.time_s), float(timed.compute_s), float(timed.memory_s)
    slower = max(compute_s, memory_s)
    # Where the launch and other fixed times are over half of it, neither side of the roofline binds.
    bound: Bound = "latency" if slower < 0.5 * time_s else "compute" if compute_s >= memory_s else "memory"
    return Price(time_s, timed.provenance, timed.error, bound)


def _asked(
    device: Device,
    table: tuple[str, str, tuple[object, ...]],
    point: tuple[float, ...],
    model: Callable[[str], Timed],
) -> Price:
    """Measured where active tables reach `point`, else fitted. `table` is (family, engine, formats and widths)."""
    said = correction(device.name, *table, point)
    return _price(model(table[1]) if said is None else families.refined(model(said.engine), said))


def _prompts(op: str, sequences: Sequences) -> Prompts:
    new, past = np.array(sequences, dtype=np.float64).reshape(-1, 2).T
    new, past = sizes(op, {"new": new, "past": past})
    return Prompts(np.ones_like(new), new, past)


@lru_cache(maxsize=_CACHE)
def gemm(device: Device, m: int, n: int, k: int, dtype: str, backend: str = "") -> Price:
    """[m, k] x [k, n]; `dtype` is the weights' format (activations bf16 where weight-only)."""

    def model(engine: str) -> Timed:
        return families.bmm_timed(device, 1, m, n, k, dtype, engine)

    return _asked(device, ("gemm", backend, (canonical(dtype),)), (m, n, k), model)


@lru_cache(maxsize=_CACHE)
def bmm(device: Device, batch: int, m: int, n: int, k: int, dtype: str, backend: str = "") -> Price:
    """`batch` equal products [m, k] x [k, n]."""
    return _price(families.bmm_timed(device, batch, m, n, k, dtype, backend))


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
    backend: str = "",
) -> Price:
    """Causal attention of a batch of (new, past) sequences in one launch."""
    prompts = _prompts("attention_prefill", sequences)

    def model(engine: str) -> Timed:
        kind = AttentionKind(head_dim, v_head_dim, kv_dtype, window, backend=engine)
        return families.prefill_timed(device, prompts, heads, kv_heads, kind)

    if head_dim != v_head_dim or not _equal_and_new(sequences):
        return _price(model(backend))
    detail = (*families.attention_unit_names("bf16", kv_dtype), head_dim, window or 0)
    point = (len(sequences), sequences[0][0], heads, kv_heads)
    return _asked(device, ("prefill", backend, detail), point, model)


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
    backend: str = "",
) -> Price:
    """One new token of each sequence; `kv_tokens` is the sum of their KV lengths."""

    def model(engine: str) -> Timed:
        kind = AttentionKind(head_dim, v_head_dim, kv_dtype, window, backend=engine)
        return families.decode_timed(device, sequences, kv_tokens, heads, kv_heads, kind)

    if head_dim != v_head_dim or not sequences:
        return _price(model(backend))
    detail = (families.attention_unit_names("bf16", kv_dtype)[1], head_dim, window or 0)
    return _asked(device, ("decode", backend, detail), (sequences, kv_tokens / sequences, heads, kv_heads), model)


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
    backend: str = "",
) -> Price:
    """Expanded (non-absorbed) MLA attention; the up-projection of keys and values is a GEMM of its own."""
    widths = (kv_lora_rank, rope_dim, nope_dim, v_dim)
    prompts = _prompts("mla_prefill", sequences)

    def model(engine: str) -> Timed:
        return families.latent_prefill_timed(device, prompts, heads, widths, kv_dtype, engine)

    if widths != (LATENT, ROPE, NOPE, VALUE) or not _equal_and_new(sequences):
        return _price(model(backend))
    detail = families.attention_unit_names("bf16", kv_dtype)[1:]
    return _asked(device, ("latent_prefill", backend, detail), (len(sequences), sequences[0][0], heads), model)


@lru_cache(maxsize=_CACHE)
def mla_decode(
    device: Device,
    sequences: int,
    kv_tokens: int,
    heads: int,
    kv_lora_rank: int,
    rope_dim: int,
    kv_dtype: str,
    backend: str = "",
) -> Price:
    """Absorbed MLA decode; the absorption's batched GEMMs are separate `bmm`s."""
    widths = (kv_lora_rank, rope_dim)

    def model(engine: str) -> Timed:
        return families.latent_decode_timed(device, sequences, kv_tokens, heads, widths, kv_dtype, engine)

    if widths != (LATENT, ROPE) or not sequences:
        return _price(model(backend))
    detail = families.attention_unit_names("bf16", kv_dtype)[1:]
    return _asked(device, ("latent_decode", backend, detail), (sequences, kv_tokens / sequences, heads), model)


@lru_cache(maxsize=_CACHE)
def grouped_gemm(device: Device, rows: tuple[int, ...], n: int, k: int, dtype: str, variant: str = "") -> Price:
    """One launch over local experts; `rows` is the tokens of each."""
    (loads,) = sizes("grouped_gemm", {"rows": np.array(rows or (0,))})
    return _price(families.grouped_timed(device, expert_rows(loads[None, :], canonical(dtype)), n, k, dtype, variant))


@lru_cache(maxsize=_CACHE)
def moe_ffn(
    device: Device,
    rows: tuple[int, ...],
    hidden: int,
    inter: int,
    dtype: str,
    gated: bool = True,
    tokens: int | None = None,
    top_k: int = 1,
    variant: str = "",
    chain_s: float | None = None,
) -> Price:
    """An expert block on one rank: permute, gate and up, activation, down, un-permute and sum, as engines fuse it.

    `rows` is the tokens of each local expert; `tokens` the distinct tokens on the rank (None: every row is one, as
    after a dispatch that sends a copy per expert) of `top_k` choices each. `chain_s`: launches of an engine's own chain
    of kernels in place of the measured tables'.
    """
    (loads,) = sizes("moe_ffn", {"rows": np.array(rows or (0,))})
    sent = loads.sum() if tokens is None else tokens
    h, i, t, k = sizes("moe_ffn", {"hidden": hidden, "inter": inter, "tokens": sent, "top_k": top_k})
    block = ExpertBlock(h, i, np.asarray(float(len(rows))), k, t, np.asarray(2.0 if gated else 1.0))
    return _price(
        families.experts_timed(device, expert_rows(loads[None, :], canonical(dtype)), block, dtype, variant, chain_s)
    )


@lru_cache(maxsize=_CACHE)
def elementwise(device: Device, read_bytes: float, written_bytes: float, name: str = "") -> Price:
    """A streaming kernel; `name` says which, for error messages (norm, rotary, activation, quantise, sampling ...)."""
    return _price(families.elementwise_timed(device, read_bytes, written_bytes, name))
