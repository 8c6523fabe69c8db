"""Runs of live serving: users' times, labels, pools, money and power."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_case import PAIR, case

from simulator.engine.replica import Served
from simulator.engine.server import REQUEST_S, TOKEN_S
from simulator.errors import DataError
from simulator.hardware.catalogue import find_device
from simulator.metrics.power import power_w
from simulator.metrics.prices import family, price_of, table
from simulator.metrics.serving import step_frame
from simulator.metrics.serving_pools import touched_share
from simulator.metrics.serving_run import ServingResult, run_serving
from simulator.metrics.stability import label

TALK = (
    "traffic.conversation={turns: 3, think: 2 s, system_tokens: 640, retrieval: {latency: 400 ms, documents: 9, "
    "count: 2, tokens: 128}, tools: {calls: 2, latency: 300 ms, result: 90}}"
)


def run(folder: Path, *given: str) -> ServingResult:
    return run_serving(case(folder, *given))


def test_frames_agree_with_each_other(tmp_path: Path) -> None:
    found = run(tmp_path, PAIR, "masters={count: 2, dispatch: 5 ms}")
    requests, series = found.requests, found.series
    width = float(series.time_s[1] - series.time_s[0])
    assert len(requests) == 60
    assert float(series.arrival_rate.sum() * width) == pytest.approx(60)
    assert float(series.finish_rate.sum() * width) == pytest.approx(60)
    assert float(series.output_rate.sum() * width) == pytest.approx(float(requests.output_tokens.sum()))
    mean_in_system = float(requests.e2el_s.sum()) / float(found.benchmark["duration"])  # type: ignore[arg-type]
    assert float(series.in_system.mean()) == pytest.approx(mean_in_system, rel=0.25)
    assert found.masters.dispatched.tolist() == [30, 30]
    before = found.case.requests.before_s
    assert before is not None
    reached = requests.arrival_s + before[requests.number.to_numpy()]
    assert (requests.dispatched_s - reached).min() == pytest.approx(0.005)
    assert (requests.moved_s >= requests.prefilled_s).all()
    assert set(requests.prefill_replica) <= {"p0", "p1"}
    assert set(requests.decode_replica) <= {"d0", "d1"}
    pools = found.pools.set_index("pool")
    assert pools.output_tokens.to_dict() == {"p": 0, "d": requests.output_tokens.sum()}
    assert pools.prompt_tokens.to_dict() == {"p": requests.input_tokens.sum(), "d": 0}
    assert float(pools.energy_j.sum()) / float(requests.output_tokens.sum()) == found.figures["joules_per_output_token"]
    assert len(found.itl_s) == 401
    assert np.all(np.diff(found.itl_s) >= 0.0)


def test_the_result_file_has_the_fields_of_the_benchmark(tmp_path: Path) -> None:
    found = run(tmp_path).benchmark
    for name in ("num_prompts", "request_rate", "burstiness", "max_concurrency", "duration", "completed",
                 "total_input_tokens", "request_throughput", "request_goodput:", "output_throughput",
                 "total_token_throughput", "failed"):  # fmt: skip
        assert name in found
    for key in ("ttft", "tpot", "itl", "e2el"):
        for statistic in ("mean", "median", "std", "p50", "p90", "p95", "p99"):
            assert f"{statistic}_{key}_ms" in found
    assert (found["request_rate"], found["max_concurrency"]) == (6.0, None)
    closed = run(tmp_path, "traffic={arrivals: closed_loop, concurrency: 4, input_tokens: 90, output_tokens: 30}")
    assert (closed.benchmark["request_rate"], closed.benchmark["max_concurrency"]) == ("inf", 4)


def test_goodput_counts_the_requests_that_keep_all_limits(tmp_path: Path) -> None:
    first = run(tmp_path).requests
    limit = float(first.ttft_s.median())
    found = run(tmp_path, f"slo={{ttft: {limit * 1e3:.6f} ms, tpot: 30 ms}}")
    assert found.figures["good_share"] == pytest.approx(0.5, abs=0.02)
    share = found.benchmark["request_goodput:"] / found.benchmark["request_throughput"]  # type: ignore[operator]
    assert share == pytest.approx(found.figures["good_share"])


def test_users_wait_for_retrieval_and_tools(tmp_path: Path) -> None:
    found = run(tmp_path, TALK, "traffic.requests=20")
    before = found.case.requests.before_s
    assert before is not None
    frame = found.requests.sort_values("number")
    front = REQUEST_S + TOKEN_S * found.case.requests.input_tokens
    after = found.case.requests.after
    assert after is not None
    assert set(np.round(before - front, 6)[after >= 0]) == {0.0, 0.4}
    fetched = before[frame.number.to_numpy()] > 0.1
    assert frame.ttft_s[fetched].min() > 0.4 > frame.ttft_s[~fetched].max()
    delay = found.case.requests.delay_s
    assert delay is not None
    finish = frame.finish_s.to_numpy()
    follows = np.flatnonzero(after >= 0)
    asked = finish[after[follows]] + delay[follows] - before[follows]
    np.testing.assert_allclose(frame.arrival_s.to_numpy()[follows], asked, rtol=1e-9)
    assert found.figures["prompt_tokens_from_cache"] > 0.5
    without = run(tmp_path, TALK, "traffic.requests=20", "serving.prefix_cache=false")
    assert without.figures["prompt_tokens_from_cache"] == 0.0


def test_a_kill_costs_but_loses_nothing(tmp_path: Path) -> None:
    kill = "faults=[{kind: replica, target: d0, at: 4 s, repair: 3 s}]"
    found = run(tmp_path, PAIR, kill, "masters.heartbeat=1 s", "traffic.output_tokens=200")
    assert len(found.requests) == 60
    (outage,) = found.outages.to_dict("records")
    assert (outage["kind"], outage["target"], outage["start_s"], outage["end_s"]) == ("replica", "d0", 4.0, 7.0)
    assert outage["lost_requests"] == (found.requests.retries > 0).sum() > 0
    assert found.figures["availability"] == pytest.approx(1.0 - 3.0 / 4.0 / found.benchmark["duration"])  # type: ignore[operator]
    calm = run(tmp_path, PAIR, "traffic.output_tokens=200").benchmark
    assert float(str(found.benchmark["p99_e2el_ms"])) > float(str(calm["p99_e2el_ms"]))


def test_same_seed_same_run(tmp_path: Path) -> None:
    one, two, other = (run(tmp_path, TALK, f"traffic.seed={seed}") for seed in (5, 5, 6))
    assert one.requests.equals(two.requests)
    assert not one.requests.equals(other.requests)


# ---- labels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "word"), [(5, "stable"), (400, "overloaded")])
def test_open_loops_are_labelled(tmp_path: Path, rate: int, word: str) -> None:
    found = run(tmp_path, f"traffic.rate={rate}", "traffic.requests=1500")
    assert found.label == word
    assert bool(found.warnings) == (word != "stable")


def test_a_closed_loop_that_queues_is_backlogged(tmp_path: Path) -> None:
    loop = "traffic={arrivals: closed_loop, concurrency: 40, input_tokens: 300, output_tokens: 60}"
    assert run(tmp_path, loop).label == "stable"
    assert run(tmp_path, loop, "serving.max_sequences=8").label == "backlogged"


def served(arrival: np.ndarray, stay: np.ndarray) -> Served:
    n, ones = len(arrival), np.ones(len(arrival), dtype=np.int64)
    return Served(arrival, arrival + 0.1, arrival + stay, ones, ones, ones * 0, 0, np.zeros(0), ones[:0], (), n)


@given(st.integers(0, 1000), st.floats(1.0, 60.0))
@settings(max_examples=30, deadline=None)
def test_a_long_stay_alone_is_no_overload(seed: int, stay: float) -> None:
    arrival = np.cumsum(np.random.default_rng(seed).exponential(0.1, 4000))
    steady = served(arrival, np.full(4000, stay))
    assert label(steady, step_frame(steady)) == "stable"
    # Growth by a tenth of what comes, hidden in the same mean stay, is found.
    growing = served(arrival, arrival * 0.1 + 1.0)
    assert label(growing, step_frame(growing)) == "overloaded"


def test_what_is_refused_is_overload(tmp_path: Path) -> None:
    steady = served(np.arange(100.0), np.full(100, 2.0))
    assert label(steady, step_frame(steady), rejected=1) == "overloaded"


# ---- power and prices -------------------------------------------------------------------------------------------


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.2))
def test_power_grows_with_work_and_stays_between_idle_and_the_limit(
    busy: float, memory: float, compute: float, more: float
) -> None:
    drawn = power_w(700.0, busy, memory, compute)
    assert 70.0 - 1e-9 <= drawn <= 700.0
    for other in ((busy + more, memory, compute), (busy, memory + more, compute), (busy, memory, compute + more)):
        assert power_w(700.0, *other) >= drawn


def test_a_run_reads_no_more_than_its_memory_gives(tmp_path: Path) -> None:
    for settings_ in ((), (PAIR,), ("traffic.rate=300",)):
        pools = run(tmp_path, *settings_).pools
        assert ((pools.memory_share > 0.0) & (pools.memory_share < 1.0)).all()
        assert ((pools.compute_share > 0.0) & (pools.compute_share < 1.0)).all()
        assert (pools.busy <= 1.0 + 1e-9).all()


def test_busy_experts_are_read_and_idle_ones_are_not(tmp_path: Path) -> None:
    dense = case(tmp_path).pools[0]
    assert touched_share(dense, np.array([1, 900])).tolist() == [1.0, 1.0]
    mixture = case(tmp_path, "model=Qwen/Qwen3-30B-A3B").pools[0]
    one, some, all_ = touched_share(mixture, np.array([1, 16, 4000]))
    assert 3.3 / 30.5 < one < 0.2 < some < all_ == pytest.approx(1.0)


def test_prices_are_facts_that_users_override(tmp_path: Path) -> None:
    h100, l40s = find_device("H100-SXM"), find_device("L40S")
    assert price_of(h100)[0] == 1.78
    assert price_of(h100, "hyperscaler")[0] == 1.17
    assert price_of(h100, own=2.5) == (2.5, "as given")
    assert price_of(h100, own={"H100": 2.0})[0] == 2.0
    assert price_of(h100, own={"B200": 2.0})[0] == 1.78
    assert price_of(l40s)[0] is None
    assert (family(h100), family(l40s)) == ("H100", "L40S")
    with pytest.raises(DataError, match="is none of rental"):
        price_of(h100, "lottery")
    for usd, source in table().values():
        assert 0.3 < usd < 15.0
        assert "202" in source
    found = run(tmp_path, "prices.usd_per_gpu_hour=3.6")
    seconds, asked = float(found.benchmark["duration"]), float(found.requests.output_tokens.sum())  # type: ignore[arg-type]
    assert found.figures["usd_per_million_output_tokens"] == pytest.approx(3.6 / 3600.0 * seconds / asked * 1e6)


def test_a_run_too_long_to_log_says_nearly_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = case(tmp_path, "traffic.requests=400")
    kept = run_serving(long)
    monkeypatch.setattr("simulator.metrics.serving_run.MOST_LOGGED", 10)
    found = run_serving(replace(long))
    assert len(found.steps) == 0
    assert found.requests.equals(kept.requests)
    assert found.figures["power_w_per_gpu"] == pytest.approx(kept.figures["power_w_per_gpu"], rel=0.1)
    assert "kv:pool" not in found.series
