"""Priorities in fleets, at masters, at replicas, where pages are asked. Conversations of a closed loop's clients."""

from dataclasses import replace

import numpy as np
import pytest
from fleet_cases import Simple, mixed, poisson, pools, same
from hypothesis import given
from hypothesis import strategies as st

from simulator.engine.fleet import serve_fleet
from simulator.engine.fleet_spec import FaultSpec, Fleet, MasterSpec
from simulator.engine.replica import serve
from simulator.errors import WorkloadError
from simulator.serving import Batcher, KvBlocks, find_policy
from simulator.serving.masters import Master
from simulator.workload import ClosedLoop, Requests, stream


def classed(rate: float, count: int, given: int = 700, asked: int = 90) -> Requests:
    priority = stream(1, "classes").integers(0, 3, count)
    return replace(poisson(rate, count, given, asked), priority=priority, kind=priority)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=30))
def test_a_masters_queue_is_by_class_then_by_time(events: list[tuple[int, bool]]) -> None:
    master = Master("m", "round_robin", 2, fresh=True, rng=stream(0, "m"))
    slow: list[tuple[int, int]] = []
    for number, (priority, goes) in enumerate(events):
        master.arrive(number, priority)
        slow.append((priority, number))
        if goes:
            assert master.next() == min(slow)[1]
            master.done()
            slow.remove(min(slow))
    assert list(master.queue) == [number for _, number in sorted(slow)]


def waits(work: Requests, fleet: Fleet) -> list[float]:
    served = serve_fleet(work, fleet, check=True)
    assert work.priority is not None
    assert len(served.number) == len(work)
    ttft = served.first_token_s - served.arrival_s
    return [float(ttft[work.priority[served.number] == p].mean()) for p in range(3)]


@pytest.mark.parametrize("where", ["master", "replica", "pages"])
def test_lower_classes_wait_less(where: str) -> None:
    if where == "master":  # the master is the bottleneck
        found = waits(classed(60.0, 200), Fleet(mixed(3), (MasterSpec("m", dispatch_s=0.018),)))
    elif where == "replica":
        found = waits(classed(60.0, 200), Fleet(mixed(1, tokens=3_000)))
    else:  # decode pages are
        found = waits(classed(90.0, 200, 500, 300), pools("sglang", tokens=3_000, reserve="before_prefill"))
    assert found[0] < found[1] < found[2]
    assert found[2] > 1.5 * found[0]


def test_classes_change_nothing_where_all_are_alike() -> None:
    work = poisson(40.0, 100, 700, 90)
    alike = replace(work, priority=np.full(100, 2))
    assert same(serve_fleet(work, pools()), serve_fleet(alike, pools()))


def test_nothing_is_lost_under_faults() -> None:
    faults = (FaultSpec("replica", "d0", 0.9, 0.4), FaultSpec("master", "m0", 0.5, 0.5))
    masters = tuple(MasterSpec(f"m{i}", "power_of_two", 2e-3, 0.2) for i in range(2))
    served = serve_fleet(classed(40.0, 120), pools("vllm", masters=masters, faults=faults), check=True)
    assert len(served.number) == 120


def talks(count: int, turns: int) -> Requests:
    """Conversations of uneven lengths, the requests of all in turns' order."""
    n = count * turns
    number = np.arange(n)
    after = np.where(number < count, -1, number - count)
    lengths = stream(5, "lengths")
    return Requests(
        np.zeros(n), lengths.integers(20, 300, n), lengths.integers(2, 60, n), after=after,
        delay_s=np.where(after >= 0, 0.3, 0.0), session=number % count, before_s=np.full(n, 0.1),
    )  # fmt: skip


def test_clients_hold_one_conversation_after_the_other() -> None:
    work, clients = talks(7, 3), 3
    served = serve_fleet(ClosedLoop(work, clients), Fleet(mixed(2)), check=True)
    assert len(served.number) == 21
    assert work.after is not None
    assert work.session is not None
    for number in range(7, 21):
        earlier = int(work.after[number])
        assert float(served.arrival_s[number]) == pytest.approx(float(served.finish_s[earlier]) + 0.3)
    first, last = served.arrival_s[:7], served.finish_s[14:]
    assert first[:3] == pytest.approx(np.full(3, 0.1))
    # The fourth conversation begins 0.1 s of waiting after the first of the three has ended.
    assert np.sort(first)[3:] == pytest.approx(np.sort(last)[:4] + 0.1)


def test_one_replicas_loop_does_not_follow_conversations() -> None:
    with pytest.raises(WorkloadError, match="closed loop: conversations: one replica's loop does not follow answers"):
        serve(ClosedLoop(talks(3, 2), 2), [Batcher(find_policy("vllm"), KvBlocks(1000, 16))], Simple())
