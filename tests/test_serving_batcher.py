"""The batcher against a naive one, step by step and leap by leap; invariants after every event."""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from serving_naive import NaiveBatcher

from simulator.errors import ScenarioError, StalledError, WorkloadError
from simulator.serving import Batcher, KvBlocks, Policy, PrefixCache, SwapSpace, check_invariants, find_policy

SMALL = [
    Policy("mixed", 7, 3, 4, mixed=True, chunked=True, reserve="prompt", headroom=0.0),
    Policy("prompts first", 9, 4, 1, mixed=False, chunked=True, reserve="prompt", headroom=0.3),
    Policy("whole", 21, 5, 4, mixed=True, chunked=False, reserve="whole", headroom=0.0),
    Policy("seldom", 9, 4, 2, mixed=False, chunked=True, reserve="prompt", headroom=0.1, poll_steps=5),
    Policy("seldom mixed", 9, 5, 2, mixed=True, chunked=True, reserve="prompt", headroom=0.0, poll_steps=3),
    Policy("many", 30, 9, 3, mixed=True, chunked=True, reserve="prompt", headroom=0.0),
]
WAITING = [
    replace(SMALL[0], max_batched_tokens=20, wait_share=0.8, wait_steps=3),
    replace(SMALL[2], max_batched_tokens=40, wait_share=0.6, wait_steps=5),
    replace(SMALL[2], max_batched_tokens=40, wait_share=0.9, wait_steps=4, draft_tokens=1, tokens_per_step=1.6),
]
DRAFTING = [
    replace(SMALL[0], max_batched_tokens=13, draft_tokens=2, tokens_per_step=2.3125),
    replace(SMALL[1], draft_tokens=1, tokens_per_step=1.85),
    replace(SMALL[2], max_batched_tokens=33, draft_tokens=3, tokens_per_step=2.75),
    replace(SMALL[3], draft_tokens=3, tokens_per_step=4.0),
    replace(SMALL[5], draft_tokens=3, tokens_per_step=3.3),
]
SWAPPING = [
    replace(SMALL[0], preempt="swap"),
    replace(SMALL[1], preempt="swap"),
    replace(SMALL[5], preempt="swap"),
    replace(SMALL[4], preempt="swap"),
    replace(DRAFTING[4], preempt="swap"),
]
CAPACITY_TOKENS = 48
HOST_TOKENS = 30


class AgainstNaive(RuleBasedStateMachine):
    faulty = False

    @initialize(policy=st.sampled_from(SMALL + WAITING + DRAFTING + SWAPPING))
    def begin(self, policy: Policy) -> None:
        pages, host = CAPACITY_TOKENS // policy.block_tokens, HOST_TOKENS // policy.block_tokens
        self.real = Batcher(policy, KvBlocks(pages, policy.block_tokens, swap=SwapSpace(host, 1e-3)))
        self.naive = NaiveBatcher(policy, pages, host)
        self.count = 0
        self.asked: dict[int, int] = {}

    @rule(given=st.integers(1, 20), asked=st.integers(1, 13), priority=st.sampled_from([0, 0, 1, 2]))
    def arrive(self, given: int, asked: int, priority: int) -> None:
        self.real.arrive(self.count, given, asked, priority=priority)
        self.naive.arrive(self.count, given, asked, priority)
        self.asked[self.count] = asked
        self.count += 1

    @rule(part=st.floats(0, 1))
    def run(self, part: float) -> None:
        step = self.real.plan()
        check_invariants(self.real)
        times = max(1, round(part * step.leap))
        outcome = self.real.complete(times)
        if self.faulty and step.chunks:
            self.real.decoding.kv_tokens += 1  # a planted slip: one token more than the sequences hold
        for k in range(times):
            chunks, decodes, reads, preempted, emitted, done = self.naive.step()
            assert chunks == list(step.chunks)
            assert decodes == step.decodes
            gained = k * decodes * step.tokens_per_step
            assert reads == pytest.approx(step.decode_kv_tokens + gained) or not decodes
            assert preempted == (list(step.preempted) if k == 0 else [])
            assert emitted == set(outcome.emitted)
            assert self.naive.resumed == (list(outcome.resumed) if k == times - 1 else [])
            assert done == (set(outcome.finished) if k == times - 1 else set())

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "real"):
            check_invariants(self.real)


RUNS = settings(max_examples=120, stateful_step_count=40, deadline=None)


def test_agrees_with_the_naive_machine() -> None:
    run_state_machine_as_test(AgainstNaive, settings=RUNS)


def test_a_planted_slip_is_caught() -> None:
    class Faulty(AgainstNaive):
        faulty = True

    with pytest.raises((AssertionError, StalledError)):
        run_state_machine_as_test(Faulty, settings=settings(RUNS, print_blob=False))


