"""The time reading of one compute op: which kernels it launches, and their price."""

from collections.abc import Callable
from functools import lru_cache
from math import ceil, exp, log, sqrt
from typing import Any

import numpy as np

from simulator.cost import kernel
from simulator.cost.price import Price
from simulator.hardware.device import Device
from simulator.program import ops
from simulator.program.work import AttentionShape

ACTIVATION_BYTES = 2.0
"""bf16 activations between kernels, as the engines keep them."""
INDEXER_KERNELS = 8
"""Key norm, rotary of query and key, two Hadamard turns, two quantisations, the key's store, choosing the top k as page
indices (sglang/srt/layers/attention/nsa/nsa_indexer.py, v0.5.6, 2025-12)."""
LINEAR_KERNELS = 4
"""Splitting the projections, the causal convolution, the gates, and the gated norm beside the recurrence itself
(sglang/srt/models/qwen3_next.py and layers/attention/hybrid_linear_attn_backend.py, v0.5.4, 2025-10)."""
NOTHING = Price(0.0, "roofline", 0.0, "latency")
_WORST = {"measured": 0, "fitted": 1, "roofline": 2}


def together(*prices: Price) -> Price:
    """Kernels one after the other: times add, the weakest provenance stands, the longest says what binds."""
    real = [p for p in prices if p.time_s > 0]
    if not real:
        return NOTHING
    total = sum(p.time_s for p in real)
    return Price(
        total,
        max((p.provenance for p in real), key=_WORST.__getitem__),
        sum(p.error * p.time_s for p in real) / total,
        max(real, key=lambda p: p.time_s).bound,
    )


def price_op(
    op: ops.ComputeOp, device: Device, ep_index: int = 0, backend: str = "", expert_chain_s: float | None = None
) -> Price:
    """Time of one op on one rank; `ep_index` picks the rank's experts where they are unevenly loaded.

    `backend` ("vllm", "sglang", "trtllm") picks that engine's kernels where they differ; "" the usual ones.
    `expert_chain_s` is the launches of that engine's expert block; None: of the measured tables'.
    """
    match op:
        case ops.Experts():
            return _experts(op, device, ep_index, expert_chain_s)
        case ops.Linear():
            return _linear(op, device, backend)
        case ops.Attend():
            return _attend(op, device, backend)
        case ops.AttendLatent():
            return _attend_latent(op, device, backend)
    return PRICES[type(op)](op, device)


def _stream(device: Device, read: float, written: float, name: str) -> Price:
    return kernel.elementwise(device, read * ACTIVATION_BYTES, written * ACTIVATION_BYTES, name)


def _embed(op: ops.Embed, device: Device) -> Price:
    return _stream(device, op.tokens * op.hidden, op.tokens * op.hidden, "embedding")


def _norm(op: ops.Norm, device: Device) -> Price:
    size = op.tokens * op.features
    return _stream(device, size * len(op.inputs), size * len(op.outputs), "norm")


def _linear(op: ops.Linear, device: Device, backend: str = "") -> Price:
    return kernel.gemm(device, op.tokens, sum(op.ns), op.k, op.dtype, backend)


def _two_way(op: Any, device: Device) -> Price:
    """Reads and writes its activations once."""
    return _stream(device, op.tokens * op.features, op.tokens * op.features, op.name)


def _sum_of_squares(op: ops.SumOfSquares, device: Device) -> Price:
    return _stream(device, op.tokens * op.features, op.tokens * 4, "norm")


def _head_norm(op: ops.HeadNorm, device: Device) -> Price:
    size = op.tokens * (op.heads + op.kv_heads) * op.head_dim
    return _stream(device, size, size, "norm")


def _parts(shape: AttentionShape, window: int | None) -> tuple[tuple[tuple[int, int], ...], int]:
    """Prefilled sequences, and cached tokens that the decoding ones read (within the window)."""
    tokens = shape.decode_kv_tokens
    if window is not None and shape.decodes:
        tokens = min(tokens, shape.decodes * window)
    return shape.prefills, tokens


def _attend(op: ops.Attend, device: Device, backend: str = "") -> Price:
    window = _keys_read(op)
    prefills, kv_tokens = _parts(op.shape, window)
    shape = (op.heads, op.kv_heads, op.head_dim, op.v_head_dim, op.kv_dtype)
    prices = []
    if prefills:
        prices.append(_shared(kernel.attention_prefill(device, prefills, *shape, window, backend), op.shape.share))
    if op.shape.decodes:
        prices.append(
            kernel.attention_decode(device, op.shape.decodes, ceil(kv_tokens * op.shape.share), *shape, window, backend)
        )
    return together(*prices)


