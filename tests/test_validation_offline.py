"""Offline runs: the steps conserve requests and tokens, predictions see inputs only, fits recover what was planted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cost.engine_profile import find_engine
from simulator.parallel.layout import Layout
from simulator.program.ops import Collective
from simulator.validation.context import Context
from simulator.validation.decode_lines import LINES, predicted
from simulator.validation.fit_engines import PROFILES, Fitted, Measured, fit, halves_of, predicted_s, written
from simulator.validation.offline_replay import Steps, max_load, static_batch
from simulator.validation.table_offline import OUTCOMES, PeerRing, case_of, predict, slots_of

DATA = Path(__file__).parents[1].parent / "shared" / "data"
ROW = {
    "suite": "x", "release": "v0.17", "gpu": "H100", "framework": "TensorRT-LLM", "model": "Llama-3.1-8B",
    "precision": "fp8", "tp": 1.0, "pp": 1.0, "batch_size": np.nan, "isl": 500.0, "osl": 2000.0,
    "metric": "output_tokens_per_s_max_load",
}  # fmt: skip


def frame(*changes: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame([ROW | change for change in changes])


def written_tokens(steps: Steps) -> float:
    """A token of each prompt when it is prefilled, and one of each running sequence per step."""
    prefilled = np.where(steps.prefill_tokens > 0, steps.prefill_sequences, 0.0)
    return float((steps.times * (prefilled + steps.decode_sequences)).sum())


@given(batch=st.integers(1, 300), isl=st.integers(1, 3000), osl=st.integers(1, 500))
def test_static_batch_writes_every_token_over_growing_caches(batch: int, isl: int, osl: int) -> None:
    steps = static_batch(batch, isl, osl)
    assert written_tokens(steps) == batch * osl
    read = float((steps.times * steps.decode_kv_tokens).sum())
    assert read == pytest.approx(batch * sum(isl + 1 + i for i in range(osl - 1)))


@settings(max_examples=60)
@given(
    requests=st.integers(1, 90), isl=st.integers(1, 400), osl=st.integers(1, 60), slots=st.integers(1, 40),
    budget=st.integers(1, 1500),
)  # fmt: skip
def test_maximum_load_equals_a_naive_batcher(requests: int, isl: int, osl: int, slots: int, budget: int) -> None:
    steps = max_load(requests, isl, osl, slots, budget)
    assert written_tokens(steps) == requests * osl
    assert float((steps.times * steps.prefill_tokens).sum()) == requests * isl
    assert steps.sequences.max() <= slots
    waiting, running, naive_kv, count = requests, [], 0.0, 0
    while waiting or running:
        free = min(slots - len(running), waiting)
        joins = min(free, max(1, (budget - len(running)) // isl)) if free else 0
        naive_kv += sum(isl + done for done in running)
        running = [done + 1 for done in running] + [1] * joins
        running = [done for done in running if done < osl]
        waiting, count = waiting - joins, count + 1
    assert float(steps.times.sum()) == count
    assert float((steps.times * steps.decode_kv_tokens).sum()) == pytest.approx(naive_kv)


def test_predictions_do_not_move_with_the_outcomes() -> None:
    rows = frame({}, {"metric": "first_token_latency", "batch_size": 1.0}, {"precision": np.nan}, {"osl": np.nan})
    context = Context(DATA)
    answer = predict(rows, context)
    other = predict(rows.assign(output_tokens_per_s=3.0, first_token_s=9.0), context)
    pd.testing.assert_frame_equal(answer, other)
    assert answer["not_covered_because"].tolist() == [
        "",
        "",
        "precision is not stated",
        "output lengths are not stated",
    ]
    assert answer["predicted_output_tokens_per_s"].iloc[0] > 1000.0
    assert 0.002 < answer["predicted_first_token_s"].iloc[1] < 0.2
    assert set(answer.columns) >= {f"predicted_{name}" for name in OUTCOMES}


def test_rates_per_system_and_per_gpu() -> None:
    static = {"metric": "output_tokens_per_s_static_batch", "batch_size": 64.0, "isl": 128.0, "osl": 128.0, "tp": 2.0}
    answer = predict(frame({"release": "v0.5.0"} | static, {"release": "v0.9.0"} | static), Context(DATA))
    old, new = answer.to_dict("records")
    assert old["predicted_output_tokens_per_s"] == pytest.approx(2 * old["predicted_output_tokens_per_s_per_gpu"])
    assert new["predicted_output_tokens_per_s"] == pytest.approx(new["predicted_output_tokens_per_s_per_gpu"])


def test_mlperf_rates_follow_systems_lengths_and_the_rounds_software() -> None:
    """Twice the GPUs, twice the rate; longer answers, fewer requests; unknown systems are refused, not guessed."""
    mlperf = {
        "metric": "mlperf_offline", "release": "v5.1", "model": "llama3.1-8b", "gpu": "NVIDIA H200-SXM-141GB",
        "framework": "TensorRT 10.11, CUDA 12.9", "precision": np.nan, "tp": np.nan, "pp": np.nan, "isl": np.nan,
        "osl": np.nan, "kv_dtype": np.nan, "max_num_tokens": np.nan, "batch_size": np.nan, "nodes": 1.0,
    }  # fmt: skip
    tokens = "mean_output_tokens_derived"
    answer = predict(
        frame(
            mlperf | {"gpus": 4.0, tokens: 128.0}, mlperf | {"gpus": 8.0, tokens: 128.0},
            mlperf | {"gpus": 8.0, tokens: 256.0}, mlperf | {"gpus": np.nan, tokens: 128.0},
        ),
        Context(DATA),
    )  # fmt: skip
    four, eight, longer, unknown = answer["predicted_output_tokens_per_s"]
    assert eight == pytest.approx(2.0 * four, rel=0.01)
    assert longer / 256.0 < eight / 128.0 < 1.9 * longer / 256.0
    assert answer["predicted_output_tokens_per_s_per_gpu"].iloc[1] == pytest.approx(eight / 8.0)
    assert np.isnan(unknown)
    assert "states no GPUs" in answer["not_covered_because"].iloc[3]


def test_memory_bounds_the_batch() -> None:
    few, many = (next(frame({"gpu": gpu, "precision": "fp16"}).itertuples()) for gpu in ("A30", "H200"))
    small, large = case_of(few, Context(DATA)), case_of(many, Context(DATA))
    assert not isinstance(small, str)
    assert not isinstance(large, str)
    # 24 GiB less 16 GB of weights hold about 20 sequences of 2500 tokens at 128 KiB each.
    assert 8 <= slots_of(small, 2500) <= 25
    assert slots_of(large, 2500) > 10 * slots_of(small, 2500)
    assert slots_of(large, 2500) <= large.engine.max_sequences


def test_a_ring_over_pcie_carries_its_bytes() -> None:
    op = Collective(name="x", inputs=(), outputs=(), kind="all_reduce", over=("tp",), bytes=64e6)
    times = [PeerRing("L40S", Layout(tp=tp), "tensorrt-llm")(op).time_s for tp in (2, 4, 8)]
    assert times == sorted(times)
    assert times[2] < 2.0 * times[0]


def planted(values: np.ndarray, seed: int = 1) -> list[Measured]:
    generator = np.random.default_rng(seed)
    rows = []
    for k in range(60):
        n = 5
        steps = (generator.uniform(1, 50, n), generator.lognormal(-6, 1, n), generator.lognormal(-6.5, 1.5, n))
        row = Measured(f"m{k % 6}", "x", *steps, generator.uniform(1, 500, n), 0.0)
        noise = generator.lognormal(0.0, 0.01)
        rows.append(replace(row, measured_s=predicted_s(row, values, overlaps=False) * noise))
    return rows


def test_fit_finds_what_was_planted() -> None:
    values = np.array([0.83, 0.7, 900.0, 6.0])
    found = fit(planted(values), overlaps=False)
    assert found[:2] == pytest.approx(values[:2], rel=0.03)
    # Step and sequence trade places; at the rows' mean batch the host's time stands.
    assert found[2] + 250 * found[3] == pytest.approx(values[2] + 250 * values[3], rel=0.05)


def test_groups_are_halved_evenly_and_for_good() -> None:
    halves = halves_of([f"model{k}/gpu" for k in range(9)])
    assert sorted(halves.values()) == [0] * 5 + [1] * 4
    assert halves == halves_of([f"model{8 - k}/gpu" for k in range(9)])


def test_fitted_numbers_are_written_where_they_belong() -> None:
    before = PROFILES.read_text(encoding="utf-8")
    profile = find_engine("TensorRT-LLM", "0.9")
    after = written(before, [Fitted(profile, np.array([0.91, 0.82, 733.0, 4.5]), 7, 0.1, 0.123, {})])
    changed = [b for a, b in zip(before.splitlines(), after.splitlines(), strict=True) if a != b]
    assert [line for line in changed if not line.startswith("#")] == [
        "host_step_us = 733.0", "host_sequence_us = 4.5", "kernel_share = 0.91", "all_reduce_share = 0.82",
        "error = 0.123",
    ]  # fmt: skip


@pytest.mark.parametrize("line", [LINES[0], LINES[2], LINES[3]], ids=lambda line: f"{line.model}-{line.gpu}")
def test_single_gpu_decoding_follows_the_measured_line(line: object) -> None:
    """Nothing of these lines was fitted; the other three, with what is off, stand in docs/step-time.md."""
    assert isinstance(line, type(LINES[0]))
    found = predicted(line)
    assert found.intercept_s == pytest.approx(line.intercept_s, rel=0.12)
    assert found.slope_s == pytest.approx(line.slope_s, rel=0.12)


@pytest.mark.skipif(not DATA.is_dir(), reason="the measured tables are not part of the project")
def test_first_tokens_and_static_batches_of_one_model() -> None:
    """Accuracy over the whole table is reported by `shardsim validate`; this guards against a lost factor."""
    rows = pd.read_csv(DATA / "serving_offline.csv")
    rows = rows[(rows.model == "LLaMA 7B") & (rows.gpu == "H100")]
    answer = predict(rows, Context(DATA))
    first = (answer.predicted_first_token_s / rows.first_token_s).dropna()
    rate = (answer.predicted_output_tokens_per_s_per_gpu / rows.output_tokens_per_s_per_gpu).dropna()
    assert len(first) >= 6
    assert len(rate) >= 8
    assert (first - 1).abs().median() < 0.2
    assert (rate - 1).abs().median() < 0.2
