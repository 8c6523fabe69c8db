"""Per-request tables: one run's arrivals and lengths replayed, each row answered in its own place."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simulator.errors import DataError
from simulator.validation.context import Context
from simulator.validation.described import Described, engine_of, policy_from
from simulator.validation.run import run_tables, tables_in
from simulator.validation.table_requests import OUTCOMES, described, predict
from simulator.validation.tables import kind_of

DATA = Path(__file__).parents[1].parent / "shared" / "data"
SERVER = {
    "gpu": "H100", "model": "Qwen/Qwen3-8B", "tp": 1, "dp": 1, "ep_enabled": False, "dtype": "bfloat16",
    "max_num_seqs": 5, "max_num_batched_tokens": 2048, "framework": "vLLM 0.19.0",
}  # fmt: skip


def run(count: int, gap_s: float, **changes: object) -> pd.DataFrame:
    rows = [
        {"request_id": f"r{i}", "arrival_s": i * gap_s, "input_tokens": 300 + 7 * i, "output_tokens": 40 + 3 * (i % 4)}
        for i in range(count)
    ]
    return pd.DataFrame([row | SERVER | changes for row in rows])


def context() -> Context:
    return Context(Path("/nowhere"))


def test_each_request_has_its_own_times_whatever_the_order_of_rows() -> None:
    frame = run(12, 0.01)
    whole = predict(frame, context())
    mixed = predict(frame.sample(frac=1.0, random_state=3), context())
    assert (whole.not_covered_because == "").all()
    for name in OUTCOMES:
        assert whole[f"predicted_{name}"].nunique() > 6
        np.testing.assert_allclose(mixed[f"predicted_{name}"].sort_index(), whole[f"predicted_{name}"])
    steps = frame.output_tokens - 1
    spent = whole.predicted_ttft_s + whole.predicted_tpot_s * steps
    np.testing.assert_allclose(spent, whole.predicted_latency_s)
    # Five sequences at a time: the sixth waits for one to end.
    assert whole.predicted_ttft_s[5] > whole.predicted_latency_s[0] - frame.arrival_s[5] - 0.01
    assert predict(run(12, 0.01, max_num_seqs=32), context()).predicted_ttft_s[5] < whole.predicted_ttft_s[5] / 3


def test_data_parallel_ranks_are_replicas_of_dense_models_and_share_experts_of_mixtures() -> None:
    row = next(run(1, 1.0, tp=2, dp=4, ep_enabled=True).itertuples())
    dense, mixture = described(row, False).layout, described(row, True).layout
    assert (dense.tp, dense.dp_attention, dense.ep) == (2, 1, 1)
    assert (mixture.tp, mixture.dp_attention, mixture.ep) == (2, 4, 8)
    alone, four = predict(run(12, 0.001), context()), predict(run(12, 0.001, dp=4), context())
    assert four.predicted_ttft_s.max() < alone.predicted_ttft_s.max() / 3


def test_what_cannot_be_served_says_why() -> None:
    frame = pd.concat([run(3, 0.1), run(3, 0.1, gpu="H900"), run(3, 0.1, framework="LMDeploy 1.0")], ignore_index=True)
    reasons = predict(frame, context()).not_covered_because
    assert (reasons[:3] == "").all()
    assert reasons[3:6].str.contains("H900").all()
    assert reasons[6:].str.contains("no engine").all()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("vLLM v0.11.0", ("vllm", "0.11.0")), ("llm-d (vLLM)", ("vllm", "")), ("SGLang 0.5.2", ("sglang", "0.5.2")),
        ("TensorRT-LLM 1.0.0", ("tensorrt-llm", "1.0.0")), ("Mango, vllm-0.9.0.2.dev1", ("vllm", "0.9.0.2.dev1")),
        ("vLLM (enforce-eager)", ("vllm", "")), ("PyTorch 2.7", ("", "")),
    ],
)  # fmt: skip
def test_engines_in_the_words_of_tables(text: str, found: tuple[str, str]) -> None:
    assert engine_of(text) == found


def test_stated_limits_reach_the_scheduler() -> None:
    told = described(next(run(1, 1.0).itertuples()), False)
    assert isinstance(told, Described)
    policy = policy_from(told)
    assert (policy.max_sequences, policy.max_batched_tokens) == (5, 2048)


def test_files_of_any_gpu_and_model_are_found_and_scored(tmp_path: Path) -> None:
    frame = run(4, 0.05).assign(ttft_s=0.03, tpot_s=0.009, latency_s=0.4)
    frame.to_csv(tmp_path / "serving_requests_h100_qwen3-8b.csv", index=False)
    assert tables_in(tmp_path) == ("serving_requests_h100_qwen3-8b",)
    assert kind_of("serving_requests_h100_qwen3-8b") == "serving_requests"
    found = run_tables(tmp_path)
    lines = {line.outcome: line for line in found.report.tables[0].groups if line.group == "all"}
    assert set(lines) == set(OUTCOMES)
    assert all(line.covered == line.measured == 4 for line in lines.values())
    frame.assign(arrival_s="noon").to_csv(tmp_path / "serving_requests_h100_qwen3-8b.csv", index=False)
    with pytest.raises(DataError, match="arrival_s"):
        run_tables(tmp_path)


@pytest.mark.skipif(not DATA.is_dir(), reason="the measured tables are not here")
def test_measured_runs_are_replayed_whole() -> None:
    names = tuple(name for name in tables_in(DATA) if kind_of(name) == "serving_requests")
    for table in run_tables(DATA, names).report.tables:
        assert table.covered == table.rows
        # Gates above what docs/serving-tables.md reports.
        for line in table.groups:
            assert line.median_ape < 0.35, (line.group, line.outcome)
