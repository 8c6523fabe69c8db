"""Every legal program is well placed, every sum that is owed is missed when nobody pays it, and work is conserved."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import Case, cases

from simulator.errors import LayoutError, PlacementError
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
from simulator.numeric.batch import programs_of, works_of
from simulator.parallel.layout import Layout
from simulator.program import ops
from simulator.program.build import Program, build, stage_layers
from simulator.program.check import check, without
from simulator.program.legality import check_layout
from simulator.program.listing import listing
from simulator.program.work import Sequence, Work

GOLDEN = Path(__file__).parent / "golden"
PAYS = ("all_reduce", "reduce_scatter")


@st.composite
def works(draw: st.DrawFn) -> tuple[Sequence, ...]:
    """A prefill or a decode step of a few sequences of uneven lengths."""
    lengths = draw(st.lists(st.integers(1, 30), min_size=1, max_size=6))
    if draw(st.booleans()):
        return tuple(Sequence(i, n, 0) for i, n in enumerate(lengths))
    return tuple(Sequence(i, 1, n) for i, n in enumerate(lengths))


def programs(case: Case, sequences: tuple[Sequence, ...]) -> tuple[Program, ...]:
    return programs_of(case.architecture, case.layout, works_of(sequences, case.layout))


def distinct(found: tuple[Program, ...]) -> list[Program]:
    return list({id(program): program for program in found}.values())


@given(case=cases(), sequences=works())
def test_every_legal_program_is_well_placed(case: Case, sequences: tuple[Sequence, ...]) -> None:
    for program in distinct(programs(case, sequences)):
        check(program, case.layout)


@given(case=cases(), sequences=works())
def test_ranks_of_a_stage_run_the_same_ops(case: Case, sequences: tuple[Sequence, ...]) -> None:
    """Or they would wait for each other for ever: also ranks that have no sequence of their own."""
    by_stage: dict[int, set[tuple[str, ...]]] = {}
    for program in programs(case, sequences):
        by_stage.setdefault(program.stage, set()).add(tuple(op.name for _, op in program.ops()))
    assert all(len(names) == 1 for names in by_stage.values())


@settings(max_examples=60)
@given(case=cases(), sequences=works())
def test_a_sum_left_unpaid_is_refused_by_name(case: Case, sequences: tuple[Sequence, ...]) -> None:
    for program in distinct(programs(case, sequences)):
        paying = {op.name: op.over for _, op in program.ops() if isinstance(op, ops.Collective) and op.kind in PAYS}
        for name, over in paying.items():
            axes = [axis for axis in over if case.layout.size((axis,)) > 1]
            with pytest.raises(PlacementError) as caught:
                check(without(program, name), case.layout)
            told = f"{caught.value.way_out} {caught.value.given}"
            assert any(axis in told for axis in axes), (name, str(caught.value))
            if caught.value.way_out:
                assert "all_reduce or reduce_scatter over" in caught.value.way_out


@settings(max_examples=60)
@given(case=cases(), sequences=works())
def test_a_gather_left_out_before_a_column_parallel_linear_is_refused(
    case: Case, sequences: tuple[Sequence, ...]
) -> None:
    assume(case.layout.sequence_parallel and case.layout.tp > 1)
    for program in distinct(programs(case, sequences)):
        with pytest.raises(PlacementError, match=r"all_gather over tp is missing|placed"):
            check(without(program, "x_all_gather"), case.layout)


def test_a_sum_paid_twice_is_refused() -> None:
    program = build(SMALL, Layout(tp=4), 0, (Work((Sequence(0, 5, 0),)),))
    layer = next(segment for segment in program.segments if segment.layer == 0)
    index = next(i for i, op in enumerate(layer.ops) if op.name == "attention_all_reduce")
    twice = replace(layer, ops=(*layer.ops[: index + 1], layer.ops[index], *layer.ops[index + 1 :]))
    segments = tuple(twice if segment is layer else segment for segment in program.segments)
    with pytest.raises(PlacementError, match="counted 4 times"):
        check(replace(program, segments=segments), Layout(tp=4))


def test_a_tensor_read_before_it_is_written_is_refused() -> None:
    program = build(SMALL, Layout(tp=4), 0, (Work((Sequence(0, 5, 0),)),))
    with pytest.raises(PlacementError, match="before anything wrote it"):
        check(without(program, "embed_tokens"), Layout(tp=4))


# ---- conservation ----------------------------------------------------------------------------------------------

HEADS = GroupedQueryAttention(16, 8, 8, 6, 8**-0.5, Rope(1e4, 8))
LATENT = LatentAttention(16, 20, 24, 8, 4, 6, 12**-0.5, Rope(1e4, 4))
MOE = MixtureOfExperts(32, 3, 32, Router(), shared_intermediate=16)
SMALL = Architecture(
    "small", "llama", 24, 48, (Layer(HEADS, DenseMlp(32)), Layer(LATENT, MOE), Layer(HEADS, MOE)), 1e-5, 64, False
)
PREFILL = tuple(Sequence(i, n, 0) for i, n in enumerate((8, 16, 24, 32, 8, 16, 24, 32)))
DECODE = tuple(Sequence(i, 1, n) for i, n in enumerate((8, 16, 24, 32, 8, 16, 24, 32)))


def gemm_flops(layout: Layout, sequences: tuple[Sequence, ...]) -> Counter[str]:
    """FLOPs of each linear and of the experts, summed over all ranks."""
    total: Counter[str] = Counter()
    for program in programs(Case(SMALL, layout, ()), sequences):
        for _, op in program.ops():
            if isinstance(op, ops.Linear):
                total[op.name] += 2 * op.tokens * op.k * sum(op.ns)
    return total


def replication(name: str, layout: Layout, *, decode: bool) -> int:
    """On how many ranks of a block the same product is computed: the stated exceptions to conservation."""
    alike = layout.cp if decode else 1  # decoded tokens are on every context-parallel rank
    if name in ("qkv_a_proj",):
        return alike * layout.tp  # the latent projections are whole on every tensor-parallel rank
    if name == "lm_head":
        return layout.cp  # the last tokens are
    return alike


SIZES = [
    Layout(**{**dict(zip(("tp", "pp", "cp", "dp_attention"), sizes, strict=True)), "dp": 1})
    for sizes in product((1, 2, 4), (1, 3), (1, 2), (1, 2, 4))
]  # fmt: skip


@pytest.mark.parametrize("decode", [False, True])
def test_flops_are_conserved_across_layouts(decode: bool) -> None:
    """Summed over ranks, each GEMM's FLOPs are those of one GPU times the stated replication."""
    sequences = DECODE if decode else PREFILL
    whole = gemm_flops(Layout(), sequences)
    for layout, dispatch in product(SIZES, ("all_gather", "all_to_all")):
        ep = layout.block if dispatch == "all_to_all" else 1
        found = gemm_flops(replace(layout, ep=ep, moe_dispatch=dispatch), sequences)
        assert set(found) == set(whole)
        for name, flops in whole.items():
            copies = replication(name, layout, decode=decode)
            if "shared_experts" in name:
                copies = 1 if ep > 1 else layout.cp if decode else 1
                if ep > 1 or dispatch == "all_to_all":
                    # Each rank takes its own tokens; what does not divide is rounded up on every rank.
                    assert flops <= found[name] <= flops * layout.block, (layout, name)
                    continue
            assert found[name] == flops * copies, (layout, dispatch, name)


