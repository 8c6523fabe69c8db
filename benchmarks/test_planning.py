"""Planning: the search that a published configurator takes 39 s (Qwen3-32B) and 128 to 472 s (DeepSeek-V3) for.

32 H200, 4,000 tokens in, 500 out, limits on TTFT and TPOT; every legal layout, aggregated and separated; the best ten
simulated. Target: 10 s on 2 cores, cold, under 500 MB.
"""

import resource
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from simulator.planning.execute import Executor, InProcess, Processes
from simulator.planning.fingerprint import Fingerprints
from simulator.planning.journal import Journal, Resuming
from simulator.planning.question import Question
from simulator.planning.search import find
from simulator.scenario.plan_resolve import load_plan, resolve_plan

PLAN = """
model: {model}
objective: max_load
traffic: {{input_tokens: 4000, output_tokens: 500}}
slo: {{ttft: 1 s, tpot: 50 ms, percentile: 90}}
hardware:
  - {{topology: hgx_h200, max_gpus: 32}}
precisions: [{precision}]
"""


@pytest.mark.parametrize(("model", "precision"), [("Qwen3-32B", "fp8"), ("DeepSeek-V3", "checkpoint")])
def test_search_of_32_h200(model: str, precision: str, tmp_path: Path) -> None:
    """A new process each time: imports, workers and all. Prints seconds and the largest process's memory."""
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN.format(model=model, precision=precision))
    command = [sys.executable, "-m", "simulator", "plan", str(path), "--workers", "2", "--out", str(tmp_path / "out")]
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, cwd=Path(__file__).parents[1])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall, cpu = time.perf_counter() - start, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    print(f"{model}: {wall:.1f} s, {cpu:.1f} s of processor, {after.ru_maxrss / 1024:.0f} MB")
    assert after.ru_maxrss < 500 * 1024
    assert cpu < 20.0  # two cores for ten seconds; wall-clock time is that of a machine that may be shared


SWEEP = """
model: Qwen3-235B-A22B
objective: max_load
traffic: {input_tokens: 2000, output_tokens: 500, range_ratio: 0.5}
slo: {ttft: 5 s, tpot: 100 ms, percentile: 90}
hardware:
  - {topology: dgx_h100, max_gpus: 64}
  - {topology: hgx_h200, max_gpus: 64}
  - {topology: dgx_b200, max_gpus: 64}
precisions: [fp8, {weights: fp8, kv_cache: fp8}]
engines: [vllm]
space:
  modes: [aggregated]
  most_replica_gpus: 16
  max_sequences: [4, 8, 16, 32, 64, 128, 256, 512, 1024]
  max_batched_tokens: [2048, 4096, 8192, 16384, 32768]
confirm: 1
"""


def test_a_sweep_of_10_000_candidates_scales(tmp_path: Path) -> None:
    """One process, then two, each with a journal in Parquet; prints seconds and how much of linear two reach.

    Asserted on processor time, which a shared machine does not blur: n workers take the sweep's own time and an n-th of
    the workers'. The wall-clock ratio is printed beside it.
    """
    path = tmp_path / "sweep.yaml"
    path.write_text(SWEEP)
    question = resolve_plan(load_plan(path))
    one_wall, one_own, one_theirs, one = _swept(question, 1, tmp_path / "one")
    two_wall, own, theirs, two = _swept(question, 2, tmp_path / "two")
    assert one == two
    assert one >= 10_000
    linear = (one_own + one_theirs) / (2 * (own + theirs / 2))
    print(f"{one:,} candidates: {one_own + one_theirs:.1f} s of processor with one process, {own:.1f} + {theirs:.1f} s "
          f"with two workers: {linear:.0%} of linear; wall clock {one_wall:.1f} and {two_wall:.1f} s")  # fmt: skip
    assert linear > 0.8
    assert list((tmp_path / "two").rglob("part-*.parquet"))


def _swept(question: Question, workers: int, folder: Path) -> tuple[float, float, float, int]:
    """(wall-clock time, own processor time, that of the workers, candidates)."""
    start, own, before = time.perf_counter(), time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with ExitStack() as stack:
        runner: Executor = stack.enter_context(Processes(workers)) if workers > 1 else InProcess()
        journal = stack.enter_context(Journal(folder, Fingerprints().of(question)))
        found = find(question, Resuming(runner, journal))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    theirs = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return time.perf_counter() - start, time.process_time() - own, theirs, len(found.evaluations)
