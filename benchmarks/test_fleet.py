"""Speed of fleets: `pytest -o addopts= --benchmark-only benchmarks/test_fleet.py`. Targets in each docstring."""

import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from simulator.cost.engine_profile import find_engine
from simulator.cost.table import Setup, TableOptions, build_table
from simulator.engine.fleet import FleetServed, serve_fleet
from simulator.engine.fleet_spec import Fleet, MasterSpec, ReplicaSpec, Role, TransferSpec
from simulator.engine.server import Server, kv_memory_bytes, memory_for
from simulator.hardware.catalogue import find_device
from simulator.model.catalogue import find_model
from simulator.parallel.layout import Layout
from simulator.program.memory import kv_cache_bytes
from simulator.serving import find_policy
from simulator.validation.context import Context
from simulator.validation.links import group_links
from simulator.validation.table_pd import OUTCOMES, predict
from simulator.validation.tables import read_table
from simulator.workload import Requests, poisson_arrivals, stream

DATA = Path(__file__).parents[1].parent / "shared" / "data"
DAY_S, REQUESTS = 86_400.0, 1_400_000
LONGEST = 32_768


def unit(role: Role, ranks: int, name: str) -> ReplicaSpec:
    """A unit of DeepSeek's own deployment (github.com/deepseek-ai/open-infra-index, day 6, 2025-03): attention data
    parallel and experts spread over all its GPUs, 32 of the experts twice."""
    layout = Layout(dp_attention=ranks, ep=ranks, redundant_experts=32)
    setup = Setup(
        find_model("DeepSeek-R1"), layout, find_device("H800"),
        lambda axes: group_links("H800", layout.size(axes), 8), find_engine("SGLang"),
    )  # fmt: skip
    policy = replace(find_policy("sglang"), block_tokens=64, max_batched_tokens=16_384)
    reach = (17_000, 1, LONGEST) if role == "prefill" else (512, 256, LONGEST)
    table = build_table(setup, TableOptions(*reach))
    blocks = memory_for(Server(setup, table, kv_memory_bytes(setup)), policy, 4096).capacity
    return ReplicaSpec(name, table, policy, blocks, role, role, ranks, ranks, nic_bytes_per_s=ranks * 50e9)


def cluster() -> Fleet:
    """352 H800: two prefill units of 4 nodes (EP32), two decode units of 18 nodes (EP144)."""
    prefill, decode = unit("prefill", 32, "p0"), unit("decode", 144, "d0")
    layout = Layout(dp_attention=144, ep=144, redundant_experts=32)
    per_token = kv_cache_bytes(find_model("DeepSeek-R1"), layout, 0, (4096,)) / 4096
    spec = TransferSpec(lambda tokens: per_token * tokens, 61, "mooncake-sglang", reserve="before_prefill")
    replicas = (prefill, replace(prefill, name="p1"), decode, replace(decode, name="d1"))
    return Fleet(replicas, tuple(MasterSpec(f"m{i}", "least_loaded", 2e-3, 1.0) for i in range(2)), spec)


def day(count: int) -> Requests:
    """Lengths with the means of ServeGen's DeepSeek-R1 day (1,268 in, 1,527 out; arXiv:2505.09999), exponential."""
    lengths = stream(0, "lengths")
    given = np.minimum(1 + lengths.exponential(1267.0, count), 24_000).astype(np.int64)
    asked = np.minimum(1 + lengths.exponential(1526.0, count), 8_000).astype(np.int64)
    return Requests(poisson_arrivals(stream(0, "arrivals"), REQUESTS / DAY_S, count), given, asked)


def run(fleet: Fleet, count: int) -> FleetServed:
    """A day, or as much of it as so many requests are."""
    return serve_fleet(day(count), fleet, log=False)


@pytest.mark.parametrize(("count", "limit_s"), [(20_000, 4.0), (REQUESTS, 180.0)])
def test_a_day_on_352_gpus(benchmark: BenchmarkFixture, count: int, limit_s: float) -> None:
    """1.4 million requests in 3 minutes."""
    served = benchmark.pedantic(run, args=(cluster(), count), rounds=1, iterations=1)
    assert len(served.number) == count
    assert benchmark.stats.stats.min < limit_s
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < 4e9


@pytest.mark.skipif(not DATA.is_dir(), reason="the measured tables lie beside the repository, and are not here")
def test_the_pd_table(benchmark: BenchmarkFixture) -> None:
    """All rows of the development half in 3 minutes."""
    frame = read_table(DATA, "serving_pd").drop(columns=list(OUTCOMES))
    answer = benchmark.pedantic(predict, args=(frame, Context(DATA)), rounds=1, iterations=1)
    assert answer.predicted_mean_tpot_s.notna().mean() > 0.95
    assert benchmark.stats.stats.min < 180.0
