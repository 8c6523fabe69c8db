"""Planning: the search that a published configurator takes 39 s (Qwen3-32B) and 128 to 472 s (DeepSeek-V3) for.

32 H200, 4,000 tokens in, 500 out, limits on TTFT and TPOT; every legal layout, aggregated and separated; the best ten
simulated. Target: 10 s on 2 cores, cold, under 500 MB.
"""

import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

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
