"""Whatever algorithm carries a collective out, the sharded numbers stay the same; only their rounding may move."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from sharded import run, run_on
from strategies import Case, cases

from simulator.collectives.build import algorithms, build
from simulator.collectives.schedule import KINDS, Nodes, Schedule
from simulator.errors import ScheduleError
from simulator.model.architecture import Architecture, DenseMlp, GroupedQueryAttention, Layer, Rope
from simulator.numeric.rounding import EPSILON, DType
from simulator.parallel.layout import Layout
from simulator.program.ops import Collective

CARRIED = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")


@dataclass(frozen=True)
class Choice:
    """Picks the drawn algorithm where it can serve the group (nodes of equal size, a power of two), else another."""

    wanted: tuple[tuple[str, str], ...]
    node: int

    def __call__(self, op: Collective, group: tuple[int, ...]) -> Schedule:
        places: dict[int, list[int]] = {}
        for place, rank in enumerate(group):
            places.setdefault(rank // self.node, []).append(place)
        nodes: Nodes = tuple(tuple(members) for members in places.values())
        for name in (dict(self.wanted)[op.kind], *algorithms(op.kind)):
            try:
                return build(op.kind, name, len(group), nodes=nodes)
            except ScheduleError:
                continue
        raise AssertionError(f"no algorithm carries out {op.kind} over {nodes}")


choices = st.builds(
    Choice,
    st.tuples(*(st.tuples(st.just(kind), st.sampled_from(algorithms(kind))) for kind in KINDS if kind in CARRIED)),
    st.integers(1, 6),
)


@settings(max_examples=50)
@given(case=cases(), pick=choices)
def test_every_algorithm_gives_the_reference(case: Case, pick: Choice) -> None:
    outcome = run(case, 2, pick=pick)
    assert outcome.sharded == outcome.reference
    assert outcome.error < 1e-9


def dense(layers: int) -> Architecture:
    """No routing: a rounding moves values a little, never a choice of expert."""
    layer = Layer(GroupedQueryAttention(12, 4, 8, 8, 8**-0.5, Rope(1e4, 8), qkv_bias=True), DenseMlp(36))
    return Architecture("dense", "drawn", 30, 53, (layer,) * layers, 1e-5, 64, False)


PROMPTS = ((3, 14, 15, 9, 26, 5, 35), (8, 9), (7, 33, 23, 46))


@settings(max_examples=20)
@given(
    pick=choices,
    layout=st.sampled_from(
        (
            Layout(tp=4),
            Layout(tp=12),
            Layout(tp=2, cp=2),
            Layout(tp=4, sequence_parallel=True),
            Layout(pp=3, micro_batches=2),
        )
    ),
)
def test_error_scales_with_the_format(pick: Choice, layout: Layout) -> None:
    """Rounding errors of n operations add up to between 1 and n unit roundoffs; here n is about 100 on any path."""
    errors = {dtype: run_on(dense(3), layout, PROMPTS, 2, dtype=dtype, pick=pick).error for dtype in EPSILON}
    for dtype, error in errors.items():
        assert 0.1 * EPSILON[dtype] < error < 40 * EPSILON[dtype], dtype


def test_error_grows_with_depth_and_not_with_the_format_alone() -> None:
    shallow, deep = (run_on(dense(n), Layout(tp=4), PROMPTS, 2, dtype="bfloat16").error for n in (1, 8))
    assert shallow < deep


def test_order_of_sums_shows_in_bfloat16() -> None:
    """Two algorithms add in different orders: float64 hides it below 1e-12, bfloat16 does not."""
    ring = Choice(tuple((kind, algorithms(kind)[0]) for kind in CARRIED), 12)  # type: ignore[arg-type]
    tree = Choice((*ring.wanted[1:], ("all_reduce", "tree")), 12)
    found: dict[DType, set[float]] = {"float64": set(), "bfloat16": set()}
    for dtype, errors in found.items():
        errors.update(
            run_on(dense(2), Layout(tp=12), PROMPTS, 2, dtype=dtype, pick=pick).error for pick in (ring, tree)
        )
    assert max(found["float64"]) < 1e-12
    assert len(found["bfloat16"]) == 2