def _keys_read(op: ops.Attend) -> int | None:
    """Cache entries a query reads at most; None: all before it."""
    limits = [limit for limit in (op.window, op.chunk) if limit is not None]
    if op.compression > 1:  # the window whole, and the compressed entries before it (or the chosen of them)
        longest = max((new + past for new, past in op.shape.prefills), default=0)
        mean = op.shape.decode_kv_tokens // op.shape.decodes if op.shape.decodes else longest
        entries = mean // op.compression
        return (op.window or 0) + min(entries, op.sparse_top_k or entries)
    if op.sparse_top_k is not None:
        limits.append(op.sparse_top_k)
    return min(limits, default=None)


def _shared(price: Price, share: float) -> Price:
    """One context-parallel rank's part of a prefill."""
    return price if share == 1.0 else Price(price.time_s * share, price.provenance, price.error, price.bound)


def _attend_latent(op: ops.AttendLatent, device: Device, backend: str = "") -> Price:
    prices = []
    prefills, kv_tokens = _parts(op.shape, op.sparse_top_k)
    if prefills:
        tokens = sum(new + past for new, past in prefills)
        new_tokens = ceil(sum(new for new, _ in prefills) * op.shape.share)
        width = op.heads * (op.nope_head_dim + op.v_head_dim)
        prices.append(kernel.gemm(device, tokens, width, op.kv_lora_rank, op.dtype))
        widths = (op.kv_lora_rank, op.rope_head_dim, op.nope_head_dim, op.v_head_dim)
        core = kernel.mla_prefill(device, prefills, op.heads, *widths, op.kv_dtype, backend)
        prices += [_shared(core, op.shape.share), _indexer(op, device, new_tokens, tokens)]
    if op.shape.decodes:
        n, read = op.shape.decodes, ceil(kv_tokens * op.shape.share)
        prices.append(kernel.bmm(device, op.heads, n, op.kv_lora_rank, op.nope_head_dim, "bf16"))
        widths_read = (op.kv_lora_rank, op.rope_head_dim)
        prices.append(kernel.mla_decode(device, n, read, op.heads, *widths_read, op.kv_dtype, backend))
        prices.append(kernel.bmm(device, op.heads, n, op.v_head_dim, op.kv_lora_rank, "bf16"))
        prices.append(_indexer(op, device, n, op.shape.decode_kv_tokens))
    return together(*prices)


