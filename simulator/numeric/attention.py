"""Sharded attention kernels: grouped-query and latent, over paged-in caches and new keys.

Written for the local heads of one rank; what the unsharded model does is in `reference/`.
"""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from simulator.errors import NotBuiltError
from simulator.numeric.rank import Array, OpContext, SequenceCache
from simulator.program.ops import Attend, AttendLatent, MergeAttention
from simulator.program.work import Sequence, local_positions, stored_positions

Outputs = tuple[Any, ...]


def _rows_by_sequence(ctx: OpContext) -> list[tuple[Sequence, slice, NDArray[np.int64]]]:
    """Each sequence with its rows on this rank and their positions."""
    cp, index = ctx.state.layout.cp, ctx.state.index(("cp",))
    found, start = [], 0
    for sequence in ctx.work.sequences:
        positions = local_positions(sequence, index, cp)
        found.append((sequence, slice(start, start + len(positions)), positions))
        start += len(positions)
    return found


def token_positions(ctx: OpContext) -> NDArray[np.int64]:
    """Position of every row on this rank."""
    rows = _rows_by_sequence(ctx)
    return np.concatenate([positions for _, _, positions in rows]) if rows else np.zeros(0, np.int64)


def _gathered(ctx: OpContext, value: Array, target: int) -> tuple[Array, NDArray[np.int64]]:
    """Rows of sequence number `target` out of a value gathered over cp, and their positions."""
    parts, places, start = [], [], 0
    cp = ctx.state.layout.cp
    for rank in range(cp):
        for number, sequence in enumerate(ctx.work.sequences):
            positions = local_positions(sequence, rank, cp)
            if number == target:
                parts.append(value[start : start + len(positions)])
                places.append(positions)
            start += len(positions)
    return np.concatenate(parts), np.concatenate(places)


def _visible(op: Attend | AttendLatent, queries: Array, keys: Array) -> NDArray[np.bool_]:
    seen: NDArray[np.bool_] = keys[None, :] <= queries[:, None]
    if isinstance(op, Attend) and op.window is not None:
        seen &= keys[None, :] > queries[:, None] - op.window
    if isinstance(op, Attend) and op.chunk is not None:
        seen &= keys[None, :] // op.chunk == queries[:, None] // op.chunk
    return seen


def _softmax(scores: Array, sinks: Array | None) -> tuple[Array, Array]:
    """Unnormalised weights [heads, queries, keys] against the row's maximum, and the log-sum-exp.

    A row that sees no key has weights 0 and log-sum-exp -inf.
    """
    top = np.max(scores, axis=-1, initial=-np.inf)
    if sinks is not None:
        top = np.maximum(top, sinks[:, None])
    safe = np.where(np.isfinite(top), top, 0.0)
    weights = np.exp(scores - safe[..., None])
    total = weights.sum(axis=-1)
    if sinks is not None:
        total = total + np.exp(sinks[:, None] - safe)
    with np.errstate(divide="ignore"):
        return weights / np.where(total > 0, total, 1.0)[..., None], safe + np.log(total)


def _store(ctx: OpContext, sequence: Sequence, positions: NDArray[np.int64], rows: dict[str, Array]) -> SequenceCache:
    """Keeps the new rows this rank is to keep, and returns the cache."""
    index, cp = ctx.state.index(("cp",)), ctx.state.layout.cp
    kept = np.isin(positions, stored_positions(sequence, index, cp))
    key = (ctx.layer, sequence.id)
    cache = ctx.state.caches.get(key)
    if cache is None:
        empty = {name: new[:0] for name, new in rows.items()}
        cache = ctx.state.caches[key] = SequenceCache(np.zeros(0, np.int64), empty)
    cache.append(positions[kept], {name: new[kept] for name, new in rows.items()})
    return cache


def _keys_of(
    ctx: OpContext, gathered: bool, number: int, sequence: Sequence, span: slice, mine: NDArray[np.int64],
    values: dict[str, Array],
) -> tuple[dict[str, Array], NDArray[np.int64]]:  # fmt: skip
    """Keys the queries may look at: the local cache, or in a context-parallel prefill all ranks' new ones."""
    if not gathered:
        cache = _store(ctx, sequence, mine, {name: value[span] for name, value in values.items()})
        return cache.rows, cache.positions
    if sequence.past:
        raise NotBuiltError(
            where="cp", given="a prefill on top of a cache", rule="context parallelism takes a prompt whole"
        )
    rows = {}
    positions = mine
    for name, value in values.items():
        rows[name], positions = _gathered(ctx, value, number)
    own = np.isin(positions, mine)
    _store(ctx, sequence, positions[own], {name: value[own] for name, value in rows.items()})
    return rows, positions


