"""KV transfers on shared lines: fair, conserved, in time; and what they take from the expert exchange."""

import heapq
from dataclasses import replace

import numpy as np
import pytest
from fleet_cases import KV_BYTES, Fixed, poisson, policy, pools
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.cost.collective.transfer import MOVERS
from simulator.engine.fleet import serve_fleet
from simulator.engine.fleet_lines import Lines, Move
from simulator.engine.fleet_spec import Fleet, ReplicaSpec, TransferSpec
from simulator.network.fair import max_min_rates
from simulator.network.incidence import paths_of

SHARE = MOVERS["mooncake-vllm"].share
FIXED_S = MOVERS["mooncake-vllm"].fixed_s


def fleet(exchange: float = 0.0, *, layerwise: bool = False) -> Fleet:
    """Two senders of two lines, two receivers of three; uneven NICs."""
    plan = policy("vllm")
    replicas = [
        ReplicaSpec(f"{role[0]}{i}", Fixed(0.01), plan, 1000, role, role, ranks, ranks, nic_bytes_per_s=rate,  # type: ignore[arg-type]
                    exchange_share=exchange)
        for role, ranks, rates in (("prefill", 2, (3e9, 2e9)), ("decode", 3, (3.3e9, 1.2e9)))
        for i, rate in enumerate(rates)
    ]  # fmt: skip
    return Fleet(tuple(replicas), transfer=TransferSpec(lambda tokens: tokens * KV_BYTES, layerwise=layerwise))


class Wire:
    """Lines driven by hand: posts and what they schedule, in order of time."""

    def __init__(self, fleet: Fleet, lines: type[Lines] = Lines) -> None:
        self.heap: list[tuple[float, int, int, int, bool]] = []
        self.lines = lines(fleet, self.schedule)
        self.arrived: dict[int, float] = {}
        self.made = 0

    def schedule(self, move: Move, at_s: float, there: bool) -> None:
        self.made += 1
        heapq.heappush(self.heap, (at_s, self.made, move.number, move.version, there))

    def until(self, now: float) -> None:
        while self.heap and self.heap[0][0] <= now:
            at_s, _, number, version, there = heapq.heappop(self.heap)
            if not there:
                self.lines.wired(number, version, at_s)
            elif self.lines.arrived(number, version, at_s) is not None:
                self.arrived[number] = at_s


POSTS = st.lists(
    st.tuples(
        st.floats(0.0, 0.5), st.integers(0, 1), st.integers(0, 1), st.integers(0, 1), st.integers(0, 2),
        st.floats(1e6, 8e8), st.floats(0.0, 0.4),
    ),
    min_size=1, max_size=14,
)  # fmt: skip


def fair(lines: Lines, moves: list[Move]) -> np.ndarray:
    """Rates by the fabric's own max-min fill."""
    capacity = np.array([lines.capacity(line) for line in range(20)])
    crossed = np.array([lines._lines(move) for move in moves])
    return max_min_rates(capacity, paths_of(crossed.tolist()))


@settings(max_examples=60, deadline=None)
@given(posts=POSTS)
def test_rates_are_max_min_fair_and_all_bytes_arrive(
    posts: list[tuple[float, int, int, int, int, float, float]],
) -> None:
    wire = Wire(fleet())
    for number, (at_s, source, source_rank, target, target_rank, size, _) in enumerate(sorted(posts)):
        wire.until(at_s)
        wire.lines.post(Move(number, source, source_rank, 2 + target, target_rank, size, at_s, at_s), at_s)
        used = {move.number: move for moves in wire.lines._on for move in moves.values()}
        going = [move for move in used.values() if move.wired_s > at_s]
        assert np.array([move.rate for move in going]) == pytest.approx(fair(wire.lines, going), rel=1e-9)
    wire.until(1e9)
    assert sorted(wire.arrived) == list(range(len(posts)))