def _indexer(op: ops.AttendLatent, device: Device, queries: int, keys: int) -> Price:
    """DeepSeek-V3.2's lightning indexer: fp8 scores of every key, for each of its heads, then top-k.

    Source: DeepSeek-V3.2-Exp report (2025-09-29), equation 1. Keys are read once per 64 queries of a tile. Before it
    every rank projects all queries, the key and the weights, and runs INDEXER_KERNELS small kernels.
    """
    if not op.indexer_heads:
        return NOTHING
    wide = op.indexer_heads * op.indexer_head_dim
    latent, hidden = op.indexer_inputs
    before = (
        kernel.gemm(device, queries, wide, latent, op.dtype),
        kernel.gemm(device, queries, op.indexer_head_dim, hidden, op.dtype),
        kernel.gemm(device, queries, op.indexer_heads, hidden, "bf16"),
        *(_stream(device, queries * wide, queries * wide, "indexer") for _ in range(INDEXER_KERNELS)),
    )
    score = kernel.gemm(
        device, queries * op.indexer_heads, max(1, keys // max(1, op.shape.decodes)), op.indexer_head_dim, "fp8"
    )
    best = kernel.elementwise(device, keys * op.indexer_head_dim * 1.0, queries * 4.0, "indexer")
    return together(*before, score, best)


def _attend_linear(op: ops.AttendLinear, device: Device) -> Price:
    """Gated delta rule: reads and writes each sequence's state (decode), or streams chunks of 64 tokens (prefill)."""
    state = op.value_heads * op.key_head_dim * op.value_head_dim
    sequences = len(op.shape.prefills) + op.shape.decodes
    flow = op.tokens * (2 * op.key_heads * op.key_head_dim + 3 * op.value_heads * op.value_head_dim)
    memory = kernel.elementwise(
        device, 4.0 * state * sequences + ACTIVATION_BYTES * flow, 4.0 * state * sequences, "linear_attention"
    )
    small = [_stream(device, flow, flow, "linear_attention")] * LINEAR_KERNELS
    if op.tokens <= sequences:
        return together(memory, *small)
    chunks = kernel.bmm(device, op.value_heads, op.tokens, op.value_head_dim, op.key_head_dim + 64, "bf16")
    return together(memory, chunks, chunks, *small)


def _merge(op: ops.MergeAttention, device: Device) -> Price:
    size = op.tokens * op.heads * op.v_head_dim
    return _stream(device, size * op.parts * 2, size, "merge_attention")


def _activate(op: ops.Activate, device: Device) -> Price:
    size = op.tokens * op.features
    return _stream(device, size * len(op.inputs), size, "activation")


def _route(op: ops.Route, device: Device) -> Price:
    """The scores alone: choosing the top k is inside what was measured of the expert block."""
    return kernel.gemm(device, op.tokens, op.experts, op.hidden, "bf16")


def _move(op: Any, device: Device) -> Price:
    return _stream(device, op.tokens * op.hidden, op.tokens * op.hidden, "permute")


def expected_rows(rows: tuple[float, ...]) -> tuple[int, ...]:
    """Whole rows per expert for expected ones: experts that a small batch is likely to miss get none.

    An expert with mean r is idle with probability exp(-r) (Poisson), so the number of busy experts, whose
    weights must be read, is the sum of 1 - exp(-r).
    """
    total = round(sum(rows))
    if total == 0:
        return (0,) * len(rows)
    busy = min(total, max(1, round(sum(1.0 - exp(-r) for r in rows))))
    order = sorted(range(len(rows)), key=lambda i: -rows[i])[:busy]
    kept = sum(rows[i] for i in order)
    found = [0] * len(rows)
    for i in order:
        found[i] = max(1, round(rows[i] * total / kept))
    return tuple(found)


@lru_cache(maxsize=4096)
def slowest_share(mean: float, ranks: int) -> float:
    """Expected largest of `ranks` Poisson counts of that mean, over the mean: the rank that the others wait for.

    Which experts a few tokens choose is chance, so ranks of equal expectation get unequal rows.

    >>> round(slowest_share(4.0, 8), 2), round(slowest_share(4000.0, 8), 2), slowest_share(4.0, 1)
    (1.8, 1.02, 1.0)
    """
    if ranks == 1 or mean <= 0.0:
        return 1.0
    counts = np.arange(int(mean + 10.0 * sqrt(mean) + 20.0))
    logs = counts * log(mean) - mean - np.cumsum(np.log(np.maximum(counts, 1)))
    at_most = np.minimum(np.cumsum(np.exp(logs)), 1.0)
    return float((1.0 - at_most**ranks).sum() / mean)


def _experts(op: ops.Experts, device: Device, ep_index: int, chain_s: float | None) -> Price:
    """The whole block in one price: permute, activation and weighted sum are part of what was measured."""
    mine = op.load.rows[ep_index]
    unlucky = slowest_share(float(round(sum(mine), 6)), len(op.load.rows))
    rows = expected_rows(tuple(row * unlucky for row in mine))
    dtype = op.dtype
    if dtype == "mxfp4" and "fp4" in device.peak_flops_per_s:
        # Tensor cores that multiply mxfp4 take mxfp8 activations; engines quantise them on the way (W4A8).
        dtype = "mxfp4_mxfp8"
    return kernel.moe_ffn(device, rows, op.hidden, op.intermediate, dtype, chain_s=chain_s)


def _add(op: ops.Add, device: Device) -> Price:
    """A single input is only renamed."""
    return _two_way(op, device) if len(op.inputs) > 1 else NOTHING


def _slice(_op: ops.SliceTokens, _device: Device) -> Price:
    return NOTHING  # a view: the next kernel reads it in place


def _last(op: ops.LastTokens, device: Device) -> Price:
    return _stream(device, op.sequences * op.features, op.sequences * op.features, "gather")


def _best(op: ops.LocalBest, device: Device) -> Price:
    return _stream(device, op.sequences * op.vocab_local, op.sequences * 4, "sampling")


def _pick(op: ops.PickBest, device: Device) -> Price:
    return _stream(device, op.sequences * op.parts * 4, op.sequences * 4, "sampling")


PRICES: dict[type, Callable[[Any, Device], Price]] = {
    ops.Embed: _embed,
    ops.Norm: _norm,
    ops.Linear: _linear,
    ops.SumOfSquares: _sum_of_squares,
    ops.HeadNorm: _head_norm,
    ops.Rotate: _two_way,
    ops.TuneQueries: _two_way,
    ops.Attend: _attend,
    ops.AttendLatent: _attend_latent,
    ops.AttendLinear: _attend_linear,
    ops.MergeAttention: _merge,
    ops.Gate: _two_way,
    ops.Activate: _activate,
    ops.Route: _route,
    ops.DispatchPack: _move,
    ops.DispatchUnpack: _move,
    ops.CombinePack: _move,
    ops.CombineUnpack: _move,
    ops.Add: _add,
    ops.SliceTokens: _slice,
    ops.LastTokens: _last,
    ops.LocalBest: _best,
    ops.PickBest: _pick,
}
