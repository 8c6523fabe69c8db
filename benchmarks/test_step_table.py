"""Speed of step-time tables, targets in docstrings (`pytest -o addopts= --benchmark-only benchmarks/...`)."""

import sys
from pathlib import Path

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

from simulator.cost import kernel
from simulator.cost.table import StepTable, build_table
from simulator.parallel.layout import Layout

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from table_setups import setup

ENGINE = ("TensorRT-LLM", "1.0")


def fresh(model: str, layout: Layout) -> StepTable:
    """A table built with nothing remembered from the one before."""
    for name in ("gemm", "bmm", "attention_prefill", "attention_decode", "mla_prefill", "mla_decode", "moe_ffn"):
        getattr(kernel, name).cache_clear()
    return build_table(setup(model, layout, engine=ENGINE))


def test_llama_70b_tp8(benchmark: BenchmarkFixture) -> None:
    """0.5 s."""
    benchmark.pedantic(fresh, args=("Llama-3.1-70B", Layout(tp=8)), rounds=3, iterations=1)
    assert benchmark.stats.stats.min < 0.5


def test_deepseek_v3_ep144(benchmark: BenchmarkFixture) -> None:
    """2 s."""
    layout = Layout(dp_attention=144, ep=144, redundant_experts=32)
    benchmark.pedantic(fresh, args=("DeepSeek-V3", layout), rounds=3, iterations=1)
    assert benchmark.stats.stats.min < 2.0


def test_one_decode_lookup(benchmark: BenchmarkFixture) -> None:
    """5 us."""
    found = fresh("Llama-3.1-70B", Layout(tp=8))
    benchmark(found.step_time_s, 0, 0, 61, 61 * 1234)
    assert benchmark.stats.stats.median < 5e-6


def test_one_mixed_lookup(benchmark: BenchmarkFixture) -> None:
    """5 us."""
    found = fresh("Llama-3.1-70B", Layout(tp=8))
    benchmark(found.step_time_s, 1777, 512, 61, 61 * 1234)
    assert benchmark.stats.stats.median < 5e-6


def batch(count: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    sequences = generator.integers(1, 1024, count)
    return sequences, sequences * generator.integers(10, 8000, count)


def test_a_million_decode_lookups(benchmark: BenchmarkFixture) -> None:
    """0.1 s: ten million a second."""
    found, (sequences, kv) = fresh("Llama-3.1-70B", Layout(tp=8)), batch(1_000_000)
    benchmark.pedantic(found.step_times_s, args=(0, 0, sequences, kv), rounds=5, warmup_rounds=1)
    assert benchmark.stats.stats.min < 0.1


def test_a_million_mixed_lookups(benchmark: BenchmarkFixture) -> None:
    """0.2 s; every step prefills."""
    found, (sequences, kv) = fresh("Llama-3.1-70B", Layout(tp=8)), batch(1_000_000)
    prefill = np.random.default_rng(4).integers(1, 7000, len(sequences))
    benchmark.pedantic(found.step_times_s, args=(prefill, 100, sequences, kv), rounds=3, warmup_rounds=1)
    assert benchmark.stats.stats.min < 0.2
