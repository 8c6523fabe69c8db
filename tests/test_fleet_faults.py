"""Faults: nothing lost or answered twice; what is lost, when it is noticed, and what it costs."""

from dataclasses import replace

import numpy as np
import pytest
from fleet_cases import mixed, poisson, pools, same
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine import fleet_faults
from simulator.engine.fleet import serve_fleet
from simulator.engine.fleet_spec import FaultRate, FaultSpec, Fleet, MasterSpec
from simulator.errors import ScenarioError, StalledError
from simulator.workload import Requests, closed_loop

MASTERS = tuple(MasterSpec(f"m{i}", name, 2e-3, 0.4) for i, name in enumerate(["power_of_two", "round_robin"]))
TARGETS = [
    ("replica", "p0"), ("replica", "p1"), ("replica", "d0"), ("replica", "d1"), ("node", "node-p0"),
    ("node", "node-d1"), ("nic", "p1"), ("nic", "d0"), ("link", "p0->d1"), ("master", "m0"), ("master", "m1"),
]  # fmt: skip


@st.composite
def some_faults(draw: st.DrawFn) -> tuple[FaultSpec, ...]:
    found = []
    for _ in range(draw(st.integers(1, 6))):
        kind, target = draw(st.sampled_from(TARGETS))
        at_s, repair_s = draw(st.floats(0.01, 3.0)), draw(st.floats(0.05, 2.0))
        found.append(FaultSpec(kind, target, at_s, repair_s, draw(st.sampled_from([0.0, 0.0, 0.3]))))  # type: ignore[arg-type]
    return tuple(found)


@settings(max_examples=25, deadline=None)
@given(
    faults=some_faults(), engine=st.sampled_from(["vllm", "sglang", "tensorrt-llm"]),
    reserve=st.sampled_from(["before_prefill", "before_transfer"]),
    first=st.sampled_from(["prefill", "transfer", "decode"]), local=st.sampled_from([0, 150]),
)  # fmt: skip
def test_nothing_is_lost_or_answered_twice(
    faults: tuple[FaultSpec, ...], engine: str, reserve: str, first: str, local: int
) -> None:
    work = poisson(30.0, 60, 500, 60)
    fleet = pools(engine, masters=MASTERS, faults=faults, local=local, reserve=reserve, first_token=first)
    served = serve_fleet(work, fleet, check=True, seed=3)
    assert len(served.number) == 60
    assert (served.finish_s >= served.first_token_s).all()
    assert (served.first_token_s > served.arrival_s).all()
    assert same(served, serve_fleet(work, fleet, seed=3))


def test_faults_by_chance_come_at_their_rate_and_are_repaired() -> None:
    rate = FaultRate("replica", ("r0", "r1"), 4.0, 1.0)
    fleet = Fleet(mixed(3), fault_rates=(rate,), heartbeat_s=0.1)
    served = serve_fleet(poisson(6.0, 600, 500, 60), fleet, check=False)
    seconds = float(served.finish_s.max())
    assert len(served.number) == 600
    assert len(served.outages) == pytest.approx(2 * seconds / 5.0, rel=0.4)
    assert served.down_s[:2].sum() / (2 * seconds) == pytest.approx(0.2, abs=0.08)
    assert served.down_s[2] == 0.0
    assert served.retries.sum() == sum(outage.lost_requests for outage in served.outages) > 0


def test_a_death_is_noticed_a_heartbeat_later() -> None:
    """Requests that were sent to a dead replica, and those that it held, wait for the notice and no longer."""
    work = Requests(np.array([0.0, 1.0]), np.array([400, 400]), np.array([500, 50]))
    fault = FaultSpec("replica", "r0", 0.5)
    fleet = Fleet(mixed(2), (MasterSpec("m", "round_robin"),), faults=(fault,), heartbeat_s=2.0)
    served = serve_fleet(work, fleet, check=True)
    assert served.retries.tolist() == [1, 0]
    assert served.front.tolist() == [1, 1]
    assert float(served.dispatched_s[0]) == pytest.approx(2.5)
    outage = served.outages[0]
    assert outage.lost_requests == 1
    assert 2.5 < outage.recovered_s < 2.6
    tokens = outage.lost_tokens - 400  # decoded by 0.5 s, one each 3 ms and a little
    assert 100 < tokens < 170


def test_answers_go_on_where_they_stopped() -> None:
    """A retry computes the prompt and the answer so far again, and emits only the rest."""
    work = Requests(np.zeros(1), np.array([400]), np.array([500]))
    fault = FaultSpec("replica", "r0", 0.5)
    served = serve_fleet(work, Fleet(mixed(2), faults=(fault,), heartbeat_s=0.2), check=True)
    whole = serve_fleet(work, Fleet(mixed(2)))
    assert float(served.first_token_s[0]) == float(whole.first_token_s[0])
    late = float(served.finish_s[0] - whole.finish_s[0])
    assert 0.2 < late < 0.3  # the notice and one recompute, not half a second of tokens again


