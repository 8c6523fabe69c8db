"""Speed of serving: `pytest -o addopts= --benchmark-only benchmarks/test_serving.py`. Targets in each docstring."""

import resource
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from simulator.cost.engine_profile import find_engine
from simulator.cost.table import Setup, StepTable, TableOptions, build_table
from simulator.engine.replica import Served, serve
from simulator.hardware.catalogue import find_device
from simulator.metrics.serving import summary
from simulator.model.catalogue import find_model
from simulator.parallel.layout import Layout
from simulator.serving import Batcher, KvBlocks, find_policy
from simulator.validation.context import Context
from simulator.validation.links import group_links
from simulator.validation.table_closed_loop import OUTCOMES, predict
from simulator.validation.tables import read_table
from simulator.workload import Requests, fixed_lengths, poisson_arrivals, stream

DATA = Path(__file__).parents[1].parent / "shared" / "data"
TOKENS, ANSWER = 2048, 256


def table() -> StepTable:
    layout = Layout(tp=4)
    setup = Setup(
        find_model("Llama-3.1-70B"), layout, find_device("H100"),
        lambda axes: group_links("H100", layout.size(axes), 8), find_engine("vLLM"),
    )  # fmt: skip
    return build_table(setup, TableOptions(max_context=8192))


def run(times: StepTable, count: int) -> dict[str, float]:
    """Llama-70B TP4 on H100: 2,048 tokens in, 256 out, Poisson at 2 a second, about two thirds of what it can do."""
    arrivals = poisson_arrivals(stream(0, "arrivals"), 2.0, count)
    load = Requests(arrivals, fixed_lengths(TOKENS, count), fixed_lengths(ANSWER, count))
    served: Served = serve(load, [Batcher(find_policy("vllm"), KvBlocks(30_000, 16))], times)
    return summary(served)


@pytest.mark.parametrize(("count", "limit_s"), [(1_000, 1.0), (100_000, 10.0)])
def test_requests_of_a_70b_replica(benchmark: BenchmarkFixture, count: int, limit_s: float) -> None:
    """1,000 requests in 1 s; 100,000 in 10 s and 1 GB."""
    times = table()
    found = benchmark.pedantic(run, args=(times, count), rounds=1, iterations=1)
    assert found["completed"] == count
    assert benchmark.stats.stats.min < limit_s
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < 1e9


@pytest.mark.skipif(not DATA.is_dir(), reason="the measured tables lie beside the repository, and are not here")
def test_the_closed_loop_table(benchmark: BenchmarkFixture) -> None:
    """All rows of the development half in 10 minutes on one core."""
    frame = read_table(DATA, "serving_closed_loop").drop(columns=list(OUTCOMES))
    answer = benchmark.pedantic(predict, args=(frame, Context(DATA)), rounds=1, iterations=1)
    assert answer.predicted_mean_tpot_s.notna().mean() > 0.95
    assert benchmark.stats.stats.min < 600.0
