"""Masters: the machine, its policies, and queueing theory for one that is the bottleneck."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from fleet_cases import Fixed, mixed, poisson, policy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from simulator.engine.fleet import serve_fleet
from simulator.engine.fleet_spec import Fleet, MasterSpec, ReplicaSpec
from simulator.errors import ScenarioError
from simulator.serving.masters import Master
from simulator.serving.router import POLICIES
from simulator.workload import Requests, poisson_arrivals, stream


def master(name: str, *, fresh: bool = True, replicas: int = 4) -> Master:
    return Master("m", name, replicas, fresh=fresh, rng=np.random.default_rng(7))


class MasterMachine(RuleBasedStateMachine):
    """Nothing is lost or dispatched twice, whatever the order of arrivals, dispatches and deaths."""

    def __init__(self) -> None:
        super().__init__()
        self.master = master("round_robin")
        self.came: list[int] = []
        self.left: list[int] = []

    @rule()
    def arrive(self) -> None:
        self.came.append(len(self.came))
        self.master.arrive(self.came[-1])

    @rule()
    def begin(self) -> None:
        busy = self.master.current >= 0
        number = self.master.next()
        assert (number >= 0) == (not busy and self.master.current >= 0)

    @precondition(lambda self: self.master.current >= 0)
    @rule()
    def finish(self) -> None:
        self.left.append(self.master.done())

    @rule()
    def die(self) -> None:
        self.left += self.master.take_all()
        assert self.master.waiting == 0

    @invariant()
    def in_order_and_once(self) -> None:
        held = ([self.master.current] if self.master.current >= 0 else []) + list(self.master.queue)
        assert self.left + held == self.came


TestMasterMachine = MasterMachine.TestCase
TestMasterMachine.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(POLICIES)), loads=st.lists(st.integers(0, 99), min_size=4, max_size=4),
    among=st.sets(st.integers(0, 3), min_size=1), hashes=st.lists(st.integers(1, 5), max_size=6),
    session=st.integers(0, 10**6),
)  # fmt: skip
def test_a_policy_chooses_one_of_those_that_are_up(
    name: str, loads: list[int], among: set[int], hashes: list[int], session: int
) -> None:
    assert master(name).choose(tuple(sorted(among)), loads, tuple(hashes), session) in among


def test_round_robin_takes_turns_and_least_loaded_the_idlest() -> None:
    turns = master("round_robin")
    assert [turns.choose((0, 2, 3), [9, 9, 0, 0]) for _ in range(5)] == [0, 2, 3, 0, 2]
    assert master("least_loaded").choose((0, 1, 3), [5, 2, 0, 3]) == 1


def test_two_choices_are_better_than_turns_of_chance() -> None:
    """The better of two at random: the fullest of 50 bins stays near the mean (Mitzenmacher 2001)."""
    loads = [0] * 50
    chooser = Master("m", "power_of_two", 50, fresh=True, rng=np.random.default_rng(1))
    for _ in range(5000):
        loads[chooser.choose(tuple(range(50)), loads)] += 1
    random = np.bincount(np.random.default_rng(1).integers(50, size=5000), minlength=50)
    assert max(loads) <= 104 < random.max()


def test_sessions_stay_unless_their_replica_goes() -> None:
    chooser = master("session_affinity")
    before = {session: chooser.choose((0, 1, 2, 3), [0] * 4, (), session) for session in range(400)}
    after = {session: chooser.choose((0, 1, 3), [0] * 4, (), session) for session in range(400)}
    assert all(after[s] == before[s] for s in before if before[s] != 2)
    assert set(Counter(before.values())) == {0, 1, 2, 3}
    assert min(Counter(before.values()).values()) > 70


def test_prefixes_return_to_where_they_are_cached_until_that_is_too_busy() -> None:
    chooser = master("prefix_aware")
    chooser.choose((0, 1, 2, 3), [3, 2, 1, 4], (1, 2, 3, 4))  # least loaded: 2
    assert chooser.choose((0, 1, 2, 3), [3, 2, 9, 4], (1, 2, 3, 9)) == 2
    assert chooser.choose((0, 1, 2, 3), [3, 2, 99, 4], (1, 2, 3, 9)) == 1
    assert chooser.choose((0, 1, 2, 3), [3, 9, 8, 0], (1, 7, 7, 7)) == 3


def test_an_old_view_counts_what_its_master_sent() -> None:
    stale = master("least_loaded", fresh=False)
    stale.look([3, 1, 2, 9])
    assert [stale.choose((0, 1, 2, 3), [0] * 4) for _ in range(3)] == [1, 1, 2]


def test_a_policy_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ScenarioError, match="is none of round_robin"):
        master("best")


def many(dispatch_s: float, masters: int, count: int, rate_per_s: float) -> tuple[Requests, Fleet]:
    """Requests of one prompt token and one answer token; replicas that are never the bottleneck."""
    work = Requests(poisson_arrivals(stream(2, "arrivals"), rate_per_s, count), np.full(count, 3), np.full(count, 1))
    spec = ReplicaSpec("r0", Fixed(1e-4), policy("vllm"), 10_000)
    replicas = tuple(replace(spec, name=f"r{i}") for i in range(4))
    return work, Fleet(replicas, tuple(MasterSpec(f"m{i}", "round_robin", dispatch_s) for i in range(masters)))


def test_one_master_is_an_m_d_1_queue() -> None:
    """Pollaczek-Khinchine: mean wait = rho x service / (2 (1 - rho)); 30,000 requests at a load of 0.7."""
    work, fleet = many(2e-3, 1, 30_000, 350.0)
    served = serve_fleet(work, fleet, log=False)
    wait = float((served.dispatched_s - served.arrival_s).mean()) - 2e-3
    assert wait == pytest.approx(0.7 * 2e-3 / (2 * 0.3), rel=0.06)


def test_masters_share_the_load_and_one_alone_saturates() -> None:
    ends = []
    for masters in (1, 2, 4):
        work, fleet = many(2e-3, masters, 3_000, 900.0)
        served = serve_fleet(work, fleet, log=False)
        ends.append(float(served.finish_s.max()))
        assert served.master_dispatched.sum() == 3_000
        assert np.ptp(served.master_dispatched) <= 1
    assert ends[0] == pytest.approx(3_000 * 2e-3, rel=0.01)  # 500 a second, not 900
    assert ends[1] < 0.6 * ends[0]
    assert ends[2] == pytest.approx(ends[1], rel=0.05)


def test_an_old_view_makes_longer_queues() -> None:
    """Two masters that both send to what was idlest a while ago."""
    work = poisson(120.0, 400, 500, 60)
    waits = []
    for refresh_s in (0.0, 3.0):
        masters = tuple(MasterSpec(f"m{i}", "least_loaded", 1e-4, refresh_s) for i in range(3))
        served = serve_fleet(work, Fleet(mixed(4, tokens=8_000), masters), log=False)
        waits.append(float((served.first_token_s - served.arrival_s).mean()))
    assert waits[1] > 1.1 * waits[0]


def test_a_full_master_refuses() -> None:
    work, fleet = many(2e-3, 1, 2_000, 900.0)
    refusing = replace(fleet, masters=(replace(fleet.masters[0], max_waiting=20),))
    served = serve_fleet(work, refusing, check=False)
    assert len(served.rejected) + len(served.number) == 2_000
    assert 700 < len(served.rejected) < 1_000  # 900 come, 500 are served
    assert int(served.master_longest[0]) <= 20
