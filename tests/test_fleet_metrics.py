"""Frames of a fleet's run against sums over its requests."""

import numpy as np
import pytest
from fleet_cases import mixed, poisson, pools

from simulator.engine.fleet import serve_fleet
from simulator.engine.fleet_spec import FaultSpec, Fleet, MasterSpec
from simulator.metrics.fleet import (
    availability,
    master_frame,
    outage_frame,
    recomputed_share,
    replica_frame,
    waiting_at,
)
from simulator.metrics.serving import running_at


def test_tokens_and_requests_are_counted_once() -> None:
    work = poisson(20.0, 80, 600, 80)
    fleet = pools("vllm", local=150, masters=(MasterSpec("m0", dispatch_s=4e-3), MasterSpec("m1", dispatch_s=4e-3)))
    served = serve_fleet(work, fleet)
    frame = replica_frame(served, fleet)
    assert int(frame.prompts.sum()) == 80
    assert int(frame.prompt_tokens.sum()) == int(work.input_tokens.sum())
    assert int(frame.answer_tokens.sum()) == int(work.output_tokens.sum())
    assert frame.busy.between(0, 1).all()
    masters = master_frame(served, fleet)
    assert masters.dispatched.tolist() == [40, 40]
    assert (masters.mean_wait_s >= 4e-3).all()


def test_who_waits_where_adds_up() -> None:
    served = serve_fleet(poisson(30.0, 80, 600, 80), pools("vllm"))
    times = np.linspace(0.1, 3.0, 17)
    parts = waiting_at(served, times)
    assert np.array_equal(sum(parts.values()), running_at(served, times.tolist()))
    assert all((part >= 0).all() for part in parts.values())
    assert max(parts["moving"]) > 0


def test_availability_and_lost_work() -> None:
    fault = FaultSpec("replica", "r0", 1.0, 2.0)
    fleet = Fleet(mixed(2), faults=(fault,), heartbeat_s=0.2)
    served = serve_fleet(poisson(20.0, 120, 600, 150), fleet)
    seconds = float(served.finish_s.max())
    assert availability(served, fleet) == pytest.approx(1 - 2.0 / (2 * seconds))
    frame = outage_frame(served)
    assert frame.end_s.tolist() == [3.0]
    assert int(frame.lost_requests[0]) == int(served.retries.sum()) > 0
    assert 0.2 < float(frame.recovery_s[0]) < 2.0
    assert 0.0 < recomputed_share(served) < 0.5
