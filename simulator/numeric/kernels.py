"""The numbers reading of every compute op: NumPy kernels on the shards of one rank."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from simulator.errors import NotBuiltError
from simulator.model.architecture import Rope
from simulator.numeric.activation import activate, gated, sigmoid
from simulator.numeric.attention import attend, attend_latent, merge_attention, token_positions
from simulator.numeric.experts import combine_pack, combine_unpack, dispatch_pack, dispatch_unpack, experts, route
from simulator.numeric.rank import Array, OpContext
from simulator.numeric.reference.rope import inverse_frequencies
from simulator.program import ops
from simulator.program.work import local_positions

Inputs = tuple[Any, ...]
Outputs = tuple[Any, ...]


def run_op(op: ops.ComputeOp, inputs: Inputs, ctx: OpContext) -> Outputs:
    """Outputs of one op on one rank, rounded to the emulated dtype where they are activations."""
    outputs = KERNELS[type(op)](op, inputs, ctx)
    if type(op) in _EXACT:
        return outputs
    return tuple(ctx.state.round_(value) for value in outputs)


def _embed(op: ops.Embed, _inputs: Inputs, ctx: OpContext) -> Outputs:
    assert ctx.ids is not None
    table = ctx.weight(op.weight)
    parts = ctx.state.layout.size(op.over)
    mine = ctx.state.index(op.over) if op.over else 0
    bounds = np.cumsum([0, *(len(p) for p in np.array_split(np.arange(ctx.state.architecture.vocab), parts))])
    local = ctx.ids - bounds[mine]
    inside = (local >= 0) & (local < len(table))
    rows = np.where(inside[:, None], table[np.where(inside, local, 0)], 0.0)
    if op.positions and mine == 0:
        rows = rows + ctx.weight(op.positions)[token_positions(ctx)]
    return (rows,)


def _norm(op: ops.Norm, inputs: Inputs, ctx: OpContext) -> Outputs:
    total = inputs[0] if len(inputs) == 1 else ctx.state.round_(inputs[0] + inputs[1])
    x = total[:, : op.features]
    if op.kind == "layer":
        x = x - x.mean(axis=1, keepdims=True)
    y = x / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + op.eps) * ctx.weight(op.weight)
    if op.bias:
        y = y + ctx.weight(op.bias)
    if total.shape[1] > op.features:  # the latent's norm leaves the rotary key beside it alone
        y = np.concatenate([y, total[:, op.features :]], axis=1)
    return (y,) if len(inputs) == 1 else (y, total)


def _linear(op: ops.Linear, inputs: Inputs, ctx: OpContext) -> Outputs:
    outputs = [inputs[0] @ ctx.weight(name).T for name in op.weights]
    add_bias = op.biases and (op.parallel != "row" or ctx.state.index(op.over) == 0)
    if add_bias:
        outputs = [y + ctx.weight(name) for y, name in zip(outputs, op.biases, strict=True)]
    return tuple(outputs)


def _sum_of_squares(op: ops.SumOfSquares, inputs: Inputs, _ctx: OpContext) -> Outputs:
    q, k = inputs
    return (np.stack([(q * q).sum(axis=1), (k * k).sum(axis=1) / op.kv_copies], axis=1),)


def _head_norm(op: ops.HeadNorm, inputs: Inputs, ctx: OpContext) -> Outputs:
    found = []
    for i, x in enumerate(inputs[:2]):
        if op.kind == "full":
            mean = inputs[2][:, i : i + 1] / op.full_widths[i]
            found.append(x / np.sqrt(mean + op.eps) * ctx.weight(op.weights[i]))
            continue
        heads = x.reshape(len(x), x.shape[1] // op.head_dim, op.head_dim)
        y = heads / np.sqrt(np.mean(heads * heads, axis=2, keepdims=True) + op.eps)
        if op.kind == "head":
            y = y * ctx.weight(op.weights[i])
        found.append(y.reshape(x.shape))
    return tuple(found)


@lru_cache(maxsize=64)
def _frequencies(rope: Rope, max_position: int) -> tuple[Array, float]:
    return inverse_frequencies(rope, max_position)


def _rotate(op: ops.Rotate, inputs: Inputs, ctx: OpContext) -> Outputs:
    frequencies, magnitude = _frequencies(op.rope, ctx.state.architecture.max_position)
    angles = token_positions(ctx)[:, None, None] * frequencies
    cos, sin = np.cos(angles) * magnitude, np.sin(angles) * magnitude
    half, dim = op.rope.dim // 2, op.rope.dim
    first: Any = slice(0, dim, 2) if op.rope.interleaved else slice(0, half)
    second: Any = slice(1, dim, 2) if op.rope.interleaved else slice(half, dim)
    found = []
    for x, width in zip(inputs, op.head_dims, strict=True):
        heads = x.reshape(len(x), x.shape[1] // width, width).copy()
        part = heads[..., width - dim :] if op.last else heads[..., :dim]
        a, b = part[..., first].copy(), part[..., second].copy()
        part[..., first] = a * cos - b * sin
        part[..., second] = b * cos + a * sin
        found.append(heads.reshape(x.shape))
    return tuple(found)


def _tune_queries(op: ops.TuneQueries, inputs: Inputs, ctx: OpContext) -> Outputs:
    scale, floor = op.tuning
    factor = 1.0 + scale * np.log1p(np.floor((token_positions(ctx) + 1.0) / floor))
    return (inputs[0] * factor[:, None],)


def _gate(_op: ops.Gate, inputs: Inputs, _ctx: OpContext) -> Outputs:
    return (inputs[0] * sigmoid(inputs[1]),)


def _activate(op: ops.Activate, inputs: Inputs, _ctx: OpContext) -> Outputs:
    return (gated(op.kind, inputs[0], inputs[1]) if len(inputs) == 2 else activate(op.kind, inputs[0]),)


def _add(_op: ops.Add, inputs: Inputs, _ctx: OpContext) -> Outputs:
    total = inputs[0]
    for value in inputs[1:]:
        total = total + value
    return (total,)


def _slice_tokens(op: ops.SliceTokens, inputs: Inputs, ctx: OpContext) -> Outputs:
    return (np.array_split(inputs[0], ctx.state.layout.size(op.over))[ctx.state.index(op.over)],)


def _last_tokens(_op: ops.LastTokens, inputs: Inputs, ctx: OpContext) -> Outputs:
    x = inputs[0]
    cp, index = ctx.state.layout.cp, ctx.state.index(("cp",))
    rows, start = np.zeros((len(ctx.work.sequences), x.shape[1]), x.dtype), 0
    for number, sequence in enumerate(ctx.work.sequences):
        positions = local_positions(sequence, index, cp)
        mine = np.flatnonzero(positions == sequence.past + sequence.new - 1)
        if len(mine):
            rows[number] = x[start + mine[0]]
        start += len(positions)
    return (rows,)


def _local_best(op: ops.LocalBest, inputs: Inputs, ctx: OpContext) -> Outputs:
    logits = inputs[0]
    offset = 0
    if op.over:
        parts = np.array_split(np.arange(ctx.state.architecture.vocab), ctx.state.layout.size(op.over))
        offset = int(parts[ctx.state.index(op.over)][0])
    best = logits.argmax(axis=1) if len(logits) else np.zeros(0, np.int64)
    value = np.take_along_axis(logits, best[:, None], axis=1)[:, 0]
    return (np.stack([value.astype(np.float64), best + float(offset)], axis=1),)


def _pick_best(_op: ops.PickBest, inputs: Inputs, _ctx: OpContext) -> Outputs:
    pairs = inputs[0].reshape(len(inputs[0]), inputs[0].shape[1] // 2, 2)
    winner = pairs[:, :, 0].argmax(axis=1)  # parts are in order of their ids: the first of equals is the lowest
    return (np.take_along_axis(pairs[:, :, 1], winner[:, None], axis=1)[:, 0].astype(np.int64),)


def _attend_linear(op: ops.AttendLinear, _inputs: Inputs, _ctx: OpContext) -> Outputs:
    raise NotBuiltError(given=op.name, rule="the numbers of linear attention are not built", way_out="set numbers: off")


KERNELS: dict[type, Callable[[Any, Inputs, OpContext], Outputs]] = {
    ops.Embed: _embed,
    ops.Norm: _norm,
    ops.Linear: _linear,
    ops.SumOfSquares: _sum_of_squares,
    ops.HeadNorm: _head_norm,
    ops.Rotate: _rotate,
    ops.TuneQueries: _tune_queries,
    ops.Attend: attend,
    ops.AttendLatent: attend_latent,
    ops.AttendLinear: _attend_linear,
    ops.MergeAttention: merge_attention,
    ops.Gate: _gate,
    ops.Activate: _activate,
    ops.Route: route,
    ops.DispatchPack: dispatch_pack,
    ops.DispatchUnpack: dispatch_unpack,
    ops.Experts: experts,
    ops.CombinePack: combine_pack,
    ops.CombineUnpack: combine_unpack,
    ops.Add: _add,
    ops.SliceTokens: _slice_tokens,
    ops.LastTokens: _last_tokens,
    ops.LocalBest: _local_best,
    ops.PickBest: _pick_best,
}

_EXACT = {
    ops.Route,
    ops.DispatchPack,
    ops.DispatchUnpack,
    ops.CombinePack,
    ops.LocalBest,
    ops.PickBest,
    ops.SliceTokens,
}
"""Ops that carry ids or parcels, or only move rows: their outputs are not rounded again."""