class WithPrefixes(RuleBasedStateMachine):
    """Shared prefixes: a family of prompts that branch; only the invariants, for the naive machine has no cache."""

    @initialize(policy=st.sampled_from([p for p in SMALL if 4 % p.block_tokens == 0]))
    def begin(self, policy: Policy) -> None:
        cache = PrefixCache(4)
        self.real = Batcher(policy, KvBlocks(CAPACITY_TOKENS // policy.block_tokens, policy.block_tokens, cache))
        self.count = 0

    @rule(given=st.integers(1, 20), asked=st.integers(1, 13), branch=st.integers(0, 2), at=st.integers(0, 4))
    def arrive(self, given: int, asked: int, branch: int, at: int) -> None:
        hashes = tuple(i if i < at else 100 * (branch + 1) + 10 * at + i for i in range(-(-given // 4)))
        self.real.arrive(self.count, given, asked, hashes)
        self.count += 1

    @rule(part=st.floats(0, 1))
    def run(self, part: float) -> None:
        step = self.real.plan()
        check_invariants(self.real)
        self.real.complete(max(1, round(part * step.leap)))

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "real"):
            check_invariants(self.real)

    def teardown(self) -> None:
        if not hasattr(self, "real"):
            return
        for _ in range(2000):
            step = self.real.plan()
            if step.idle:
                break
            self.real.complete(step.leap)
        assert self.real.finished == self.count
        assert self.real.blocks.private == 0


def test_prefixes_keep_the_invariants_and_everyone_is_answered() -> None:
    run_state_machine_as_test(WithPrefixes, settings=RUNS)


def answer(batcher: Batcher) -> int:
    """Runs to the end; the prompt tokens that were computed."""
    computed = 0
    while not (step := batcher.plan()).idle:
        computed += sum(new for _, new, _ in step.chunks)
        batcher.complete(step.leap)
    return computed


def test_a_shared_prefix_is_computed_once() -> None:
    policy = replace(find_policy("vllm"), block_tokens=16)
    batcher = Batcher(policy, KvBlocks(1000, 16, PrefixCache(32)))
    batcher.arrive(0, 100, 5, (1, 2, 3, 4))
    assert answer(batcher) == 100
    batcher.arrive(1, 96, 5, (1, 2, 3))
    batcher.arrive(2, 130, 3, (1, 2, 9, 10, 11))
    # Of 96 tokens two blocks are reused (the last prompt token is always computed); of the other prompt two as well.
    assert answer(batcher) == (96 - 64) + (130 - 64)


def test_old_prefixes_make_way() -> None:
    batcher = Batcher(find_policy("vllm"), KvBlocks(8, 16, PrefixCache(16)))
    for number in range(5):
        batcher.arrive(number, 64, 40, tuple(100 * number + i for i in range(4)))
        answer(batcher)
        check_invariants(batcher)
    assert batcher.blocks.used <= 8


def test_tokens_are_conserved_under_preemption() -> None:
    policy = replace(SMALL[-1], max_sequences=6)
    batcher = Batcher(policy, KvBlocks(16, 3))
    asked = {number: 17 + number for number in range(6)}
    for number, tokens in asked.items():
        batcher.arrive(number, 5 + number, tokens)
    emitted, preempted = 0, 0
    while not (step := batcher.plan()).idle:
        outcome = batcher.complete(step.leap)
        emitted += step.decodes * step.leap + len(outcome.emitted)
        preempted += len(step.preempted)
    assert preempted > 0
    assert emitted == sum(asked.values())


def test_lower_classes_go_first_and_leave_last() -> None:
    batcher = Batcher(replace(SMALL[-1], max_sequences=2), KvBlocks(16, 3))
    for number, priority in enumerate([1, 2, 0, 2, 0]):
        batcher.arrive(number, 12, 14, priority=priority)
    started: list[int] = []
    preempted: list[int] = []
    while not (step := batcher.plan()).idle:
        started += [number for number, _, past in step.chunks if past == 0 and number not in started]
        preempted += step.preempted
        batcher.complete(step.leap)
    assert started == [2, 4, 0, 1, 3]
    assert preempted[0] == 4  # of one class the younger


def test_whole_reservation_never_preempts() -> None:
    batcher = Batcher(SMALL[2], KvBlocks(12, 4))
    for number in range(9):
        batcher.arrive(number, 3 + number, 12 - number)
    while not (step := batcher.plan()).idle:
        assert step.preempted == ()
        batcher.complete(step.leap)


def test_leaps_are_few() -> None:
    batcher = Batcher(find_policy("vllm"), KvBlocks(10_000, 16))
    for number in range(4):
        batcher.arrive(number, 500, 1000)
    steps = 0
    while not (step := batcher.plan()).idle:
        batcher.complete(step.leap)
        steps += 1
    assert steps == 2  # one prefill of all, one leap of 999


def test_requests_that_can_never_run_are_refused() -> None:
    small = Batcher(SMALL[0], KvBlocks(12, 4))
    with pytest.raises(WorkloadError, match="request 7: 40 \\+ 10 tokens: needs 13 KV blocks of 4; there are 12"):
        small.arrive(7, 40, 10)
    with pytest.raises(WorkloadError, match="does not fit a step of 21 tokens"):
        Batcher(SMALL[2], KvBlocks(12, 4)).arrive(0, 22, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_sequences": 0}, "max_sequences: 0: must be at least 1"),
        ({"headroom": 1.5}, "headroom: 1.5: must lie in"),
        ({"reserve": "some"}, "reserve: 'some': must be prompt or whole"),
        ({"chunked": False}, "chunked: false: needs reserve"),
        ({"draft_tokens": 1, "tokens_per_step": 2.5}, "2.5 of 1 drafted tokens: must lie between 1 and 1 \\+ draft"),
        ({"wait_share": 1.5}, "wait_share, wait_steps, together_steps: 1.5, 0, 0: a share in"),
        ({"wait_steps": 2, "mixed": False}, "wait_steps: 2: needs mixed steps"),
    ],
)
def test_policies_that_cannot_be(change: dict[str, object], said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        replace(SMALL[0], **change)  # type: ignore[arg-type]


def test_unknown_engines_and_empty_memories_are_refused() -> None:
    with pytest.raises(ScenarioError, match="engine: 'tgi': is none of vllm, sglang, tensorrt-llm"):
        find_policy("tgi")
    with pytest.raises(ScenarioError, match="KV cache: 0 blocks: must hold at least one"):
        KvBlocks(0, 16)
    with pytest.raises(ScenarioError, match="prefix blocks: 500 tokens: must be whole KV blocks of 16"):
        KvBlocks(10, 16, PrefixCache(500))