def attend(op: Attend, inputs: tuple[Any, ...], ctx: OpContext) -> Outputs:
    """(q, k, v) -> attention output, and with `partial` the log-sum-exp [tokens, heads]."""
    q, k, v = inputs
    q = q.reshape(len(q), op.heads, op.head_dim)
    values = {"k": k.reshape(len(k), op.kv_heads, op.head_dim), "v": v.reshape(len(v), op.kv_heads, op.v_head_dim)}
    out = np.zeros((len(q), op.heads, op.v_head_dim), q.dtype)
    lse = np.zeros((len(q), op.heads), q.dtype)
    sinks = ctx.weight(op.sinks) if op.sinks and not (op.partial and ctx.state.index(("cp",))) else None
    group = np.arange(op.heads) * op.kv_heads // op.heads
    for number, (sequence, span, mine) in enumerate(_rows_by_sequence(ctx)):
        rows, positions = _keys_of(ctx, op.gathered, number, sequence, span, mine, values)
        keys, held = rows["k"][:, group], rows["v"][:, group]
        scores = np.einsum("thd,nhd->htn", q[span], keys) * op.scale
        scores = np.where(_visible(op, mine, positions)[None], scores, -np.inf)
        weights, total = _softmax(scores, sinks)
        out[span] = np.einsum("htn,nhd->thd", weights, held)
        lse[span] = total.T
    flat = out.reshape(len(q), op.heads * op.v_head_dim)
    return (flat, lse) if op.partial else (flat,)


def attend_latent(op: AttendLatent, inputs: tuple[Any, ...], ctx: OpContext) -> Outputs:
    """(q, latent and rotated key) -> attention output; expanded in prefill, absorbed in decode.

    Both orders of the products are those of DeepSeek-V2, arXiv:2405.04434, section 2.1.2.
    """
    q, latent = inputs
    q = q.reshape(len(q), op.heads, op.nope_head_dim + op.rope_head_dim)
    expand = ctx.weight(op.weight).reshape(op.heads, op.nope_head_dim + op.v_head_dim, op.kv_lora_rank)
    out = np.zeros((len(q), op.heads, op.v_head_dim), q.dtype)
    lse = np.zeros((len(q), op.heads), q.dtype)
    for number, (sequence, span, mine) in enumerate(_rows_by_sequence(ctx)):
        rows, positions = _keys_of(ctx, op.gathered, number, sequence, span, mine, {"latent": latent})
        read = _read_absorbed if ctx.work.decode else _read_expanded
        seen = _visible(op, mine, positions)
        out[span], lse[span] = read(op, q[span], rows["latent"], expand, seen)
    flat = out.reshape(len(q), op.heads * op.v_head_dim)
    return (flat, lse) if op.partial else (flat,)


def _read_expanded(
    op: AttendLatent, q: Array, latent: Array, expand: Array, seen: NDArray[np.bool_]
) -> tuple[Array, Array]:
    compressed, rotated = latent[:, : op.kv_lora_rank], latent[:, op.kv_lora_rank :]
    both = np.einsum("nr,hdr->nhd", compressed, expand)
    keys, values = both[..., : op.nope_head_dim], both[..., op.nope_head_dim :]
    scores = np.einsum("thd,nhd->htn", q[..., : op.nope_head_dim], keys)
    scores = (scores + np.einsum("thd,nd->htn", q[..., op.nope_head_dim :], rotated)) * op.scale
    weights, total = _softmax(np.where(seen[None], scores, -np.inf), None)
    return cast(Array, np.einsum("htn,nhd->thd", weights, values)), total.T


def _read_absorbed(
    op: AttendLatent, q: Array, latent: Array, expand: Array, seen: NDArray[np.bool_]
) -> tuple[Array, Array]:
    compressed, rotated = latent[:, : op.kv_lora_rank], latent[:, op.kv_lora_rank :]
    absorbed = np.einsum("thd,hdr->thr", q[..., : op.nope_head_dim], expand[:, : op.nope_head_dim])
    scores = np.einsum("thr,nr->htn", absorbed, compressed)
    scores = (scores + np.einsum("thd,nd->htn", q[..., op.nope_head_dim :], rotated)) * op.scale
    weights, total = _softmax(np.where(seen[None], scores, -np.inf), None)
    mixed = np.einsum("htn,nr->thr", weights, compressed)
    return cast(Array, np.einsum("thr,hdr->thd", mixed, expand[:, op.nope_head_dim :])), total.T


def merge_attention(op: MergeAttention, inputs: tuple[Any, ...], _ctx: OpContext) -> Outputs:
    """Stacked partial outputs [parts, tokens, heads * v] and log-sum-exps [parts, tokens, heads] -> output.

    Source: Dao et al. 2022 (arXiv:2205.14135), the rescaling of partial softmaxes.
    """
    parts, lse = inputs
    top = lse.max(axis=0)
    share = np.exp(lse - top)
    share = share / share.sum(axis=0)
    split = parts.reshape(*lse.shape, op.v_head_dim)
    return ((split * share[..., None]).sum(axis=0).reshape(parts.shape[1:]),)