def expert_pairs(layout: Layout, sequences: tuple[Sequence, ...]) -> float:
    """Token-expert pairs times the width each rank computes, summed over ranks, per MoE layer."""
    total = 0.0
    for rank, program in enumerate(programs(Case(SMALL, layout, ()), sequences)):
        ep = layout.groups(("ep",)) and layout.group_of(("ep",))[rank].index(rank)
        total += sum(
            op.load.totals[ep] * op.intermediate / MOE.intermediate
            for _, op in program.ops()
            if isinstance(op, ops.Experts)
        )
    return total


@pytest.mark.parametrize("dispatch", ["all_gather", "all_to_all"])
@pytest.mark.parametrize("sequences", [PREFILL, tuple(Sequence(i, 1, 9) for i in range(16))])
def test_expert_work_is_conserved(dispatch: str, sequences: tuple[Sequence, ...]) -> None:
    """Every token visits top_k experts, whoever computes them, where data coordinates have equally many tokens."""
    tokens = sum(s.new for s in sequences)
    even = tuple(replace(s, new=tokens // len(sequences)) for s in sequences)
    for tp, da, ep in ((1, 1, 1), (4, 1, 4), (4, 1, 2), (1, 4, 4), (2, 2, 4), (2, 2, 2), (1, 8, 8), (2, 4, 2)):
        layout = Layout(tp=tp, dp_attention=da, ep=ep, moe_dispatch=dispatch)  # type: ignore[arg-type]
        assert expert_pairs(layout, even) == pytest.approx(2 * tokens * MOE.top_k), (tp, da, ep)


# ---- small things ----------------------------------------------------------------------------------------------


@given(layers=st.integers(1, 70), pp=st.integers(1, 70))
def test_stages_are_contiguous_and_even(layers: int, pp: int) -> None:
    assume(pp <= layers)
    stages = stage_layers(layers, pp)
    assert [i for stage in stages for i in stage] == list(range(layers))
    sizes = [len(stage) for stage in stages]
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True), "what does not divide goes to the first stages"


def refused() -> Iterator[tuple[str, Architecture, Layout, str, str]]:
    dense = replace(SMALL, layers=(Layer(HEADS, DenseMlp(32)),) * 2)
    three = replace(SMALL, layers=(Layer(replace(HEADS, heads=12, kv_heads=4), DenseMlp(96)),))
    yield "heads", SMALL, Layout(tp=3), "tp", "num_attention_heads = 16"
    yield "kv heads", three, Layout(tp=6), "tp", "num_key_value_heads = 4 or be a multiple of it; use 1, 2, 4, 12"
    yield "width", replace(dense, layers=(Layer(HEADS, DenseMlp(36)),)), Layout(tp=8), "tp", "intermediate_size = 36"
    yield "ep past the experts", SMALL, Layout(dp_attention=64, ep=64), "ep", "redundant_experts = 32"
    yield "ep beside the experts", SMALL, Layout(dp_attention=6, ep=6), "ep", "set redundant_experts = 4"
    yield "experts cut too thin", SMALL, Layout(cp=3), "moe_tp", "moe_intermediate_size = 32"
    yield "experts of a dense model", dense, Layout(tp=2, ep=2), "ep", "has no experts"
    yield "copies for nobody", SMALL, Layout(redundant_experts=2), "redundant_experts", "with ep = 1 there are none"
    yield "pp past the layers", dense, Layout(pp=3), "pp", "number of layers 2"


REFUSED = list(refused())


@pytest.mark.parametrize("case", REFUSED, ids=[case[0] for case in REFUSED])
def test_illegal_layouts_are_refused_with_a_way_out(case: tuple[str, Architecture, Layout, str, str]) -> None:
    _, architecture, layout, where, told = case
    with pytest.raises(LayoutError) as caught:
        check_layout(architecture, layout)
    assert caught.value.where == where
    assert told in str(caught.value)
    assert caught.value.way_out
    with pytest.raises(LayoutError):
        build(architecture, layout, 0, (Work((Sequence(0, 5, 0),)),))


def test_work_needs_a_token_and_no_negative_past() -> None:
    for new, past in ((0, 3), (1, -1)):
        with pytest.raises(LayoutError, match="at least one new token"):
            Work((Sequence(4, new, past),))


def test_listing_is_what_it_was(regold: bool) -> None:
    """Read the difference before running pytest with --regold."""
    layout = Layout(tp=2, dp_attention=2, ep=4, pp=3, sequence_parallel=True, micro_batches=2)
    works = (Work((Sequence(0, 5, 0), Sequence(1, 2, 0))), Work((Sequence(2, 3, 0),)))
    text = "\n\n".join(listing(build(SMALL, layout, stage, works)) for stage in range(3)) + "\n"
    if regold:
        (GOLDEN / "listing.txt").write_text(text)
    assert text == (GOLDEN / "listing.txt").read_text()
