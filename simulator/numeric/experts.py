"""Sharded mixture-of-experts kernels: routing, parcels for the ranks that hold the experts, grouped GEMMs."""

from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from simulator.model.architecture import Router
from simulator.numeric.activation import gated, sigmoid
from simulator.numeric.rank import Array, OpContext
from simulator.program.ops import CombinePack, CombineUnpack, DispatchPack, DispatchUnpack, Experts, Route
from simulator.program.sharding import expert_placement

Outputs = tuple[Any, ...]


class Parcel(NamedTuple):
    """Rows for one rank: activations, the experts wanted there (-1: elsewhere), weights, and where from."""

    rows: Array
    ids: NDArray[np.int64]
    weights: Array
    origin: NDArray[np.int64]


def route(op: Route, inputs: tuple[Any, ...], ctx: OpContext) -> Outputs:
    """x [tokens, hidden] -> (ids [tokens, k] best first, weights [tokens, k]); ties go to the lower id."""
    logits = inputs[0] @ ctx.weight(op.weight).T
    if op.bias:
        logits = logits + ctx.weight(op.bias)
    correction = ctx.weight(op.correction) if op.correction else None
    return choose(op.router, op.top_k, logits, correction)


def choose(router: Router, top_k: int, logits: Array, correction: Array | None) -> tuple[NDArray[np.int64], Array]:
    """Experts and their weights for each row of router logits."""
    scores = _scores(router, logits)
    steered = scores if correction is None else scores + correction
    if router.groups > 1:
        steered = _keep_groups(router, steered)
    ids = np.argsort(-steered, axis=1, kind="stable")[:, :top_k]
    weights = np.take_along_axis(scores, ids, axis=1)
    if router.scoring == "softmax_topk":
        weights = _softmax(weights)
    elif router.normalize:
        weights = weights / weights.sum(axis=1, keepdims=True)
    return ids, weights * router.routed_scale


def _scores(router: Router, logits: Array) -> Array:
    match router.scoring:
        case "softmax":
            return _softmax(logits)
        case "sigmoid":
            return sigmoid(logits)
        case "softmax_topk":
            return logits


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return cast(Array, e / e.sum(axis=1, keepdims=True))


def _keep_groups(router: Router, scores: Array) -> Array:
    grouped = scores.reshape(len(scores), router.groups, scores.shape[1] // router.groups)
    counted = 1 if router.group_score == "max" else 2
    rank = np.sort(grouped, axis=2)[..., -counted:].sum(axis=2)
    kept = np.argsort(-rank, axis=1, kind="stable")[:, : router.groups_kept]
    mask = np.zeros(rank.shape, bool)
    np.put_along_axis(mask, kept, True, axis=1)
    return np.where(mask[..., None], grouped, -np.inf).reshape(scores.shape)


def _ranks_of(ids: NDArray[np.int64], ctx: OpContext) -> NDArray[np.int64]:
    """The ep rank that computes each (row, choice); copies of an expert take rows in turn."""
    moe = ctx.state.architecture.layers[ctx.layer].feed_forward
    experts = moe.experts  # type: ignore[union-attr]
    placement = expert_placement(experts, ctx.state.layout)
    slots_per_rank = len(placement.physical) // placement.ep
    slots: list[list[int]] = [[] for _ in range(experts)]
    for slot, expert in enumerate(placement.physical):
        slots[expert].append(slot // slots_per_rank)
    copies = np.array([len(s) for s in slots])
    table = np.array([s + [s[0]] * (copies.max() - len(s)) for s in slots])
    turn = np.arange(len(ids))[:, None] % copies[ids]
    return cast("NDArray[np.int64]", table[ids, turn])


def dispatch_pack(_op: DispatchPack, inputs: tuple[Any, ...], ctx: OpContext) -> Outputs:
    """(x, ids, weights) -> one parcel for each rank of the ep group; a row goes to a rank at most once."""
    x, ids, weights = inputs
    ids = np.asarray(ids, np.int64)
    ranks = _ranks_of(ids, ctx)
    parcels = []
    for rank in range(ctx.state.layout.ep):
        here = ranks == rank
        index = np.flatnonzero(here.any(axis=1))
        parcels.append(Parcel(x[index], np.where(here, ids, -1)[index], weights[index], index))
    return (parcels,)


def dispatch_unpack(_op: DispatchUnpack, inputs: tuple[Any, ...], _ctx: OpContext) -> Outputs:
    """Parcels received, in the order of their senders -> (rows, ids, weights)."""
    received: list[Parcel] = inputs[0]
    return (
        np.concatenate([p.rows for p in received]),
        np.concatenate([p.ids for p in received]),
        np.concatenate([p.weights for p in received]),
    )


def experts(op: Experts, inputs: tuple[Any, ...], ctx: OpContext) -> Outputs:
    """(rows, ids, weights) -> the weighted sum over the local experts each row chose."""
    x, ids, weights = inputs
    state = ctx.state
    mine = state.index(("ep",))
    if len(op.owed) and "moe_tp" not in op.owed:  # every rank sees every row: leave out what others compute
        ids = np.where(_ranks_of(np.asarray(ids, np.int64), ctx) == mine, ids, -1)
    gate, up, down = (ctx.weight(name) for name in op.weights)
    biases = [ctx.weight(name) for name in op.biases]
    out = np.zeros_like(x)
    moe = state.architecture.layers[ctx.layer].feed_forward
    local = expert_placement(moe.experts, state.layout).local(mine)  # type: ignore[union-attr]
    first_of_expert_tp = state.index(("moe_tp",)) == 0
    for slot, expert in enumerate(local):
        row, choice = np.nonzero(ids == expert)
        if not len(row) or expert in local[:slot]:
            continue
        share = weights[row, choice][:, None]
        rows = x[row] * share if op.scale_input else x[row]
        gate_rows, up_rows = rows @ gate[slot].T, rows @ up[slot].T
        if biases:
            gate_rows, up_rows = gate_rows + biases[0][slot], up_rows + biases[1][slot]
        inner = state.round_(gated(op.activation, state.round_(gate_rows), state.round_(up_rows)))
        answer = inner @ down[slot].T
        if biases and first_of_expert_tp:
            answer = answer + biases[2][slot]
        answer = state.round_(answer)
        out[row] += answer if op.scale_input else share * answer
    return (out,)


def combine_pack(_op: CombinePack, inputs: tuple[Any, ...], _ctx: OpContext) -> Outputs:
    """Answers cut back into one array for each rank the rows came from."""
    answers, received = inputs
    bounds = np.cumsum([len(parcel.rows) for parcel in received])[:-1]
    return (np.split(answers, bounds),)


def combine_unpack(_op: CombineUnpack, inputs: tuple[Any, ...], ctx: OpContext) -> Outputs:
    """(answers from each rank, the parcels sent, the rows they came from) -> sums per row."""
    returned, parcels, x = inputs
    out = np.zeros_like(x)
    for answer, parcel in zip(returned, parcels, strict=True):
        out[parcel.origin] = ctx.state.round_(out[parcel.origin] + answer)
    return (out,)
