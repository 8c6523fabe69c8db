"""Plans from files: shipped ones, their errors, and the command."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simulator.cli import app
from simulator.errors import ShardsimError
from simulator.planning.designs import designs
from simulator.planning.question import trace_rate
from simulator.scenario.load import list_plans
from simulator.scenario.plan_resolve import load_plan, plan_schema_json, resolve_plan

SMALL = """
model: Qwen3-8B
objective: min_gpus
traffic: {requests_per_s: 8, input_tokens: 600, output_tokens: 80}
slo: {ttft: 500 ms, tpot: 40 ms, percentile: 90}
hardware:
  - {topology: dgx_h100, max_gpus: 4}
space: {modes: [aggregated], tp: [1, 2], pp: [1], max_sequences: [64]}
confirm: 2
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.mark.parametrize("name", list_plans())
def test_shipped_plans_ask_something(name: str) -> None:
    asked = resolve_plan(load_plan(name))
    assert asked.name == name
    assert len(asked.description) > 80
    good, _ = designs(asked)
    assert {design.platform for design in good} == set(range(len(asked.platforms)))


def test_the_five_promised_plans_ship() -> None:
    assert set(list_plans()) >= {
        "plan_llama70b_chat", "plan_deepseek_pd_352", "plan_qwen3_235b_b200", "plan_rag_long_context",
        "plan_cost_across_gpus",
    }  # fmt: skip


def test_the_published_units_are_among_the_352(small: Path) -> None:
    good, _ = designs(resolve_plan(load_plan("plan_deepseek_pd_352")))
    cuts = {(d.layout.tp, d.layout.dp_attention, d.layout.ep, d.layout.redundant_experts) for d in good}
    assert {(4, 8, 32, 0), (4, 80, 320, 64)} <= cuts


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("objective=fastest", "objective"),
        ("model=Qwen3-8Z", "model"),
        ("slo.ttft=5", "slo.ttft"),
        ("slo.percentile=20", "slo.percentile"),
        ("hardware[0].topology=dgx_h1000", "hardware[0]"),
        ("hardware[0].gpu=H100", "hardware[0]"),
        ("hardware[0].nic=400 Gbit/s", "hardware[0]"),
        ("traffic.input_tokens=9000000", "traffic.input_tokens"),
        ("traffic.requests_per_s=null", "requests_per_s"),
        ("traffic.rate=5", "traffic"),
        ("precisions=[fp7]", "precisions[0]"),
        ("engines=[tgi]", "engines[0]"),
    ],
)
def test_a_wrong_field_is_named_with_a_way_out(small: Path, setting: str, told: str) -> None:
    with pytest.raises(ShardsimError) as error:
        resolve_plan(load_plan(small, [setting]))
    assert told in str(error.value)
    assert "small.yaml" in str(error.value)


def test_cost_needs_a_price_and_the_user_has_the_last_word(small: Path) -> None:
    (known,) = resolve_plan(load_plan(small, ["objective=min_cost"])).platforms
    assert known.usd_per_gpu_hour == 1.78
    assert "2026-08-15" in known.price_source
    (own,) = resolve_plan(load_plan(small, ["hardware[0].usd_per_gpu_hour=0.5"])).platforms
    assert (own.usd_per_gpu_hour, own.price_source) == (0.5, "user")
    unknown = ["objective=min_cost", "hardware=[{gpu: V100, max_gpus: 8}]", "precisions=[bf16]"]
    with pytest.raises(ShardsimError, match="has no price"):
        resolve_plan(load_plan(small, unknown))


def test_a_trace_brings_its_rate_and_lengths(small: Path, tmp_path: Path) -> None:
    rows = [f"2024-05-10 00:00:{i:02d}.0000000,{300 + 7 * i},{20 + i}" for i in range(40)]
    trace = tmp_path / "trace.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows) + "\n")
    asked = resolve_plan(load_plan(small, ["traffic={trace: trace.csv}"])).traffic
    assert asked.trace is not None
    assert asked.requests_per_s == pytest.approx(trace_rate(asked.trace)) == pytest.approx(1.0)
    assert (asked.input_tokens, asked.output_tokens) == (300 + 7 * 39, 59)
    half = asked.requests(0.5, 1000)
    assert len(half) == 20
    assert trace_rate(half) == pytest.approx(0.5, rel=0.06)
    double = asked.requests(2.0, 1000)
    assert len(double) == 40
    assert trace_rate(double) == pytest.approx(2.0)


def test_the_command_writes_a_plan(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["plan", str(small), "--out", str(out), "--workers", "1"])
    assert done.exit_code == 0, done.output
    assert "hold 8 requests/s" in done.output
    written = json.loads((out / "plan.json").read_text())
    assert written["winner"]["status"] == "confirmed"
    assert written["asked"]["slo"] == {"ttft_s": 0.5, "tpot_s": 0.04, "e2el_s": None, "percentile": 90.0}


def test_an_impossible_plan_exits_3_and_names_what_binds(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["plan", str(small), "--out", str(out), "--workers", "1", "--json", "--set", "slo.tpot=1 ms"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 3, done.output
    told = json.loads(done.output)
    assert told["winner"] is None
    assert told["binding"] == "tpot"
    assert any("TPOT" in line for line in told["relax"])


def test_a_scenario_is_not_a_plan() -> None:
    with pytest.raises(ShardsimError, match=r"objective|not a plan"):
        load_plan("single_node_tp")


def test_the_schema_names_every_field() -> None:
    schema = plan_schema_json()
    assert {"model", "objective", "traffic", "slo", "hardware", "space"} <= set(schema["properties"])