def test_kv_that_is_still_parked_is_not_computed_again() -> None:
    """The decode replica dies while KV is on its way: the prompt's replica still has it."""
    work = Requests(np.zeros(1), np.array([400]), np.array([50]))
    slow = 400 * 70e3 / 0.5  # half a second on the line
    fleet = pools("vllm", nic=2 * slow, heartbeat_s=0.2, layerwise=False)
    quiet = serve_fleet(work, fleet)
    dead = replace(fleet, faults=(FaultSpec("replica", f"d{int(quiet.back[0]) - 2}", 0.3),))
    served = serve_fleet(work, dead, check=True)
    assert served.retries.tolist() == [0]
    assert float(served.prefilled_s[0]) == float(quiet.prefilled_s[0])
    assert int(served.back[0]) != int(quiet.back[0])
    assert float(served.moved_s[0]) > 0.5


def test_a_slower_line_and_a_slower_replica_take_longer_by_as_much() -> None:
    work = Requests(np.zeros(1), np.array([400]), np.array([200]))
    plain = serve_fleet(work, Fleet(mixed(1)))
    slow = serve_fleet(work, Fleet(mixed(1), faults=(FaultSpec("replica", "r0", 0.0, speed=0.5),)), check=True)
    assert float(slow.finish_s[0]) == pytest.approx(2 * float(plain.finish_s[0]), rel=1e-9)
    fleet = pools("vllm", nic=100e6, layerwise=False)
    before = serve_fleet(work, fleet)
    nic = replace(fleet, faults=(FaultSpec("nic", "p0", 0.001, speed=0.25), FaultSpec("nic", "p1", 0.001, speed=0.25)))
    after = serve_fleet(work, nic, check=True)
    wire = float(before.moved_s[0] - before.prefilled_s[0])
    # A third of the receiver's line before; a half of a quarter of the sender's now.
    assert float(after.moved_s[0] - after.prefilled_s[0]) == pytest.approx(wire * (1 / 3) / (0.25 / 2), rel=0.05)


def test_slower_nics_stretch_the_exchange_of_the_replica_too() -> None:
    work = Requests(np.zeros(1), np.array([400]), np.array([200]))
    fleet = pools("vllm", nic=50e9)
    shared = replace(fleet, replicas=tuple(replace(spec, exchange_share=0.4) for spec in fleet.replicas))
    decode = [spec.name for spec in fleet.replicas if spec.role == "decode"]
    spans = []
    for faults in ((), tuple(FaultSpec("nic", name, 0.0, speed=0.5) for name in decode)):
        served = serve_fleet(work, replace(shared, faults=faults), check=True)
        spans.append(float(served.finish_s[0] - served.moved_s[0]))
    assert spans[1] == pytest.approx(spans[0] * (0.6 + 0.4 / 0.5), rel=1e-6)
    # None left: the replica cannot step, and what it held goes on elsewhere.
    gone = replace(shared, faults=tuple(FaultSpec("nic", name, 0.1, 0.4) for name in decode))
    served = serve_fleet(work, gone, check=True)
    assert served.down_s[2:] == pytest.approx([0.4, 0.4])
    assert served.retries.tolist() == [1]


def test_a_masters_requests_are_taken_over() -> None:
    masters = tuple(MasterSpec(f"m{i}", dispatch_s=0.05) for i in range(2))
    work = Requests(np.zeros(20), np.full(20, 50), np.full(20, 5))
    fault = FaultSpec("master", "m0", 0.12)
    served = serve_fleet(work, Fleet(mixed(2), masters, faults=(fault,), heartbeat_s=0.4), check=True)
    assert len(served.number) == 20
    assert served.master_dispatched.tolist() == [2, 18]
    assert float(served.dispatched_s.max()) == pytest.approx(18 * 0.05, abs=0.06)


def test_work_that_nothing_will_ever_serve_stalls_with_a_name() -> None:
    fault = FaultSpec("replica", "r0", 0.1)
    with pytest.raises(StalledError, match="wait for ever"):
        serve_fleet(poisson(30.0, 20, 300, 60), Fleet(mixed(1), faults=(fault,)))


def test_a_slip_in_the_take_over_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a dead replica forgets one of those that it held."""
    take_over = fleet_faults.Faults._take_over

    def slip(self: fleet_faults.Faults, unit: fleet_faults.Unit) -> None:
        unit.stranded = unit.stranded[1:]
        take_over(self, unit)

    monkeypatch.setattr(fleet_faults.Faults, "_take_over", slip)
    fleet = Fleet(mixed(2), faults=(FaultSpec("replica", "r0", 0.5),), heartbeat_s=0.2)
    loop = closed_loop(6, input_tokens=300, output_tokens=200, prompts=20)
    with pytest.raises(StalledError, match="invariant F1"):
        serve_fleet(loop, fleet, check=True)


def test_faults_of_what_is_not_there_are_refused() -> None:
    with pytest.raises(ScenarioError, match="is not in the fleet"):
        Fleet(mixed(2), faults=(FaultSpec("node", "r0", 1.0),))
    with pytest.raises(ScenarioError, match="is not in the fleet"):
        pools(faults=(FaultSpec("link", "p0", 1.0),))
    with pytest.raises(ScenarioError, match="speed"):
        FaultSpec("nic", "p0", 1.0, speed=1.0)
