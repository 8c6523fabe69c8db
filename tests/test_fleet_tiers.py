"""KV tiers and swapping inside fleets: found where it should be, in less time, under faults as without."""

from dataclasses import replace

import numpy as np
import pytest
from fleet_cases import Simple, mixed, poisson, policy, pools, same

from simulator.engine.fleet import FleetServed, serve_fleet
from simulator.engine.fleet_spec import FaultSpec, Fleet, KvTierSpec, MasterSpec, ReplicaSpec
from simulator.engine.replica import serve
from simulator.errors import ScenarioError
from simulator.serving import Batcher, KvBlocks, SwapSpace
from simulator.workload import Requests, closed_loop

HOST = KvTierSpec("host", 40, 1e-6)
STORE = KvTierSpec("store", 100_000, 1e-5, 1e-3, shared=True)


def families(count: int = 240, seed: int = 3) -> Requests:
    """Prompts of 30 families, each a common beginning of 3 to 12 blocks and an end of its own."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(0.04, count))
    kind = rng.integers(0, 30, count)
    common = 3 + kind % 10
    prefixes = tuple(tuple(1000 * int(k) + i for i in range(int(n))) for k, n in zip(kind, common, strict=True))
    return Requests(times, common * 64 + rng.integers(1, 60, count), rng.integers(2, 40, count), prefixes, 64)


def fleet(*tiers: KvTierSpec, faults: tuple[FaultSpec, ...] = (), **changes: object) -> Fleet:
    replicas = mixed(2, tokens=3_000, prefix_block_tokens=64, kv_tiers=tiers, **changes)
    return Fleet(replicas, (MasterSpec("m", "round_robin"),), faults=faults, heartbeat_s=0.2)


def found(served: FleetServed) -> np.ndarray:
    return np.sum(served.prefix_tokens, axis=0)


def test_each_tier_saves_computing_and_time() -> None:
    runs = [serve_fleet(families(), fleet(*tiers), check=True) for tiers in ((), (HOST,), (HOST, STORE))]
    asked = [found(run)[0] for run in runs]
    hits = [found(run)[1:].sum() for run in runs]
    assert asked == [families().input_tokens.sum()] * 3
    assert hits[0] < hits[1] < hits[2]
    waits = [float((run.first_token_s - run.arrival_s).mean()) for run in runs]
    assert waits[0] > waits[1] > waits[2]
    steps = [sum(step[4] for step in run.steps) for run in runs]
    assert [a - h for a, h in zip(asked, hits, strict=True)] == steps  # what was not found was computed, no more


def test_a_slow_store_costs_what_it_takes() -> None:
    quick = serve_fleet(families(), fleet(STORE))
    slow = serve_fleet(families(), fleet(replace(STORE, token_s=1e-4)), check=True)
    assert (slow.first_token_s - slow.arrival_s).mean() > (quick.first_token_s - quick.arrival_s).mean()


def test_a_shared_store_outlives_its_replicas_and_serves_all() -> None:
    dead = (FaultSpec("replica", "r0", 3.0, 0.5),)
    own = serve_fleet(families(), fleet(replace(STORE, shared=False), faults=dead), check=True)
    shared = serve_fleet(families(), fleet(STORE, faults=dead), check=True)
    assert len(own.number) == len(shared.number) == 240
    assert found(shared)[2] > found(own)[2]
    assert same(shared, serve_fleet(families(), fleet(STORE, faults=dead)))


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_fleet_of_one_swaps_as_a_replica_does(engine: str) -> None:
    plan = replace(policy(engine), preempt="swap", headroom=0.0)
    blocks = 3_000 // plan.block_tokens
    loop = closed_loop(16, input_tokens=300, output_tokens=220, range_ratio=0.5, prompts=60)
    swap = SwapSpace(blocks, 2e-6)
    alone = serve(loop, [Batcher(plan, KvBlocks(blocks, plan.block_tokens, swap=swap))], Simple(), check=True)
    spec = ReplicaSpec("r", Simple(), plan, blocks, swap_blocks=blocks, swap_token_s=2e-6)
    served = serve_fleet(loop, Fleet((spec,)), check=True)
    assert alone.preemptions.sum() > 0
    assert np.array_equal(alone.finish_s, served.finish_s)
    for run in (alone, served):
        assert int(run.itl_count.sum()) == int((run.output_tokens - 1).sum())
        spread = float(run.itl_s @ run.itl_count)
        assert spread == pytest.approx(float((run.finish_s - run.first_token_s).sum()), rel=1e-6)


def test_swapping_computes_no_prompt_again() -> None:
    plan = policy("vllm")
    loop = closed_loop(16, input_tokens=300, output_tokens=220, range_ratio=0.5, prompts=60)
    computed = []
    for preempt, blocks in (("recompute", 0), ("swap", 1000)):
        changed = replace(plan, preempt=preempt)
        spec = ReplicaSpec("r", Simple(), changed, 190, swap_blocks=blocks, swap_token_s=2e-6)
        run = serve_fleet(loop, Fleet((spec,)), check=True)
        assert run.preemptions.sum() > 0
        computed.append(sum(step[4] for step in run.steps))
    assert computed[1] == loop.requests.input_tokens.sum() < computed[0]


def test_nothing_is_lost_under_faults_with_swapping_decode_replicas() -> None:
    base = pools("vllm", tokens=2_500, reserve="before_transfer")
    replicas = tuple(
        replace(spec, policy=replace(spec.policy, preempt="swap"), swap_blocks=60, swap_token_s=1e-5)
        for spec in base.replicas
    )
    faults = (FaultSpec("replica", "d0", 0.9, 0.4), FaultSpec("nic", "d1", 0.5, 0.5, 0.2))
    work = poisson(40.0, 90, 700, 300)
    run = serve_fleet(work, replace(base, replicas=replicas, faults=faults), check=True)
    assert len(run.number) == 90
    assert run.preemptions.sum() > 0


def test_tiers_without_a_cache_are_refused() -> None:
    with pytest.raises(ScenarioError, match="r0: kv_tiers: host: hold blocks of a prefix cache, and there is none"):
        Fleet(mixed(1, kv_tiers=(HOST,)))