@settings(max_examples=60, deadline=None)
@given(posts=POSTS, layerwise=st.booleans())
def test_no_line_carries_more_than_it_can(
    posts: list[tuple[float, int, int, int, int, float, float]], layerwise: bool
) -> None:
    """Whatever came over a line between the first layer that was ready and the last end fits its rate; and no transfer
    beats its own bytes at the slower line."""
    wire = Wire(fleet(layerwise=layerwise))
    moves = []
    for number, (at_s, source, source_rank, target, target_rank, size, ago_s) in enumerate(sorted(posts)):
        wire.until(at_s)
        move = Move(number, source, source_rank, 2 + target, target_rank, size, max(0.0, at_s - ago_s), at_s)
        wire.lines.post(move, at_s)
        moves.append(move)
    wire.until(1e9)
    for line in range(20):
        mine = [move for move in moves if line in wire.lines._lines(move)]
        if mine:
            first = min(move.hint_s if layerwise else move.posted_s for move in mine)
            last = max(wire.arrived[move.number] for move in mine) - FIXED_S
            assert sum(move.bytes for move in mine) <= wire.lines.capacity(line) * (last - first) * (1 + 1e-9)
    for move in moves:
        rate = min(wire.lines.capacity(line) for line in wire.lines._lines(move))
        begin = move.hint_s if layerwise else move.posted_s
        assert wire.arrived[move.number] - FIXED_S >= (begin + move.bytes / rate) * (1 - 1e-9)


def test_a_greedy_filling_is_caught() -> None:
    """Planted: whoever is on a line gets all of it."""

    class Greedy(Lines):
        def _fill(self, moves: list[Move]) -> None:
            for move in moves:
                move.rate = min(self.capacity(line) for line in self._lines(move))

    wire = Wire(fleet(), Greedy)
    for number in range(2):
        wire.lines.post(Move(number, 0, 0, 2, number, 1e8, 0.0, 0.0), 0.0)
    going = list(wire.lines.moving.values())
    assert np.array([move.rate for move in going]) != pytest.approx(fair(wire.lines, going), rel=1e-3)


def test_a_short_transfer_does_not_wait_for_a_long_one() -> None:
    wire = Wire(fleet())
    wire.lines.post(Move(0, 0, 0, 2, 0, 1e9, 0.0, 0.0), 0.0)
    wire.lines.post(Move(1, 0, 0, 2, 1, 1e6, 0.1, 0.1), 0.1)
    wire.until(1e9)
    half = 1.5e9 / 2 * SHARE
    assert wire.arrived[1] - FIXED_S == pytest.approx(0.1 + 1e6 / half)
    rate = 1.1e9 * SHARE  # the receiver's line is the slower one, but while both leave
    alone = (1e9 - 0.1 * rate - 1e6) / rate
    assert wire.arrived[0] - FIXED_S == pytest.approx(0.1 + 1e6 / half + alone, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0.05, 1.0), size=st.floats(1e6, 1e9), target=st.integers(0, 1))
def test_line_and_time_are_conserved_beside_an_exchange(share: float, size: float, target: int) -> None:
    """While KV comes, the exchange's own bytes and the KV's together are no more than the line carries."""
    wire = Wire(fleet(share))
    wire.lines.post(Move(0, 0, 1, 2 + target, 2, size, 0.0, 0.0), 0.0)
    wire.until(1e9)
    seconds = wire.arrived[0] - FIXED_S
    line = {2: 1.1e9, 3: 0.4e9}[2 + target] * SHARE
    steps_s = seconds - wire.lines.owed_s[2 + target]  # of steps as they are alone
    assert 0.0 < wire.lines.owed_s[2 + target] <= share / (1.0 + share) * seconds * (1 + 1e-9)
    assert size + share * steps_s * line <= line * seconds * (1 + 1e-9)


def test_transfers_of_many_ranks_slow_their_common_exchange_once() -> None:
    wire = Wire(fleet(0.5))
    for rank in range(3):
        wire.lines.post(Move(rank, rank % 2, rank // 2, 3, rank, 4e8, 0.0, 0.0), 0.0)
    wire.until(1e9)
    seconds = max(wire.arrived.values()) - FIXED_S
    assert wire.lines.owed_s[3] == pytest.approx(seconds * 0.5 / 1.5, rel=1e-6)


def test_decodes_are_slower_while_kv_comes() -> None:
    work = poisson(40.0, 80, 700, 90)
    plain = pools("vllm", nic=2e9)
    shared = replace(plain, replicas=tuple(replace(spec, exchange_share=0.4) for spec in plain.replicas))
    alone, together = serve_fleet(work, plain, check=True), serve_fleet(work, shared, check=True)

    def tpot(run: object) -> float:
        many = alone.output_tokens > 5
        spans = (run.finish_s - run.moved_s)[many] / alone.output_tokens[many]  # type: ignore[attr-defined]
        return float(spans.mean())

    assert 1.02 * tpot(alone) < tpot(together) < 1.4 * tpot(alone)
    assert int(together.itl_count.sum()) == int(alone.itl_count.sum())
    spread = float(together.itl_s @ together.itl_count)
    assert spread == pytest.approx(float((together.finish_s - together.first_token_s).sum()), rel=1e-6)
