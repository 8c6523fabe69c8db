"""Sizing, bisection and fronts, each against the plainest way to the same answer."""

from itertools import product
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.planning import simulate, sizing
from simulator.planning.pareto import undominated
from tests.planning_questions import part, question

LOADS = st.floats(0.3, 40.0)
RANKS = st.sampled_from([1, 2, 3, 4, 8])


@given(LOADS, RANKS, LOADS, RANKS, st.integers(2, 40))
def test_no_split_of_the_gpus_holds_more(a: float, ra: int, b: float, rb: int, gpus: int) -> None:
    asked = question(gpus=gpus)
    parts = (part("prefill", ra, a), part("decode", rb, b))
    found = sizing.largest(asked, parts, (a, b))
    every = [(x, y) for x, y in product(range(1, gpus + 1), repeat=2) if x * ra + y * rb <= gpus]
    if not every:
        assert found is None
        return
    assert found in every
    assert min(found[0] * a, found[1] * b) == pytest.approx(max(min(x * a, y * b) for x, y in every))


@given(LOADS, RANKS, LOADS, RANKS, st.integers(2, 40))
def test_more_gpus_never_hold_less(a: float, ra: int, b: float, rb: int, gpus: int) -> None:
    parts = (part("prefill", ra, a), part("decode", rb, b))

    def most(n: int) -> float:
        found = sizing.largest(question(gpus=n), parts, (a, b))
        return 0.0 if found is None else min(found[0] * a, found[1] * b)

    assert most(gpus + 1) >= most(gpus) - 1e-9


@given(LOADS, RANKS, st.floats(0.5, 100.0))
def test_the_fewest_replicas_hold_the_load_and_one_less_does_not(held: float, ranks: int, rate: float) -> None:
    asked = question(gpus=10_000, rate=rate, objective="min_gpus")
    (count,) = sizing.shortest(asked, (part("mixed", ranks, held),), (held,)) or (0,)
    assert count * held >= rate * (1 - 1e-9)
    assert count == 1 or (count - 1) * held < rate


def test_a_load_beyond_the_gpus_is_refused_with_the_number_it_takes() -> None:
    asked = question(gpus=8, rate=30.0, objective="min_gpus")
    sized = sizing.size(asked, (part("mixed", 2, 5.0),))
    assert (sized.evaluation.status, sized.evaluation.binding) == ("misses", "gpu_count")
    assert "12 GPUs; there are 8" in sized.evaluation.reason


@given(st.floats(0.01, 100.0), st.floats(0.05, 20.0))
def test_bisection_finds_the_largest_load_that_holds(limit: float, off: float) -> None:
    tried: list[float] = []

    def holds(load: float) -> bool:
        tried.append(load)
        return load <= limit

    found = simulate.search(holds, limit * off, 0.03)
    assert limit / 1.03 <= found <= limit
    assert len(tried) <= 40


@given(st.floats(1.0, 100.0), st.floats(0.2, 2.0), st.floats(0.5, 1.5))
def test_bisection_never_tries_beyond_the_top(limit: float, guess: float, top: float) -> None:
    tried: list[float] = []

    def holds(load: float) -> bool:
        tried.append(load)
        return load <= limit

    ceiling = limit * top
    found = simulate.search(holds, min(limit * guess, ceiling), 0.03, ceiling)
    assert max(tried) <= ceiling * (1 + 1e-12)
    assert min(limit, ceiling) / 1.03 <= found <= min(limit, ceiling) * (1 + 1e-12)


def test_bisection_gives_up_where_nothing_holds() -> None:
    assert simulate.search(lambda _: False, 5.0, 0.03) == 0.0


POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12)


@given(POINTS)
@settings(max_examples=200)
def test_a_front_has_no_dominated_point_and_misses_none(points: list[tuple[int, int]]) -> None:
    named = [(float(x), float(y), str(i)) for i, (x, y) in enumerate(points)]
    front = undominated(named)

    def beaten(i: int) -> bool:
        x, y = points[i]
        return any(a <= x and b <= y and (a, b) != (x, y) for a, b in points)

    best = {points[i] for i in range(len(points)) if not beaten(i)}
    assert {points[int(name)] for name in front} == best
    assert len(front) == len(best)


def test_prices_count_for_every_pool() -> None:
    asked = question(gpus=64)
    pools = (sizing.pool_of(asked, part("prefill", 2, 1.0), 3), sizing.pool_of(asked, part("decode", 4, 1.0), 5))
    assert sizing.usd_per_hour(asked, pools) == pytest.approx((2 * 3 + 4 * 5) * 2.05)


@given(LOADS, st.floats(1.0, 1.5), RANKS, st.floats(0.5, 60.0))
def test_a_bound_is_never_worse_than_any_load_below_it(held: float, more: float, ranks: int, rate: float) -> None:
    """Whatever a simulation finds up to the best case, its rank is not better than the bound."""
    asked = question(gpus=10_000, rate=rate, objective="min_gpus")
    parts = (part("mixed", ranks, held, held * more),)
    (gpus,) = sizing.best_rank(asked, parts)
    assert gpus <= ceil(rate / held - 1e-9) * ranks
