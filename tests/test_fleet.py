"""A fleet of one is a replica; pools apart: the KV's way, who shows the first token, conditional separation."""

from dataclasses import replace

import numpy as np
import pytest
from fleet_cases import KV_BYTES, Fixed, Simple, mixed, poisson, policy, pools, same
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cost.collective.transfer import MOVERS
from simulator.engine.fleet import serve_fleet
from simulator.engine.fleet_spec import Fleet, MasterSpec, ReplicaSpec, TransferSpec
from simulator.engine.replica import serve
from simulator.errors import ScenarioError, WorkloadError
from simulator.metrics.serving import closed_loop_identity, request_frame, summary
from simulator.serving import Batcher, KvBlocks
from simulator.workload import Requests, closed_loop

ENGINES = ["vllm", "sglang", "tensorrt-llm"]
LOOP = closed_loop(16, input_tokens=500, output_tokens=120, range_ratio=0.5, prompts=80)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("tokens", [4_000, 60_000])
@pytest.mark.parametrize("closed", [True, False])
def test_a_fleet_of_one_is_a_replica(engine: str, tokens: int, closed: bool) -> None:
    work = LOOP if closed else poisson(25.0, 120, 700, 150)
    plan = policy(engine)
    alone = serve(work, [Batcher(plan, KvBlocks(tokens // plan.block_tokens, plan.block_tokens))], Simple())
    fleet = serve_fleet(work, Fleet(mixed(1, engine, tokens)), check=True)
    assert np.array_equal(alone.first_token_s, fleet.first_token_s)
    assert np.array_equal(alone.finish_s, fleet.finish_s)
    assert np.array_equal(alone.preemptions, fleet.preemptions)
    assert int(alone.itl_count.sum()) == int(fleet.itl_count.sum())
    assert float(alone.itl_s @ alone.itl_count) == pytest.approx(float(fleet.itl_s @ fleet.itl_count), rel=1e-12)


def test_ranks_that_step_together_wait_for_the_busiest() -> None:
    """Lazily settled ranks do what ranks do that are planned at every step."""
    plan = policy("vllm")
    work = poisson(25.0, 120, 700, 150)
    alone = serve(work, [Batcher(plan, KvBlocks(3_000, 16)) for _ in range(3)], Simple())
    fleet = serve_fleet(work, Fleet((ReplicaSpec("r", Simple(), plan, 3_000, ranks=3),)), check=True)
    assert np.allclose(alone.finish_s, fleet.finish_s, rtol=1e-9)


@pytest.mark.parametrize("steps", [3, 8])
def test_ranks_that_admit_together_do_in_a_fleet(steps: int) -> None:
    plan = policy("tensorrt-llm", together_steps=steps)
    work = poisson(25.0, 120, 700, 150)
    alone = serve(work, [Batcher(plan, KvBlocks(1_500, 32)) for _ in range(3)], Simple())
    fleet = serve_fleet(work, Fleet((ReplicaSpec("r", Simple(), plan, 1_500, ranks=3),)), check=True)
    assert np.allclose(alone.finish_s, fleet.finish_s, rtol=1e-9)
    free = Fleet((ReplicaSpec("r", Simple(), policy("tensorrt-llm"), 1_500, ranks=3),))
    assert not np.allclose(serve_fleet(work, free).finish_s, fleet.finish_s, rtol=1e-4)


@settings(max_examples=12, deadline=None)
@given(
    engine=st.sampled_from(ENGINES), reserve=st.sampled_from(["before_prefill", "before_transfer"]),
    first=st.sampled_from(["prefill", "transfer", "decode"]), layerwise=st.booleans(), local=st.sampled_from([0, 200]),
    tokens=st.sampled_from([2_500, 20_000]), seed=st.integers(0, 99),
)  # fmt: skip
def test_every_request_is_answered_once_and_decodes_after_its_kv_came(
    engine: str, reserve: str, first: str, layerwise: bool, local: int, tokens: int, seed: int
) -> None:
    work = poisson(30.0, 60, 700, 90, seed)
    fleet = pools(engine, tokens=tokens, local=local, reserve=reserve, first_token=first, layerwise=layerwise)
    served = serve_fleet(work, fleet, check=True)
    assert len(served.number) == 60
    moved = ~np.isnan(served.moved_s)
    assert np.array_equal(moved, (served.output_tokens > 1) & (served.input_tokens >= local))
    assert (served.moved_s[moved] > served.prefilled_s[moved]).all()
    assert (served.finish_s[moved] > served.moved_s[moved]).all()
    early = served.first_token_s[moved] < served.moved_s[moved]
    assert early.all() if first == "prefill" else not early.any()
    assert (served.itl_s > 0).all()
    assert int(served.itl_count.sum()) == int((served.output_tokens - 1).sum())
    spread = float(served.itl_s @ served.itl_count)
    # (A leap's times are taken as evenly rising, its first 16 tokens of context are not quite.)
    assert spread == pytest.approx(float((served.finish_s - served.first_token_s).sum()), rel=1e-7)


def test_the_first_token_in_the_order_of_who_shows_it() -> None:
    work = poisson(10.0, 40, 700, 90)
    means = [
        request_frame(serve_fleet(work, pools(first_token=first))).ttft_s.mean()
        for first in ("prefill", "transfer", "decode")
    ]
    assert means[0] < means[1] < means[2]


def test_one_transfer_takes_what_its_bytes_take() -> None:
    """At an idle fleet: fixed part, a part per layer, and the bytes at the line of one rank."""
    work = Requests(np.array([0.5]), np.array([1000]), np.array([7]))
    mover = MOVERS["mooncake-vllm"]
    fixed = mover.fixed_s + 61 * mover.layer_s
    wire = 1000 * KV_BYTES / (1e9 / 3 * mover.share)  # the decode rank's line is the slower
    late = serve_fleet(work, pools(layerwise=False))
    assert float(late.moved_s[0] - late.prefilled_s[0]) == pytest.approx(fixed + wire, rel=1e-9)
    early = serve_fleet(work, pools(layerwise=True, reserve="before_prefill", nic=30e9))
    assert float(early.moved_s[0] - early.prefilled_s[0]) == pytest.approx(fixed + wire / 30 / 61, rel=1e-9)


def test_transfers_share_one_line() -> None:
    """Prompts that are ready at once and alike arrive together, when the line has carried them all."""
    work = Requests(np.zeros(6), np.full(6, 300), np.full(6, 5))
    plan = policy("vllm")
    replicas = (
        ReplicaSpec("p", Fixed(0.1), plan, 1000, "prefill", nic_bytes_per_s=1e9),
        ReplicaSpec("d", Fixed(0.01), plan, 1000, "decode", nic_bytes_per_s=1e9),
    )
    spec = TransferSpec(lambda tokens: tokens * KV_BYTES, layerwise=False)
    served = serve_fleet(work, Fleet(replicas, transfer=spec), check=True)
    mover = MOVERS["mooncake-vllm"]
    wire = 6 * 300 * KV_BYTES / (1e9 * mover.share)
    assert served.moved_s - served.prefilled_s == pytest.approx(np.full(6, wire + mover.fixed_s), rel=1e-9)
    assert served.kv_bytes_moved == pytest.approx(6 * 300 * KV_BYTES)


def test_the_closed_loops_identity_holds_for_pools() -> None:
    loop = closed_loop(32, input_tokens=400, output_tokens=200, range_ratio=0.8)
    served = serve_fleet(loop, pools("vllm", tokens=200_000, nic=50e9))
    assert 0.93 < closed_loop_identity(served) < 1.0
    assert summary(served)["completed"] == 320


def test_more_decode_replicas_do_not_lower_throughput() -> None:
    loop = closed_loop(48, input_tokens=300, output_tokens=300, range_ratio=0.8, prompts=150)
    fleet = pools("vllm", nic=50e9)
    decode = [spec for spec in fleet.replicas if spec.role == "decode"]
    ends = []
    for count in (1, 2, 4):
        more = tuple(replace(decode[0], name=f"d{i}") for i in range(count))
        ends.append(serve_fleet(loop, replace(fleet, replicas=(*fleet.replicas[:2], *more))).finish_s.max())
    assert ends[0] > ends[1] > ends[2]


def test_same_seed_same_log() -> None:
    masters = tuple(MasterSpec(f"m{i}", "power_of_two", 1e-3, 0.1) for i in range(2))
    work = poisson(30.0, 80, 700, 90)
    runs = [serve_fleet(work, pools("vllm", masters=masters), seed=seed) for seed in (4, 4, 5)]
    assert same(runs[0], runs[1])
    assert runs[0].steps == runs[1].steps
    assert not same(runs[0], runs[2])


def test_follow_ups_come_after_their_answers() -> None:
    work = Requests(
        np.array([0.0, 0.2, 0.4]), np.array([100, 200, 300]), np.array([20, 30, 40]),
        after=np.array([-1, 0, -1]), delay_s=np.array([0.0, 0.7, 0.0]),
    )  # fmt: skip
    served = serve_fleet(work, Fleet(mixed(2)), check=True)
    assert float(served.arrival_s[1]) == pytest.approx(float(served.finish_s[0]) + 0.7)


def test_fleets_that_cannot_be_are_refused() -> None:
    fleet = pools()
    with pytest.raises(ScenarioError, match="need each other"):
        Fleet(fleet.replicas[:2], transfer=fleet.transfer)
    with pytest.raises(ScenarioError, match="how KV moves"):
        Fleet(fleet.replicas)
    with pytest.raises(ScenarioError, match="names must differ"):
        Fleet((fleet.replicas[0], *fleet.replicas), transfer=fleet.transfer)
    with pytest.raises(WorkloadError, match="decode replica holds"):
        serve_fleet(Requests(np.zeros(1), np.array([9000]), np.array([12_000])), fleet)
