"""Bugs that people make when they shard a model, planted one at a time: each must be seen by the comparison.

A bug that raises is seen too; what must not happen is a run that ends in agreement.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sharded import Outcome, run_on

from simulator.errors import PlacementError
from simulator.model.architecture import (
    Architecture,
    DenseMlp,
    GroupedQueryAttention,
    LatentAttention,
    Layer,
    MixtureOfExperts,
    Rope,
    Router,
)
from simulator.numeric import attention, exchange, experts, kernels, run
from simulator.parallel.layout import Layout
from simulator.program import ops, sharding, work

GQA = GroupedQueryAttention(8, 2, 8, 8, 8**-0.5, Rope(1e4, 8), qkv_bias=True, output_bias=True, sinks=True)
FULL = GroupedQueryAttention(8, 2, 6, 6, 6**-0.5, Rope(1e4, 4), qk_norm="full", window=4)
MLA = LatentAttention(8, 10, 12, 6, 4, 6, 10**-0.5, Rope(1e4, 4, interleaved=True))
ROUTER = Router("sigmoid", correction_bias=True, routed_scale=1.5)
MOE = MixtureOfExperts(8, 3, 12, ROUTER, bias=True, shared_intermediate=8)
DENSE = DenseMlp(24, bias=True)
MODEL = Architecture("m", "m", 22, 43, (Layer(GQA, DENSE), Layer(FULL, MOE), Layer(MLA, MOE)), 1e-5, 64, False)
PROMPTS = ((3, 14, 15, 9, 26, 5, 35), (8, 9), (7, 33, 23, 6))
TP = Layout(tp=4)
CP = Layout(cp=2, tp=2)
DISPATCHED = Layout(dp_attention=2, tp=2, ep=4)
GATHERED = Layout(dp_attention=2, tp=2, ep=4, moe_dispatch="all_gather")
EXPERT_TP = Layout(dp_attention=4, ep=2)
PIPELINE = Layout(pp=2, tp=2, micro_batches=2)


def outcome(layout: Layout) -> Outcome:
    return run_on(MODEL, layout, PROMPTS, 3)


@pytest.mark.parametrize("layout", [TP, CP, DISPATCHED, GATHERED, EXPERT_TP, PIPELINE])
def test_without_a_bug_all_agree(layout: Layout) -> None:
    found = outcome(layout)
    assert found.sharded == found.reference
    assert found.error < 1e-9


Plant = Callable[[pytest.MonkeyPatch], None]


def wrong_kernel(op: type, change: Callable[..., Any]) -> Plant:
    """Replaces a kernel by `change(true kernel, op, inputs, ctx)`."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        true = kernels.KERNELS[op]
        patch.setitem(kernels.KERNELS, op, lambda o, inputs, ctx: change(true, o, inputs, ctx))

    return plant


def swapped_kv_heads(patch: pytest.MonkeyPatch) -> None:
    """KV heads dealt round-robin over tp, where neighbours must hold the same head."""
    true = sharding._axis_index

    def wrong(axis: Any, layout: Layout, rank: int, mesh_name: str) -> Any:
        parts, mine = layout.size((mesh_name,)), sharding.coordinate(layout, rank, (mesh_name,))
        if axis.name == "kv_heads" and axis.count < parts:
            return mine % axis.count * axis.width + np.arange(axis.width)
        return true(axis, layout, rank, mesh_name)

    patch.setattr(sharding, "_axis_index", wrong)


def contiguous_positions(patch: pytest.MonkeyPatch) -> None:
    """Queries take contiguous positions, while keys and masks speak of the zigzag."""

    def wrong(sequence: Any, index: int, cp: int) -> Any:
        if cp == 1 or (sequence.new == 1 and sequence.past > 0):
            return np.arange(sequence.past, sequence.past + sequence.new)
        return sequence.past + np.array_split(np.arange(sequence.new), cp)[index]

    patch.setattr(attention, "local_positions", wrong)


