"""Attention ranks with unlike numbers of tokens: each rank's own part from the busiest, the experts from all."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_setups import setup, table

from simulator.cost.table.direct import DirectPricer, Part, works
from simulator.cost.table.lines import BodyRow
from simulator.cost.table.table import StepLoad
from simulator.engine.step_time import Clock
from simulator.errors import WorkloadError
from simulator.parallel.layout import Layout
from simulator.program.build import build
from simulator.serving.batcher import Step

RANKS = 8
GATHERED = ("DeepSeek-V3", Layout(dp_attention=RANKS))
SENT = ("DeepSeek-V3", Layout(dp_attention=RANKS, ep=RANKS))
PLACES = [GATHERED, SENT]
ENGINE = ("SGLang", "0.5")


def time_s(place: tuple[str, Layout], new: int, fill: float, decodes: int = 0) -> float:
    """A step of `new` prompt tokens and `decodes` sequences on the busiest rank."""
    found = table(*place, "H200-SXM", ENGINE)
    return found.step_time_s(new, 0, decodes, decodes * 700, fill=fill)


def program_s(place: tuple[str, Layout], tokens: int, mean: float) -> float:
    """The body from the program in which experts see the mean rank's tokens, attention and head left out."""
    direct = DirectPricer(setup(*place, "H200-SXM", ENGINE))
    program = build(
        direct.setup.architecture, direct.setup.layout, 0, (works(tokens, False),),
        replace(direct.setup.program, expert_skew=0.0), (mean,),
    )  # fmt: skip
    body = program.segments[:-1]
    return direct._priced(program, body).time_s


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("tokens", "mean"), [(1024, 128), (768, 512), (512, 64)])
def test_the_split_is_the_program_of_unlike_ranks(place: tuple[str, Layout], tokens: int, mean: int) -> None:
    """Own(N) + shared(M) against a program that is built for N tokens here and M on average."""
    found = table(*place, "H200-SXM", ENGINE)
    row = found.stages[0].prefill.row(0.0, found.options.expert_skews)
    saved = row.spread_s(tokens, tokens) - row.spread_s(tokens, mean)
    want = program_s(place, tokens, tokens) - program_s(place, tokens, mean)
    assert saved == pytest.approx(want, rel=0.12)
    assert saved > 0.05 * row.spread_s(tokens, tokens)


@settings(max_examples=60, deadline=None)
@given(
    new=st.integers(2, 700), decodes=st.integers(0, 200), one=st.floats(0.01, 1.0), other=st.floats(0.01, 1.0),
    place=st.sampled_from(PLACES),
)  # fmt: skip
def test_more_on_the_other_ranks_is_never_faster(
    new: int, decodes: int, one: float, other: float, place: tuple[str, Layout]
) -> None:
    few, many = sorted((one, other))
    full = time_s(place, new, 1.0, decodes)
    assert time_s(place, new, few, decodes) <= time_s(place, new, many, decodes) * (1 + 1e-12)
    assert time_s(place, new, many, decodes) <= full * (1 + 1e-12)
    assert full == table(*place, "H200-SXM", ENGINE).step_time_s(new, 0, decodes, decodes * 700)


@given(tokens=st.integers(2, 1000), part=st.floats(0.01, 0.99), place=st.sampled_from(PLACES))
def test_never_below_ranks_that_all_have_the_mean(tokens: int, part: float, place: tuple[str, Layout]) -> None:
    row = table(*place, "H200-SXM", ENGINE)._bodies(0.0)[0].prefill
    mean = max(1, round(tokens * part))
    assert row.time_s[mean] <= row.spread_s(tokens, mean) <= row.time_s[tokens] * (1 + 1e-12)


def test_beyond_the_table_and_inside_agree() -> None:
    found = table(*GATHERED, "H200-SXM", ENGINE)
    load = StepLoad(1024, 0, 0, 0, 1, 0.125)
    assert found.exact_step_time_s(load) == pytest.approx(found.explain(load).time_s, rel=1e-9)


def test_a_lone_prompt_spares_the_experts_and_a_planted_bug_is_seen() -> None:
    """One rank of eight with a prompt: well below all with one, above all with an eighth; evening attention as well
    (the bug) would fall to the latter."""
    lone, all_busy, right = (time_s(GATHERED, 1024, f) for f in (1 / RANKS, 1.0, 1.0))
    evened = table(*GATHERED, "H200-SXM", ENGINE).step_time_s(1024 // RANKS, 0, 0, 0)
    assert all_busy == right
    assert evened * 1.1 < lone < all_busy * 0.9
    row: BodyRow = table(*GATHERED, "H200-SXM", ENGINE)._bodies(0.0)[0].prefill
    buggy = replace(row, shared_s=row.time_s)
    assert buggy.spread_s(1024, 128) < row.spread_s(1024, 128) * 0.95


@given(new=st.integers(2, 700), decodes=st.integers(0, 200), fill=st.floats(0.01, 1.0), place=st.sampled_from(PLACES))
def test_looked_up_as_explained(new: int, decodes: int, fill: float, place: tuple[str, Layout]) -> None:
    load = StepLoad(new, 0, decodes, decodes * 700, 1, fill)
    found = table(*place, "H200-SXM", ENGINE).explain(load).time_s
    assert time_s(place, new, fill, decodes) == pytest.approx(found, rel=1e-12)


def test_decode_steps_are_padded_to_the_busiest() -> None:
    assert time_s(GATHERED, 0, 0.25, 64) == time_s(GATHERED, 0, 1.0, 64)


def test_the_clock_hands_over_the_mean() -> None:
    found = table(*GATHERED, "H200-SXM", ENGINE)
    step, clock = Step(((0, 800, 0),), 8, 8 * 500.0, 1, (), 1.0), Clock(found)
    assert clock.chunks_s(step, 101.0) == found.step_time_s(800, 0, 8, 4000, fill=101.0 / 808)
    assert clock.chunks_s(step, 101.0) < clock.chunks_s(step) == clock.chunks_s(step, 808.0)


@pytest.mark.parametrize("fill", [0.0, -0.5, 1.5])
def test_impossible_fills_are_refused(fill: float) -> None:
    with pytest.raises(WorkloadError, match="fill"):
        time_s(GATHERED, 64, fill)


def test_parts_know_what_is_shared() -> None:
    part: Part = DirectPricer(setup(*GATHERED, "H200-SXM", ENGINE)).body(0, 512, False, 0.0)
    assert 0.2 * part.time_s < part.shared_s < part.time_s
