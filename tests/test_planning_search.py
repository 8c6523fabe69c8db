"""Whole small searches: against exhaustive ones, with tighter limits, more GPUs, and any number of workers."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import DataError
from simulator.planning import search, sizing
from simulator.planning.execute import InProcess, Processes
from simulator.planning.plan import plan
from simulator.planning.question import Question
from simulator.planning.result_json import result_from_json, result_to_json
from tests.planning_questions import SPACE, question

HERE = InProcess()
APART = replace(SPACE, modes=("aggregated", "separated"), pp=(1,))


SIX = replace(SPACE, tp=(1, 2, 4))


def best(asked: Question) -> float:
    return best_of(asked, search.find(asked, HERE))


def best_of(asked: Question, found: search.Found) -> float:
    """What the objective minimises, of the winner."""
    assert found.winner is not None
    assert found.winner.evaluation.score is not None
    return sizing.rank(asked, found.winner.evaluation.score)[0]


@given(st.sampled_from([("max_load", None), ("min_gpus", 31.0), ("min_cost", 9.0)]), st.floats(0.012, 0.05))
@settings(max_examples=3, deadline=None)
def test_the_winner_is_never_beaten_by_an_exhaustive_search(goal: tuple[str, float | None], tpot_s: float) -> None:
    objective, rate = goal
    asked = question(objective=objective, rate=rate, tpot_s=tpot_s, space=SIX)
    found = search.find(replace(asked, confirm=2), HERE)
    everything = search.find(replace(asked, confirm=1000), HERE)
    assert not any(e.status == "scored" for e in everything.evaluations)
    assert found.unproven == 0
    assert best_of(asked, found) == pytest.approx(best_of(asked, everything))


def test_bounds_that_promise_too_little_are_caught_by_the_exhaustive_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle above can fail: begun at the wrong end, with no candidate hopeful, the search stops too soon."""
    asked = question(tpot_s=0.05, space=SIX)
    exhaustive, confirm = best(replace(asked, confirm=1000)), search._confirm
    monkeypatch.setattr(
        search, "_confirm", lambda q, executor, order, points: confirm(q, executor, order[::-1], points)
    )
    assert best(replace(asked, confirm=2)) == pytest.approx(exhaustive)  # good bounds make up for a bad order
    monkeypatch.setattr(search, "promises", lambda *_: False)
    assert best(replace(asked, confirm=1)) > exhaustive * 0.98  # loads are told as negative: this one is lower


def test_tighter_limits_never_need_fewer_gpus() -> None:
    needed = []
    for tpot_s in (0.05, 0.02, 0.012, 0.008):
        result = search.find(question(objective="min_gpus", rate=20.0, gpus=64, tpot_s=tpot_s), HERE)
        needed.append(result.winner.evaluation.candidate.gpus if result.winner else 10_000)
    assert needed == sorted(needed)
    assert needed[0] < needed[-1]


def test_more_gpus_never_hold_less() -> None:
    loads = [-best(question(gpus=gpus)) for gpus in (1, 2, 3, 8)]
    assert loads == sorted(loads)
    assert loads[0] < loads[-1]


def test_one_and_two_workers_give_the_same_plan() -> None:
    asked = question(objective="min_gpus", rate=14.0, space=APART)
    with Processes(2) as two:
        assert plan(asked, HERE) == plan(asked, two)


def test_a_plan_is_complete_and_comes_back_from_json() -> None:
    result = plan(question(objective="min_gpus", rate=14.0, space=APART), HERE)
    assert result.winner is not None
    assert result.winner.score is not None
    assert result.winner.score.load_requests_per_s >= 14.0
    assert result.winner.score.ttft_s is not None
    assert 0.0 < result.winner.score.ttft_s <= 0.7
    assert result.explanations[0].candidate_id == result.winner.candidate.id
    decode = [item for item in result.explanations[0].budget if item.phase == "decode"]
    assert sum(item.share for item in decode) == pytest.approx(1.0)
    assert {"10 % more traffic", "twice the NIC", "20 % longer prompts"} <= {s.name for s in result.sensitivity}
    assert result.confidence is not None
    assert sum(share for _, share in result.confidence.provenance) == pytest.approx(1.0)
    text = json.dumps(result_to_json(result), allow_nan=False)
    assert result_from_json(json.loads(text)) == result
    wrong = json.loads(text)
    wrong["winner"]["score"]["gpus"] = "many"
    with pytest.raises(DataError, match=r"winner\.score\.gpus"):
        result_from_json(wrong)


@pytest.mark.parametrize(
    ("asked", "binding", "advice"),
    [
        (question(tpot_s=0.001), "tpot", "TPOT limit"),
        (question(ttft_s=0.005), "ttft", "TTFT limit"),
        (question(objective="min_gpus", rate=5000.0), "gpu_count", "more GPUs"),
        (question(model="Llama-3.1-405B", gpus=4), "kv_memory", "more GPUs a replica"),
    ],
)
def test_what_cannot_be_says_what_binds_and_what_to_relax(asked: Question, binding: str, advice: str) -> None:
    result = plan(asked, HERE)
    assert result.winner is None
    assert not result.feasible
    assert result.binding == binding
    assert any(advice in line for line in result.relax), result.relax
    assert all(e.reason for e in result.evaluations)
