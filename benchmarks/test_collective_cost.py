"""Prices of collectives: many sizes and groups at once, and one that was asked before."""

from collections.abc import Callable

import numpy as np

from simulator.cost.collective import collective_price, collective_times
from tests.collective_groups import group

QUERIES = 100_000


def test_a_hundred_thousand_queries_a_second(benchmark: Callable[..., object]) -> None:
    """Sizes over 50 groups (kinds, counts, ops), tables built within the run's first round."""
    rng = np.random.default_rng(5)
    asked = [
        (group(gpu, ranks), op, np.exp2(rng.uniform(3, 34, QUERIES // 50)))
        for gpu in ("A100", "H100", "B200", "L40S", "MI300X")
        for ranks in (2, 4, 8)
        for op in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
    ][:50]

    def run() -> float:
        return float(sum(collective_times(links, op, sizes).sum() for links, op, sizes in asked))

    assert run() > 0  # builds the tables
    benchmark(run)
    assert benchmark.stats["mean"] < 1.0  # type: ignore[attr-defined]


def test_a_price_asked_before_takes_microseconds(benchmark: Callable[..., object]) -> None:
    links = group("H100", 8)
    benchmark(lambda: collective_price(links, "all_reduce", 65536.0, library="vllm"))
    assert benchmark.stats["mean"] < 20e-6  # type: ignore[attr-defined]


def test_building_one_table(benchmark: Callable[..., object]) -> None:
    """What the first question about a group costs."""
    asked = iter(range(1, 1_000_000))

    def run() -> object:
        return collective_times(group("H100", 8 * next(asked), 8), "all_reduce", np.array([1e6]))

    benchmark(run)
    assert benchmark.stats["mean"] < 0.1  # type: ignore[attr-defined]
