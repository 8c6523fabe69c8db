"""A replica under load: conservation, queueing theory, leaps, and the measured protocol's identities."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine.front_end import FrontEnd
from simulator.engine.replica import serve
from simulator.engine.step_time import Clock
from simulator.errors import WorkloadError
from simulator.metrics.serving import (
    closed_loop_identity,
    duration_s,
    request_frame,
    running_at,
    step_frame,
    summary,
)
from simulator.serving import Batcher, KvBlocks, Policy, Step, find_policy
from simulator.workload import ClosedLoop, Requests, closed_loop, fixed_lengths, poisson_arrivals, stream

ENGINES = ["vllm", "sglang", "tensorrt-llm"]


class Simple:
    """A step time with a floor, work by tokens and pairs, and a bend in the KV tokens it reads."""

    def step_time_s(
        self, prefill_tokens: int, prefill_context: int, decode_sequences: int, decode_kv_tokens: int,
        *, prefill_sequences: int = 1,
    ) -> float:  # fmt: skip
        pairs = prefill_tokens * (prefill_context + prefill_tokens / 2) / prefill_sequences
        reads = 3e-9 * decode_kv_tokens + 4e-9 * max(0.0, decode_kv_tokens - 9_000)
        return 5e-3 + 2e-5 * prefill_tokens + 1e-10 * pairs + 1e-5 * decode_sequences + reads


class Fixed:
    """Every step takes as long."""

    def step_time_s(self, *_: float, **__: float) -> float:
        return 0.01


class OneStep(Batcher):
    """Never leaps."""

    def plan(self) -> Step:
        return super().plan()._replace(leap=1)


def batcher(engine: str, tokens: int, kind: type[Batcher] = Batcher, poll_steps: int = 1) -> Batcher:
    policy = replace(find_policy(engine), poll_steps=poll_steps)
    return kind(policy, KvBlocks(tokens // policy.block_tokens, policy.block_tokens))


def poisson(rate_per_s: float, count: int, given_tokens: int, asked: int, seed: int = 0) -> Requests:
    times = poisson_arrivals(stream(seed, "arrivals"), rate_per_s, count)
    lengths = stream(seed, "lengths")
    return Requests(times, lengths.integers(1, given_tokens, count), lengths.integers(1, asked, count))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("memory", "poll_steps"), [(2_000, 1), (400_000, 1), (400_000, 30)])
def test_a_leap_is_its_steps(engine: str, memory: int, poll_steps: int) -> None:
    load = poisson(3.0, 60, 900, 200)
    leaping = serve(load, [batcher(engine, memory, Batcher, poll_steps)], Simple(), check=True)
    stepping = serve(load, [batcher(engine, memory, OneStep, poll_steps)], Simple())
    assert np.allclose(leaping.first_token_s, stepping.first_token_s, rtol=1e-9)
    assert np.allclose(leaping.finish_s, stepping.finish_s, rtol=1e-9)
    assert (leaping.preemptions == stepping.preemptions).all()
    assert leaping.events < 0.5 * stepping.events
    long, short = (step_frame(served) for served in (leaping, stepping))
    assert int(long.steps.sum()) == int(short.steps.sum())
    one, other = (summary(served) for served in (leaping, stepping))
    assert other == pytest.approx(one, rel=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_tokens_are_counted_once_however_often_requests_are_preempted(engine: str) -> None:
    served = serve(poisson(8.0, 120, 500, 400, seed=3), [batcher(engine, 3_000)], Simple(), check=True)
    assert (served.preemptions.sum() > 0) == (engine != "tensorrt-llm")
    assert served.itl_count.sum() == (served.output_tokens - 1).sum()
    spent = (served.finish_s - served.first_token_s).sum()
    assert (served.itl_s * served.itl_count).sum() == pytest.approx(spent, rel=1e-9)
    assert (served.first_token_s > served.arrival_s).all()
    assert (served.finish_s >= served.first_token_s).all()


@settings(max_examples=25, deadline=None)
@given(
    engine=st.sampled_from(ENGINES), seed=st.integers(0, 999), clients=st.integers(1, 9), memory=st.integers(900, 5_000)
)
def test_everyone_is_answered_and_clients_wait_their_turn(engine: str, seed: int, clients: int, memory: int) -> None:
    loop = closed_loop(clients, input_tokens=300, output_tokens=90, range_ratio=0.3, seed=seed)
    served = serve(loop, [batcher(engine, memory)], Simple(), check=True)
    assert np.isfinite(served.finish_s).all()
    middles = np.sort(np.concatenate([served.arrival_s, served.finish_s]))
    inside = running_at(served, (middles[:-1] + middles[1:]) / 2)
    assert inside.max() <= clients
    before_tail = middles[:-1] < served.arrival_s.max()
    assert (inside[before_tail & (np.diff(middles) > 1e-9)] == clients).all()


def test_one_server_with_fixed_service_is_m_d_1() -> None:
    """Mean wait rho S / (2 (1 - rho)): Pollaczek-Khinchine for fixed service (Kleinrock 1975, eq. 5.63)."""
    policy = Policy("one", 8192, 1, 16, mixed=True, chunked=True, reserve="prompt", headroom=0.0)
    for load in (0.3, 0.7):
        count = 60_000
        times = poisson_arrivals(stream(11, "arrivals"), load / 0.01, count)
        requests = Requests(times, fixed_lengths(100, count), fixed_lengths(1, count))
        served = serve(requests, [Batcher(policy, KvBlocks(100, 16))], Fixed())
        wait = float((served.first_token_s - served.arrival_s).mean()) - 0.01
        assert wait == pytest.approx(load * 0.01 / (2 * (1 - load)), rel=0.05)


def test_little() -> None:
    served = serve(poisson(12.0, 4_000, 900, 300, seed=8), [batcher("vllm", 300_000)], Simple())
    seconds = duration_s(served)
    grid = (np.arange(200_000) + 0.5) * seconds / 200_000
    frame = request_frame(served)
    assert running_at(served, grid).mean() == pytest.approx(len(frame) / seconds * frame.e2el_s.mean(), rel=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
def test_closed_loop_identity_is_as_measured(engine: str) -> None:
    """885 public runs: median 0.975, 5 to 95 % 0.944 to 0.995; the rest is ramp and tail."""
    loop = closed_loop(64, input_tokens=1024, output_tokens=1024, range_ratio=0.8)
    served = serve(loop, [batcher(engine, 300_000)], Simple())
    assert 0.944 < closed_loop_identity(served) < 0.995


def test_the_first_wave_queues() -> None:
    loop = closed_loop(64, input_tokens=2048, output_tokens=256)
    found = summary(serve(loop, [batcher("vllm", 900_000)], Simple()))
    assert found["p99_ttft_ms"] > 4 * found["median_ttft_ms"]


def test_same_seed_same_log() -> None:
    logs = [serve(poisson(9.0, 300, 800, 100), [batcher("vllm", 9_000)], Simple()).steps for _ in range(2)]
    assert logs[0] == logs[1]


def test_prompts_alone_stall_decodes_and_mixed_steps_do_not() -> None:
    load = poisson(6.0, 400, 3_000, 200, seed=5)
    alone, mixed = (summary(serve(load, [batcher(e, 900_000)], Simple())) for e in ("sglang", "vllm"))
    assert alone["p99_itl_ms"] > mixed["p99_itl_ms"]


def test_a_machine_that_seldom_looks_answers_later() -> None:
    loop = closed_loop(16, input_tokens=1024, output_tokens=512, range_ratio=0.8)
    often, seldom = (serve(loop, [batcher("sglang", 300_000, Batcher, n)], Simple()) for n in (1, 30))
    waited = summary(seldom)["median_ttft_ms"] - summary(often)["median_ttft_ms"]
    # A finish falls anywhere between two looks, 30 steps apart.
    assert 8 < waited / summary(seldom)["median_tpot_ms"] < 30


def test_ranks_that_step_together_share_the_load_and_wait_for_the_busiest() -> None:
    loop = closed_loop(8, input_tokens=600, output_tokens=200, range_ratio=0.5)
    ranks = [batcher("vllm", 20_000) for _ in range(4)]
    served = serve(loop, ranks, Simple(), check=True)
    assert sum(rank.finished for rank in ranks) == 80
    assert min(rank.finished for rank in ranks) > 10
    frame = step_frame(served)
    together = frame.groupby("start_s").time_s.nunique()
    assert (together == 1).all()
    assert served.itl_count.sum() == (served.output_tokens - 1).sum()


def test_summary_has_the_benchmarks_fields_and_counts() -> None:
    served = serve(poisson(5.0, 200, 500, 60), [batcher("vllm", 50_000)], Simple())
    found = summary(served, {"ttft": 12.0, "tpot": 6.0})
    frame = request_frame(served)
    assert found["completed"] == 200
    assert found["mean_ttft_ms"] == pytest.approx(1e3 * frame.ttft_s.mean())
    assert found["p99_tpot_ms"] == pytest.approx(1e3 * np.percentile(frame.tpot_s.dropna(), 99))
    every = np.repeat(served.itl_s, served.itl_count) * 1e3
    for p in (50, 90, 99):
        key = "median_itl_ms" if p == 50 else f"p{p}_itl_ms"
        assert found[key] == pytest.approx(np.percentile(every, p), rel=1e-9)
    assert found["std_itl_ms"] == pytest.approx(every.std(), rel=1e-9)
    good = ((frame.ttft_s <= 0.012) & ~(frame.tpot_s > 0.006)).sum()
    assert 0 < good < 200
    assert found["request_goodput:"] == pytest.approx(good / duration_s(served))
    total = found["output_throughput"] + served.input_tokens.sum() / duration_s(served)
    assert found["total_token_throughput"] == pytest.approx(total)


def test_questions_that_make_no_sense_are_refused() -> None:
    served = serve(poisson(5.0, 5, 500, 60), [batcher("vllm", 50_000)], Simple())
    with pytest.raises(WorkloadError, match="goodput: latency: 3"):
        summary(served, {"latency": 3.0})
    with pytest.raises(WorkloadError, match="goodput: ttft: nan"):
        summary(served, {"ttft": float("nan")})
    with pytest.raises(WorkloadError, match="that of a closed loop"):
        closed_loop_identity(served)
    with pytest.raises(WorkloadError, match="request 1: 100 \\+ 900 tokens: needs 63 KV blocks of 16; there are 62"):
        serve(
            ClosedLoop(Requests(np.zeros(2), np.array([50, 100]), np.array([5, 900])), 2), [batcher("vllm", 999)],
            Simple(),
        )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(decodes=st.integers(1, 40), context=st.integers(1, 5_000), steps=st.integers(1, 400), until=st.floats(0.001, 3))
def test_a_leap_stops_with_the_first_step_that_reaches_the_time(
    decodes: int, context: int, steps: int, until: float
) -> None:
    clock, reads = Clock(Simple()), decodes * context
    total, count = 0.0, 0
    while count < steps and total < until:
        one = clock.leap(decodes, reads + count * decodes, 1, float("inf"))
        total += one[1]
        count += 1
    ran, seconds, first, last = clock.leap(decodes, reads, steps, until)
    assert (ran, seconds) == (count, pytest.approx(total, rel=1e-9)) or abs(total - until) < 1e-9
    assert 0 < first <= last * (1 + 1e-12)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("memory", [2_000, 400_000])
def test_drafts_leap_as_they_step_and_save_steps(engine: str, memory: int) -> None:
    load = poisson(3.0, 60, 900, 200)
    served = []
    for kind in (Batcher, OneStep):
        plain = batcher(engine, memory, kind)
        plain.policy = replace(plain.policy, draft_tokens=3, tokens_per_step=2.75)
        drafting = kind(plain.policy, plain.blocks)
        served.append(serve(load, [drafting], Simple(), check=True))
        assert drafting.blocks.private == 0 == drafting.outstanding
    leaping, stepping = served
    assert np.allclose(leaping.finish_s, stepping.finish_s, rtol=1e-9)
    assert (leaping.preemptions == stepping.preemptions).all()
    if memory > 100_000:
        one_by_one = serve(load, [batcher(engine, memory)], Simple())
        steps = [int(step_frame(run).query("decodes > 0").steps.sum()) for run in (leaping, one_by_one)]
        assert steps[0] < 0.6 * steps[1]


@pytest.mark.parametrize("wait", [(0.7, 9), (0.95, 4)])
def test_prompts_that_wait_for_more_leap_as_they_step(wait: tuple[float, int]) -> None:
    load = poisson(6.0, 80, 900, 120)
    served = []
    for kind in (Batcher, OneStep):
        plain = batcher("tensorrt-llm", 400_000, kind)
        policy = replace(plain.policy, max_batched_tokens=2200, wait_share=wait[0], wait_steps=wait[1])
        served.append(serve(load, [kind(policy, plain.blocks)], Simple(), check=True))
    assert np.allclose(served[0].finish_s, served[1].finish_s, rtol=1e-9)
    patient, eager = served[0], serve(load, [batcher("tensorrt-llm", 400_000)], Simple())
    chunks = [int((step_frame(run).prompt_tokens > 0).sum()) for run in (patient, eager)]
    assert chunks[0] < chunks[1]
    assert (patient.first_token_s - patient.arrival_s).mean() > (eager.first_token_s - eager.arrival_s).mean()


def test_ranks_that_prefill_together_wait_for_each_other_but_not_for_ever() -> None:
    load = closed_loop(24, input_tokens=500, output_tokens=90, range_ratio=0.5)
    runs = {}
    for steps in (0, 7, 40):
        for kind in (Batcher, OneStep):
            plain = batcher("tensorrt-llm", 400_000, kind)
            policy = replace(plain.policy, together_steps=steps)
            ranks = [kind(policy, KvBlocks(12_500, 32)) for _ in range(4)]
            runs[steps, kind] = serve(load, ranks, Simple(), check=True)
        # Along a leap the rank with most decodes gives the rise of the KV tokens, another may hold most of them.
        assert np.allclose(runs[steps, Batcher].finish_s, runs[steps, OneStep].finish_s, rtol=1e-6)
    steps_with_prompts = []
    for steps in (0, 7, 40):
        frame = step_frame(runs[steps, Batcher])
        prompts = frame[frame.prompt_tokens > 0]
        steps_with_prompts.append(prompts.start_s.nunique())
        if steps:
            alone = prompts.groupby("start_s").size() < 4
            assert alone.any()
    assert steps_with_prompts[0] > steps_with_prompts[1] > steps_with_prompts[2]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ahead", [False, True])
def test_a_front_end_delays_and_leaps_are_still_steps(engine: str, ahead: bool) -> None:
    front = FrontEnd(request_s=0.02, token_s=1e-5, ahead=ahead)
    load = closed_loop(7, input_tokens=400, output_tokens=60, range_ratio=0.5)
    for work in (load, poisson(6.0, 60, 900, 90)):
        served = [serve(work, [batcher(engine, 400_000, kind)], Simple(), front=front) for kind in (Batcher, OneStep)]
        assert np.allclose(served[0].finish_s, served[1].finish_s, rtol=1e-9)
        ttft = served[0].first_token_s - served[0].arrival_s
        passing = front.request_s + front.token_s * served[0].input_tokens
        assert (ttft > passing + 5e-3).all()
        plain = serve(work, [batcher(engine, 400_000)], Simple())
        assert ttft.mean() > (plain.first_token_s - plain.arrival_s).mean() + passing.mean()
    assert served[0].events < 0.7 * served[1].events


def test_a_scheduler_that_plans_ahead_sees_a_request_one_step_later() -> None:
    work = Requests(np.array([0.0, 0.055]), np.array([10, 10]), np.array([40, 40]))
    first = {}
    for ahead in (False, True):
        served = serve(work, [batcher("vllm", 10_000)], Fixed(), front=FrontEnd(ahead=ahead))
        first[ahead] = served.first_token_s.tolist()
    # Steps end every 10 ms; the second comes within the sixth and runs in the seventh, or in the one after.
    assert first[False] == pytest.approx([0.01, 0.07])
    assert first[True] == pytest.approx([0.01, 0.08])


def test_the_first_wave_passes_the_door_one_by_one_and_finds_a_cold_machine() -> None:
    load = closed_loop(40, input_tokens=100, output_tokens=5, prompts=40)
    served = serve(load, [batcher("vllm", 400_000)], Fixed(), front=FrontEnd(request_s=0.003, cold_s=0.5))
    # The first is alone in a step that takes 10 + 500 ms; meanwhile all others have come.
    assert np.sort(served.first_token_s)[[0, 1, 39]] == pytest.approx([0.513, 0.523, 0.523])
    with pytest.raises(WorkloadError, match=r"front end: .*must not be negative"):
        FrontEnd(token_s=-1.0)