def every_cp_rank_keeps_every_decode_token(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(attention, "stored_positions", work.local_positions)


def experts_of_the_next_rank(patch: pytest.MonkeyPatch) -> None:
    true = sharding.ExpertPlacement.local

    def wrong(self: sharding.ExpertPlacement, ep_index: int) -> tuple[int, ...]:
        return true(self, (ep_index + 1) % self.ep)

    class Shifted(sharding.ExpertPlacement):
        __slots__ = ()
        local = wrong

    real = experts.expert_placement
    patch.setattr(experts, "expert_placement", lambda n, layout: Shifted(real(n, layout).physical, layout.ep))


def skipped(patch: pytest.MonkeyPatch, *names: str) -> None:
    """These collectives hand back what they were given."""
    true = run.exchange

    def wrong(op: ops.Collective, schedule: Any, values: Any, sizes: Any, round_: Any) -> Any:
        return (list(values), None) if op.name in names else true(op, schedule, values, sizes, round_)

    patch.setattr(run, "exchange", wrong)


def reduce_scatter_cut_evenly(patch: pytest.MonkeyPatch) -> None:
    """Ranks of a data-parallel group bring different numbers of tokens; an even cut gives them others' rows."""
    true = exchange.bring
    patch.setattr(exchange, "bring", lambda op, schedule, place, value, _sizes: true(op, schedule, place, value, None))


def combine_in_another_order(true: Any, op: Any, inputs: Any, ctx: Any) -> Any:
    returned, parcels, x = inputs
    turned = [parcel._replace(origin=np.roll(parcel.origin, 1)) for parcel in parcels]
    return true(op, (returned, turned, x), ctx)


def bias_on_every_rank(true: Any, op: Any, inputs: Any, ctx: Any) -> Any:
    outputs = true(op, inputs, ctx)
    if op.parallel == "row" and op.biases and ctx.state.index(op.over) != 0:
        return tuple(y + ctx.weight(name) for y, name in zip(outputs, op.biases, strict=True))
    return outputs


def local_ids(true: Any, op: Any, inputs: Any, ctx: Any) -> Any:
    """The offset of the rank's part of the vocabulary is forgotten."""
    (pairs,) = true(op, inputs, ctx)
    parts = np.array_split(np.arange(MODEL.vocab), ctx.state.layout.tp)
    offset = parts[ctx.state.index(("tp",))][0] if op.over else 0
    return (pairs - np.array([0.0, float(offset)]),)


def embed_without_offset(_true: Any, op: Any, _inputs: Any, ctx: Any) -> Any:
    table = ctx.weight(op.weight)
    return (table[ctx.ids % len(table)] / ctx.state.layout.tp,)


def position_from_row(true: Any, op: Any, inputs: Any, ctx: Any) -> Any:
    """A decoded token is rotated as if it were the first."""
    if not ctx.work.decode:
        return true(op, inputs, ctx)
    return inputs


def double_counted_squares(true: Any, op: Any, inputs: Any, ctx: Any) -> Any:
    (sums,) = true(op, inputs, ctx)
    return (sums * np.array([1.0, float(op.kv_copies)]),)


def unweighted_merge(_true: Any, _op: Any, inputs: Any, _ctx: Any) -> Any:
    return (inputs[0].mean(axis=0),)


def sinks_on_every_part(true: Any, op: Any, inputs: Any, ctx: Any) -> Any:
    """Each context-parallel rank lets the sink join its own part of the softmax."""
    if not (op.sinks and op.partial and ctx.state.index(("cp",))):
        return true(op, inputs, ctx)
    flat, lse = true(op, inputs, ctx)
    sinks = ctx.weight(op.sinks)
    total = np.logaddexp(lse, sinks)
    share = np.repeat(np.exp(lse - total), op.v_head_dim, axis=1)
    return flat * share, total


BUGS: dict[str, tuple[Layout, Plant]] = {
    "KV heads dealt round-robin where tp exceeds them": (TP, swapped_kv_heads),
    "vocabulary offset forgotten in sampling": (TP, wrong_kernel(ops.LocalBest, local_ids)),
    "vocabulary offset forgotten in the embedding": (TP, wrong_kernel(ops.Embed, embed_without_offset)),
    "row-parallel bias on every rank": (TP, wrong_kernel(ops.Linear, bias_on_every_rank)),
    "o_proj's all_reduce skipped": (TP, lambda p: skipped(p, "attention_all_reduce")),
    "mlp's all_reduce skipped": (TP, lambda p: skipped(p, "mlp_all_reduce")),
    "copied KV heads counted more than once in the full norm": (
        TP,
        wrong_kernel(ops.SumOfSquares, double_counted_squares),
    ),
    "squares not summed over tp": (TP, lambda p: skipped(p, "qk_squares_all_reduce")),
    "context-parallel positions not zigzag": (CP, contiguous_positions),
    "decoded keys kept by every context-parallel rank": (CP, every_cp_rank_keeps_every_decode_token),
    "parts of attention averaged without their weights": (CP, wrong_kernel(ops.MergeAttention, unweighted_merge)),
    "sink counted by every context-parallel rank": (CP, wrong_kernel(ops.Attend, sinks_on_every_part)),
    "decoded tokens rotated as if first": (PIPELINE, wrong_kernel(ops.Rotate, position_from_row)),
    "expert ids off by one rank (dispatched)": (DISPATCHED, experts_of_the_next_rank),
    "expert ids off by one rank (gathered)": (GATHERED, experts_of_the_next_rank),
    "combine summed onto the wrong rows": (DISPATCHED, wrong_kernel(ops.CombineUnpack, combine_in_another_order)),
    "sums over moe_tp handed out evenly": (EXPERT_TP, reduce_scatter_cut_evenly),
    "sums of gathered experts handed out evenly": (GATHERED, reduce_scatter_cut_evenly),
}


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bug_is_caught(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layout, plant = BUGS[bug]
    plant(monkeypatch)
    try:
        found = outcome(layout)
    except (PlacementError, ValueError, IndexError):
        return
    assert found.error > 1e-3 or found.sharded != found.reference
