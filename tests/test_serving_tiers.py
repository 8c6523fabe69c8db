"""Prefix blocks that fall to host memory and a remote store, and sequences that are swapped out."""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from test_serving_batcher import SMALL, SWAPPING

from simulator.errors import ScenarioError, StalledError
from simulator.serving import Batcher, KvBlocks, Policy, PrefixCache, SwapSpace, Tier, check_invariants, find_policy

RUNS = settings(max_examples=40, stateful_step_count=40, deadline=None)


class Kept:
    """What a cache of three levels should hold: lists, least recently used first."""

    def __init__(self, host: int, store: int) -> None:
        self.rooms = [host, store]
        self.lists: list[list[int]] = [[], []]

    def falls(self, block: int) -> None:
        for room, held in zip(self.rooms, self.lists, strict=True):
            if block in held:
                held.remove(block)
            held.append(block)
            if len(held) <= room:
                return
            block = held.pop(0)


class WithTiers(RuleBasedStateMachine):
    """A family of prompts that branch, over a small GPU, a smaller host and a store; some sequences are swapped."""

    forgets = False

    @initialize(policy=st.sampled_from([p for p in SMALL + SWAPPING if 4 % p.block_tokens == 0]))
    def begin(self, policy: Policy) -> None:
        self.tiers = Tier("host", 3, 1e-3, 0.5), Tier("store", 7, 1e-2)
        self.kept = Kept(3, 7)
        cache = PrefixCache(4, self.tiers)
        dropped = cache.idle

        def evict() -> None:
            block = next(iter(dropped))
            if not (self.forgets and block % 3 == 0):
                self.kept.falls(block)
            PrefixCache.evict(cache)

        self.evict = evict
        pages = 48 // policy.block_tokens
        self.real = Batcher(policy, Watched(pages, policy.block_tokens, cache, evict))
        self.count = 0

    @rule(given=st.integers(1, 20), asked=st.integers(1, 13), branch=st.integers(0, 2), at=st.integers(0, 4))
    def arrive(self, given: int, asked: int, branch: int, at: int) -> None:
        hashes = tuple(i if i < at else 100 * (branch + 1) + 10 * at + i for i in range(-(-given // 4)))
        self.real.arrive(self.count, given, asked, hashes)
        self.count += 1

    @rule(part=st.floats(0, 1))
    def run(self, part: float) -> None:
        prefix = self.real.blocks.prefix
        assert prefix is not None
        before = list(prefix.hit_tokens)
        step = self.real.plan()
        check_invariants(self.real)
        found = [now - then for now, then in zip(prefix.hit_tokens, before, strict=True)]
        # Fetching takes what its tokens take, and each prompt that fetches from the host its fixed time.
        least = 1e-3 * found[1] + 1e-2 * found[2]
        assert step.fetch_s >= least - 1e-12
        assert step.fetch_s <= least + 0.5 * len(step.chunks) + 1e-12
        assert (step.fetch_s > 0) == bool(found[1] or found[2])
        self.real.complete(max(1, round(part * step.leap)))

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "real"):
            check_invariants(self.real)
            for tier, held in zip(self.tiers, self.kept.lists, strict=True):
                assert set(tier.blocks) <= set(held) | self.touched(held)

    def touched(self, held: list[int]) -> set[int]:
        """A fetched block is the most recent of its tier: the lists learn of that from the tiers' own order."""
        for tier, mine in zip(self.tiers, self.kept.lists, strict=True):
            assert sorted(tier.blocks) == sorted(mine)
            mine[:] = list(tier.blocks)
        return set(held)

    def teardown(self) -> None:
        if hasattr(self, "real"):
            for _ in range(2000):
                step = self.real.plan()
                if step.idle:
                    break
                self.real.complete(step.leap)
            assert self.real.finished == self.count
            assert self.real.blocks.private == 0


class Watched(KvBlocks):
    """Pages whose evictions are seen."""

    def __init__(self, capacity: int, block_tokens: int, cache: PrefixCache, evict: object) -> None:
        super().__init__(capacity, block_tokens, cache, SwapSpace(30 // block_tokens, 1e-3))
        self.seen = evict

    def take(self, pages: int) -> None:
        self.private += pages
        while self.used > self.capacity:
            self.seen()  # type: ignore[operator]


def test_what_is_evicted_falls_from_tier_to_tier() -> None:
    run_state_machine_as_test(WithTiers, settings=RUNS)


def test_a_block_that_gets_lost_is_noticed() -> None:
    class Forgetful(WithTiers):
        forgets = True

    with pytest.raises((AssertionError, StalledError)):
        run_state_machine_as_test(Forgetful, settings=settings(RUNS, print_blob=False))


def answer(batcher: Batcher) -> tuple[int, float]:
    """Runs to the end; prompt tokens computed, seconds of fetching."""
    computed, seconds = 0, 0.0
    while not (step := batcher.plan()).idle:
        computed += sum(new for _, new, _ in step.chunks)
        seconds += step.fetch_s
        check_invariants(batcher)
        batcher.complete(step.leap)
    return computed, seconds


def test_an_evicted_prompt_is_fetched_and_not_computed_again() -> None:
    for tiers, fetched in (((), 0), ((Tier("host", 100, 1e-5),), 128), ((Tier("host", 2), Tier("far", 99)), 128)):
        batcher = Batcher(find_policy("vllm"), KvBlocks(12, 16, PrefixCache(16, tiers)))
        batcher.arrive(0, 144, 3, tuple(range(9)))
        assert answer(batcher)[0] == 144
        batcher.arrive(1, 160, 3, tuple(range(100, 110)))
        answer(batcher)
        batcher.arrive(2, 144, 3, tuple(range(9)))
        again, seconds = answer(batcher)
        assert again <= 144 - fetched or not fetched
        if tiers and tiers[0].token_s:
            assert seconds == pytest.approx(1e-5 * batcher.blocks.prefix.hit_tokens[1])  # type: ignore[union-attr]


def test_a_swapped_sequence_goes_on_without_computing() -> None:
    policy = replace(SMALL[-1], max_sequences=6)
    totals = []
    for preempt in ("recompute", "swap"):
        batcher = Batcher(replace(policy, preempt=preempt), KvBlocks(16, 3, swap=SwapSpace(100, 1e-3)))
        for number in range(6):
            batcher.arrive(number, 5 + number, 17 + number)
        computed = emitted = preempted = 0
        moved = 0.0
        while not (step := batcher.plan()).idle:
            check_invariants(batcher)
            outcome = batcher.complete(step.leap)
            computed += sum(new for _, new, _ in step.chunks)
            emitted += step.decodes * step.leap + len(outcome.emitted)
            preempted += len(step.preempted)
            moved += step.swap_s
        assert emitted == sum(17 + number for number in range(6))
        totals.append((computed, moved > 0.0))
        assert preempted > 0
    prompts = sum(5 + number for number in range(6))
    assert totals[0] == (pytest.approx(totals[0][0]), False)
    assert totals[0][0] > prompts
    assert totals[1] == (prompts, True)  # what was swapped out came back, every token of it


def test_tiers_and_swap_spaces_that_cannot_be() -> None:
    with pytest.raises(ScenarioError, match="KV tier host: 0 blocks: must hold at least one"):
        Tier("host", 0)
    with pytest.raises(ScenarioError, match="KV tier far: -1 s, 0 s"):
        Tier("far", 3, -1.0)
    with pytest.raises(ScenarioError, match="swap space: -3 pages"):
        SwapSpace(-3)
    with pytest.raises(ScenarioError, match="preempt: 'drop': must be recompute or swap"):
        replace(SMALL[0], preempt="drop")  # type: ignore[arg-type]
