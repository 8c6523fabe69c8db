"""The open-loop table: rows become arrivals, lengths and servers, and are replayed whole or up to their limits."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from simulator.hardware.catalogue import find_device
from simulator.parallel.layout import Layout
from simulator.validation.context import Context
from simulator.validation.mlperf_load import Limits, find_peak
from simulator.validation.open_load import (
    arrivals,
    conversations,
    data_set,
    share_of,
    shared_parts,
    spread_lengths,
    stated_load,
)
from simulator.validation.open_servers import (
    engine_named,
    gpu_of,
    gpus_of,
    layout_stated,
    max_tokens_of,
    memory_share_of,
    mlperf_servers,
    native_precision,
)  # fmt: skip
from simulator.validation.table_open_loop import Servers, predict
from simulator.validation.tables import NUMBERS, OUTCOMES, TEXTS, read_table
from simulator.workload import stream

DATA = Path(__file__).parents[1].parent / "shared" / "data"
NAME = "serving_open_loop"
ROW = dict.fromkeys((*TEXTS[NAME], *NUMBERS[NAME])) | {
    "suite": "llm-d lmbench", "gpu": "H100-80GB", "gpus": 2, "replicas": 1, "framework": "vLLM 0.15.1", "tp": 2,
    "pp": 1, "model": "Qwen/Qwen3-14B", "precision": "bf16", "workload": "fixed lengths",
    "load_kind": "constant interval",
    "offered_requests_per_s": 3.0, "num_requests": 37, "mean_input_tokens": 700, "mean_output_tokens": 50,
}  # fmt: skip
SUBMISSION = dict.fromkeys(ROW) | {
    "suite": "mlperf-inference", "release": "v5.1", "gpu": "NVIDIA H100-SXM-80GB", "gpus": 8, "nodes": 1,
    "framework": "TensorRT 10.11, CUDA 12.9", "model": "llama2-70b", "scenario": "Server", "load_kind": "poisson",
    "offered_requests_per_s": 75.0, "mean_output_tokens_derived": 290.0, "ttft_limit_s": 2.0, "tpot_limit_s": 0.2,
}  # fmt: skip


def rows(*changes: dict[str, object], base: dict[str, object] = ROW) -> pd.DataFrame:
    return pd.DataFrame([base | change for change in changes], index=[5 * i + 2 for i in range(len(changes))])


def row(base: dict[str, object] = ROW, **changes: object) -> SimpleNamespace:
    return SimpleNamespace(**(base | changes))


def context() -> Context:
    return Context(Path("/nowhere"))


def test_stated_rows_are_replayed_at_exactly_their_number_of_requests() -> None:
    frame = rows({}, {"offered_requests_per_s": 300.0}, {"replicas": 2, "gpus": 4, "offered_requests_per_s": 300.0})
    answer = predict(frame, context())
    assert list(answer.index) == [2, 7, 12]
    assert (answer.not_covered_because == "").all()
    calm, flood, two = (answer.loc[i] for i in answer.index)
    # 37 requests in 12 s and the tail of the last; all at once they queue for prefill.
    assert calm.predicted_achieved_requests_per_s == pytest.approx(
        37 / (36 / 3.0 + calm.predicted_mean_e2el_s), rel=0.02
    )
    assert flood.predicted_mean_ttft_s > 5 * calm.predicted_mean_ttft_s
    assert flood.predicted_mean_ttft_s > 1.5 * two.predicted_mean_ttft_s
    assert two.predicted_output_tokens_per_s == pytest.approx(4 * two.predicted_output_tokens_per_s_per_gpu)
    assert (answer.predicted_p99_ttft_s >= answer.predicted_median_ttft_s).all()


def test_what_is_not_answered_says_why() -> None:
    frame = rows(
        {}, {"gpu": None}, {"num_requests": None}, {"gpu": "H900"},
        SUBMISSION | {"model": "bert"},
    )  # fmt: skip
    reasons = predict(frame, context()).not_covered_because.tolist()
    assert reasons[0] == ""
    for reason, said in zip(reasons[1:], ("CPU", "number of requests", "H900", "bert"), strict=True):
        assert said in reason


def test_rows_that_state_clients_instead_of_a_rate_are_closed_loops() -> None:
    closed = {"offered_requests_per_s": None, "load_kind": "closed loop", "num_requests": None}
    answer = predict(rows(closed | {"concurrency": 8}, closed | {"concurrency": 64}), context())
    assert (answer.not_covered_because == "").all()
    for clients, (_, found) in zip((8, 64), answer.iterrows(), strict=True):
        # Little's law: requests in flight are the clients, but for the last wave.
        assert found.predicted_achieved_requests_per_s * found.predicted_mean_e2el_s == pytest.approx(clients, rel=0.15)
    assert answer.predicted_mean_tpot_s.is_monotonic_increasing


def test_workers_apart_spare_decodes_the_prompts() -> None:
    shared = {"offered_requests_per_s": 6.0, "gpus": 4, "mean_input_tokens": 4000, "mean_output_tokens": 80}
    answer = predict(rows(shared | {"replicas": 2}, shared | {"prefill_workers": 1, "decode_workers": 1}), context())
    assert (answer.not_covered_because == "").all()
    together, apart = answer.loc[2], answer.loc[7]
    assert apart.predicted_mean_tpot_s < together.predicted_mean_tpot_s
    assert apart.predicted_mean_ttft_s > together.predicted_median_ttft_s


def test_outcomes_are_not_looked_at() -> None:
    frame = rows({}, {"offered_requests_per_s": 20.0})
    garbage = frame.assign(**{name: np.arange(2) + 0.123 for name in OUTCOMES[NAME]})
    pd.testing.assert_frame_equal(predict(frame, context()), predict(garbage, context()))


@pytest.mark.parametrize(
    ("kind", "cv", "expected"),
    [("poisson", None, 1.0), ("gamma burstiness 50.0", None, 50**-0.5), ("constant interval", 0.001, 0.0),
     ("constant interval", 0.5, 0.5), ("rate (arrival process not stated)", None, 0.0)],
)  # fmt: skip
def test_gaps_vary_as_the_row_says(kind: str, cv: float | None, expected: float) -> None:
    gaps = np.diff(arrivals(row(load_kind=kind, arrival_cv=cv), 4.0, 20_000))
    assert gaps.mean() == pytest.approx(0.25, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(expected, abs=0.02)


def test_lengths_keep_their_mean() -> None:
    for cv in (0.0, 0.4, 0.75):
        drawn = spread_lengths(stream(3, "x"), 217.0, cv, 5000)
        assert drawn.mean() == pytest.approx(217.0, rel=0.01)
        assert drawn.std() / drawn.mean() == pytest.approx(cv, abs=0.03)
        assert drawn.min() >= 1


def test_prompts_that_come_again_share_hashes_and_lengths() -> None:
    told = "shared_prefix: 10 system prompts x 10 users, system 128 + question 64, output 64 tokens"
    assert shared_parts(row(workload=told)) == (100, 128)
    assert shared_parts(row(workload="general (chunked prefill and prefix caching on)")) == (100, 0)
    assert shared_parts(row(workload="LMBench_short_input")) == (0, 0)
    load = stated_load(row(workload=told, num_requests=2_000, mean_input_tokens=204), 64)
    assert len(set(load.prefixes)) == 100
    assert len({hashes[:2] for hashes in load.prefixes}) == 10  # 128 tokens are the system prompt's
    assert len({hashes[2] for hashes in load.prefixes}) == 100


def test_conversations_hold_what_was_said_before() -> None:
    asked = np.full(90, 200)
    load = conversations(np.arange(90.0), 1000.0, 0.5, asked, 64)
    assert load.input_tokens.mean() == pytest.approx(1000.0, rel=0.01)
    for user in (0, 7, 29):
        first, second, third = (load.prefixes[user + 30 * turn] for turn in range(3))
        assert len(first) < len(second) < len(third)
        assert third[: len(second)] == second
        assert second[: len(first)] == first


def test_dealing_to_replicas_loses_nothing() -> None:
    load = stated_load(row(num_requests=101, workload="LMBench_sharegpt"), 64)
    for at_random in (False, True):
        parts = [share_of(load, i, 3, at_random=at_random) for i in range(3)]
        assert sorted(np.concatenate([part.arrival_s for part in parts])) == sorted(load.arrival_s)
        assert sum(len(part.prefixes) for part in parts) == 101


def test_servers_in_the_words_of_rows() -> None:
    assert gpu_of("AMD Instinct MI300X 192GB HBM3 (x32), AMD Instinct MI325X 256GB HBM3e (x16)").endswith("192GB HBM3")
    assert gpus_of(row(gpu="MS-Intel Arc Pro B60 Dual 48G Turbo", gpus=4)) == 8
    assert max_tokens_of(row(max_num_tokens="1536;2048")) == 2048
    assert max_tokens_of(row(max_num_tokens=None)) == 0
    assert memory_share_of(row(workload="general (gpu_mem_util 0.95, KV offload)")) == 0.95
    assert memory_share_of(row(workload="general (gpu_mem_util -1.0, KV offload)")) == 0.0
    assert layout_stated(row(tp=8, ep=8, attention_dp="True")) == Layout(dp_attention=8, ep=8)
    assert engine_named(row(SUBMISSION)) == ("tensorrt-llm", "1.0")
    assert engine_named(row(SUBMISSION, gpu="AMD Instinct MI300X", framework="Mango, ROCm 6.12")) == ("vllm", "")
    names = {"H100": "fp8", "B200": "fp4", "MI325X": "fp8", "MI355X": "fp4", "L40S": "fp8", "A100-80GB": "int4"}
    assert {name: native_precision(find_device(name)) for name in names} == names


def test_planners_take_the_smallest_servers_with_room_for_kv() -> None:
    def sizes(**changes: object) -> list[int]:
        return [told.layout.ranks for told in mlperf_servers(row(SUBMISSION, **changes), context())]

    assert sizes() == [2, 4]  # 70 GB of fp8 weights leave one H100 nothing
    assert sizes(gpu="NVIDIA H200-SXM-141GB")[0] == 1
    assert sizes(model="llama3.1-405b", gpu="NVIDIA B200-SXM-180GB")[0] == 2
    assert sizes(tp=4.0, pp=1.0) == [4]
    latent = mlperf_servers(row(SUBMISSION, model="deepseek-r1", gpu="NVIDIA B200-SXM-180GB"), context())[0].layout
    assert latent.tp == 1
    assert latent.dp_attention == latent.ep > 1


def test_a_peak_keeps_its_limits_and_tighter_ones_lower_it() -> None:
    servers = Servers(context())
    told = mlperf_servers(row(SUBMISSION, model="llama3.1-8b"), servers.context)[0]
    lengths = data_set("llama3.1-8b")
    assert lengths is not None
    wide, tight = Limits(2.0, 0.1), Limits(0.5, 0.03)
    slow, fast = (find_peak(told, lengths, limits, 40.0, servers) for limits in (wide, tight))
    for peak, limits in ((slow, wide), (fast, tight)):
        assert peak.over <= 1.0
        assert peak.latencies["p99_ttft_s"] <= limits.ttft_s
        assert peak.latencies["p99_tpot_s"] <= limits.tpot_s
    assert fast.rate_per_s < slow.rate_per_s
    again = find_peak(told, replace(lengths, output_tokens=256.0), wide, 40.0, servers)
    assert again.rate_per_s < slow.rate_per_s


@pytest.mark.skipif(not DATA.is_dir(), reason="the measured tables are not here")
def test_measured_rows_are_covered_and_stated_ones_near() -> None:
    frame = read_table(DATA, NAME)
    assert frame.gpu.notna().mean() > 0.95
    some = frame[frame.suite.str.startswith("vLLM 0.15.1") & frame.model.str.contains("8B")]
    answer = predict(some.drop(columns=[name for name in OUTCOMES[NAME] if name in some]), Context(DATA))
    apes = (answer.predicted_mean_tpot_s / some.mean_tpot_s - 1).abs()
    assert apes.median() < 0.15
    assert (answer.predicted_mean_ttft_s / some.mean_ttft_s - 1).abs().median() < 0.25
