"""What a question asks of decoding reaches the servers that are to be started; plans price what engines run."""

from dataclasses import replace

import pytest
from planning_questions import question

from simulator.cost.table import Speculation
from simulator.model.catalogue import find_model
from simulator.parallel.layout import Layout
from simulator.planning.designs import Design, setup_of
from simulator.planning.launch import DRAFT_MODEL
from simulator.planning.launch_plan import pool_launch
from simulator.planning.plan import asked
from simulator.planning.result import PoolPlan


def pool(role: str, ep: int = 1) -> PoolPlan:
    layout = Layout(dp_attention=ep, ep=ep)
    return PoolPlan(role, "H200-SXM", "h", layout, "checkpoint", "checkpoint", "vllm", 64, 4096, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("own", [True, False])
def test_drafted_tokens_reach_decode_servers_alone(own: bool) -> None:
    plain = question()
    share = 1.0 / len(plain.model.layers) if own else 0.2
    told = asked(replace(plain, speculation=Speculation(3, 0.7, share)))
    for role, tokens in (("mixed", 3), ("decode", 3), ("prefill", 0)):
        launch = pool_launch(pool(role), told, "vllm")
        assert launch.drafted_tokens == tokens
        assert launch.draft_model == ("" if own else DRAFT_MODEL)
    assert pool_launch(pool("decode"), asked(plain), "vllm").drafted_tokens == 0


def test_overlap_is_asked_for_where_experts_are_exchanged() -> None:
    told = asked(replace(question(), two_batch_overlap=True))
    assert pool_launch(pool("mixed", ep=8), told, "vllm").two_batch_overlap
    assert not pool_launch(pool("mixed"), told, "vllm").two_batch_overlap
    assert not pool_launch(pool("mixed", ep=8), asked(question()), "vllm").two_batch_overlap


def test_plans_carry_tokens_to_experts_as_engines_do() -> None:
    moe = replace(question(), model=find_model("deepseek-ai/DeepSeek-R1"))
    layout = Layout(dp_attention=8, ep=8)
    found = {
        engine: setup_of(moe, Design(0, layout, "checkpoint", "", engine)).layout.moe_dispatch
        for engine in ("tensorrt-llm", "vllm")
    }
    assert found == {"tensorrt-llm": "all_gather", "vllm": "auto"}
