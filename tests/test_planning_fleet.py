"""Candidates as whole fleets: what replicas alone do not show, and sizes that just hold."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from planning_questions import SPACE, question

from simulator.cost.table import Speculation
from simulator.engine.fleet import FleetServed, serve_fleet
from simulator.engine.fleet_spec import Fleet
from simulator.planning import fleet as fleets
from simulator.planning import search
from simulator.planning.assess import Assessed, assess
from simulator.planning.designs import designs
from simulator.planning.execute import InProcess
from simulator.planning.fleet import FleetRuns, FleetTask, on_fleet
from simulator.planning.handover import line_bytes_per_s
from simulator.planning.plan import plan
from simulator.planning.question import Question
from simulator.planning.result import Role
from simulator.planning.simulate import Replays, Task, replay_table
from simulator.workload import Requests

ONE = replace(SPACE, tp=(1,), pp=(1,))
APART = replace(ONE, modes=("separated",))


@lru_cache(maxsize=8)
def parts(asked: Question, *roles: Role) -> tuple[Assessed, ...]:
    (design,), _ = designs(asked)
    found = {a.role: a for a in assess((asked, (design,)))}
    return tuple(found[role] for role in roles)


def test_one_replica_as_a_fleet_is_the_replica_alone() -> None:
    asked = question(space=ONE)
    (part,) = parts(asked, "mixed")
    assert part.curve is not None
    load = 0.8 * part.curve.held
    alone = Replays(asked, part, replay_table(Task(asked, (part,)))).run(load, 300)
    fleet = FleetRuns(asked, (part,)).run((1,), load, 300)
    for one, other in zip(alone[1:], fleet[1:], strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_fewest_replicas_that_hold_what_is_asked() -> None:
    asked = question(objective="min_gpus", rate=120.0, gpus=64, space=ONE)
    mine = parts(asked, "mixed")
    few = on_fleet(FleetTask(asked, mine, (3,), 120.0))
    many = on_fleet(FleetTask(asked, mine, (14,), 120.0))
    assert few.counts == many.counts, "found from both sides"
    assert few.most >= 120.0
    runs = FleetRuns(asked, mine)
    fewer = runs.point((few.counts[0] - 1,), 120.0, 2000, 900)
    assert not fewer.holds
    assert all(point.counts == few.counts for point in few.points)


def test_more_than_there_is_holds_nothing() -> None:
    asked = question(objective="min_gpus", rate=400.0, gpus=4, space=ONE)
    found = on_fleet(FleetTask(asked, parts(asked, "mixed"), (4,), 400.0))
    assert found.most == 0.0
    assert "does not hold" in found.reason


def test_transfers_that_meet_cost_load_that_replicas_alone_do_not_show() -> None:
    """Alone, each prompt's KV has the line for itself; on a slow network they queue for it."""
    asked = question(space=APART, ttft_s=1.2)
    fast, slow = (
        on_fleet(FleetTask(_with_nic(asked, nic), parts(asked, "prefill", "decode"), (3, 3), 60.0))
        for nic in (50e9, 0.35e9)
    )
    assert slow.most < 0.8 * fast.most
    assert fast.most > 30.0


def _with_nic(asked: Question, nic_bytes_per_s: float) -> Question:
    (platform,) = asked.platforms
    device = replace(platform.device, nic_bytes_per_s=nic_bytes_per_s)
    return replace(asked, platforms=(replace(platform, device=device, max_gpus=16),), max_gpus=16)


def test_pools_in_one_scale_up_domain_hand_over_by_its_links() -> None:
    (near,) = question(gpus=8).platforms
    (far,) = question(gpus=16).platforms
    assert line_bytes_per_s(near) == near.device.nvlink_bytes_per_s
    assert line_bytes_per_s(far) == far.device.nic_bytes_per_s


def test_the_winner_ran_as_a_fleet_and_a_router_that_looks_is_no_worse() -> None:
    asked = question(objective="min_gpus", rate=60.0, gpus=16, space=replace(SPACE, pp=(1,)))
    blind = search.find(replace(asked, router="round_robin"), InProcess())
    looking = search.find(replace(asked, router="least_loaded"), InProcess())
    for found in (blind, looking):
        assert found.winner is not None
        assert found.winner.evaluation.score is not None
        assert found.winner.evaluation.score.method == "fleet"
        assert found.winner.evaluation.candidate.id in found.fleets
    assert looking.winner is not None
    assert blind.winner is not None
    assert looking.winner.evaluation.candidate.gpus <= blind.winner.evaluation.candidate.gpus


def test_a_fleet_that_falls_short_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: masters that take 0.1 s for each request. Replicas alone do not see them, the fleet does."""
    asked = question(objective="min_gpus", rate=30.0, gpus=8, space=ONE)
    before = search.find(asked, InProcess())
    assert before.winner is not None
    monkeypatch.setattr(fleets, "serve_fleet", _slowly)
    after = search.find(asked, InProcess())
    assert after.winner is None
    assert any(e.status == "misses" and e.reason.startswith("as a fleet") for e in after.evaluations)


def _slowly(requests: Requests, fleet: Fleet, *, log: bool) -> FleetServed:
    masters = tuple(replace(master, dispatch_s=0.1) for master in fleet.masters)
    return serve_fleet(requests, replace(fleet, masters=masters), log=log)


def held(asked: Question) -> float:
    winner = search.find(asked, InProcess()).winner
    return winner.evaluation.score.load_requests_per_s if winner and winner.evaluation.score else 0.0


def test_prompts_in_common_and_accepted_drafts_hold_more() -> None:
    asked = question(space=ONE, lengths=(2000, 150), ttft_s=1.0)
    plain = held(asked)
    assert held(replace(asked, traffic=replace(asked.traffic, cached_share=0.5))) > 1.15 * plain
    assert held(replace(asked, speculation=Speculation(2, 0.8, 0.03), slo=replace(asked.slo, tpot_s=0.015))) > held(
        replace(asked, slo=replace(asked.slo, tpot_s=0.015))
    )


def test_the_same_plan_twice_is_the_same() -> None:
    asked = question(objective="min_gpus", rate=14.0, space=APART)
    assert plan(asked, InProcess()) == plan(asked, InProcess())
