"""What a plan's file and the command line can ask for, end to end on small questions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from simulator.cli import app
from simulator.commands import plan as plan_module
from simulator.planning.designs import designs
from simulator.planning.pareto import undominated
from simulator.planning.validated import TABLES, from_report, validated
from simulator.scenario.plan_resolve import load_plan, resolve_plan

SMALL = """
model: Qwen3-8B
objective: max_load
traffic: {input_tokens: 600, output_tokens: 80}
slo: {ttft: 500 ms, tpot: 40 ms, percentile: 90}
hardware:
  - {topology: dgx_h100, max_gpus: 4}
precisions: [bf16, fp8]
space: {modes: [aggregated], tp: [1, 2], pp: [1], max_sequences: [16, 64]}
confirm: 3
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def answered(path: Path, *settings: str, status: int = 0) -> dict[str, Any]:
    words = ["plan", str(path), "--out", str(path.parent / "out"), "--force", "--workers", "1", "--json"]
    done = CliRunner().invoke(app, [*words, *(word for s in settings for word in ("--set", s))])
    assert done.exit_code == status, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_objective_chooses_the_best_of_what_it_simulated(small: Path) -> None:
    rate, few = "traffic.requests_per_s=60", ("precisions=[fp8]", "space.max_sequences=[32]", "confirm=2")
    goals: dict[str, Callable[[dict[str, float]], float]] = {
        "min_gpus": lambda s: s["gpus"], "min_cost": lambda s: s["usd_per_million_tokens"],
        "max_load": lambda s: -s["load_requests_per_s"],
    }  # fmt: skip
    for objective, better in goals.items():
        told = answered(small, *few, f"objective={objective}", *([rate] if objective.startswith("min") else []))
        fleets = [e["score"] for e in told["evaluations"] if e["score"] and e["score"]["method"] == "fleet"]
        assert told["winner"]["score"]["method"] == "fleet"
        assert better(told["winner"]["score"]) == min(better(score) for score in fleets)
        if objective.startswith("min"):
            assert told["winner"]["score"]["load_requests_per_s"] >= 60.0


def test_the_fronts_hold_what_nothing_beats(small: Path) -> None:
    told = answered(small, "objective=pareto", "space.max_sequences=[8, 64]", "precisions=[fp8]")
    fleets = [e["score"] for e in told["evaluations"] if e["score"] and e["score"]["method"] == "fleet"]
    per_gpu = [score["load_requests_per_s"] / score["gpus"] for score in fleets]
    assert told["winner"]["score"]["load_requests_per_s"] / told["winner"]["score"]["gpus"] == max(per_gpu)
    confirmed = {e["candidate"]["id"]: e["score"] for e in told["evaluations"] if e["status"] == "confirmed"}
    assert {(front["x"], front["y"]) for front in told["pareto"]} == {
        ("tokens_per_s_per_user", "output_tokens_per_s_per_gpu"), ("e2el_s", "usd_per_million_tokens")
    }  # fmt: skip
    for front in told["pareto"]:
        signs = [-1 if front[up] else 1 for up in ("x_up", "y_up")]
        points = [(signs[0] * s[front["x"]], signs[1] * s[front["y"]], name) for name, s in confirmed.items()]
        assert set(front["ids"]) == set(undominated(points))
        assert 1 <= len(front["ids"]) <= len(points)


def test_neighbours_say_what_binds_where_time_goes_and_what_moves_them(small: Path) -> None:
    told = answered(small, "objective=min_gpus", "traffic.requests_per_s=60")
    first, *others = told["explanations"]
    assert others
    for each in others:
        held = next(e for e in told["evaluations"] if e["candidate"]["id"] == each["candidate_id"])
        if held["status"] in ("confirmed", "scored"):
            assert {item["phase"] for item in each["budget"]} == {"prefill", "decode"}
            names = {change["name"] for change in each["sensitivity"]}
            assert names == {"10 % more traffic", "20 % longer prompts", "one node lost (N+1)"}
    assert first["budget"]
    assert len(told["sensitivity"]) > 6


def test_reasons_are_short(small: Path) -> None:
    settings = ("model=Llama-3.1-405B", "space.tp=[1, 3, 4]", "precisions=[bf16]")
    told = answered(small, *settings, status=3)
    assert told["binding"] == "kv_memory"
    reasons = {e["reason"] for e in told["evaluations"]}
    assert any("none is left for KV" in reason for reason in reasons)
    assert any("must divide" in reason for reason in reasons)
    assert max(map(len, reasons)) < 100, sorted(reasons, key=len)[-1]


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (("space.tp=[]", "space.tp_across_nodes=true", "hardware[0].max_gpus=16"), "tp=16"),
        (("space.cp=[1, 2]", "engines=[tensorrt-llm]"), "cp=2"),
        (("space.tp=[]", "hardware[0].max_gpus=16"), "tp=8"),
    ],
)
def test_wider_groups_and_context_parallelism_are_searched_where_asked(
    small: Path, settings: tuple[str, ...], word: str
) -> None:
    asked = resolve_plan(load_plan(small, list(settings)))
    good, _ = designs(asked)
    labels = [design.label(asked) for design in good]
    assert any(word in label for label in labels)
    assert ("tp=16" in " ".join(labels)) == (word == "tp=16")


def test_an_engine_without_context_parallelism_says_so(small: Path) -> None:
    good, bad = designs(resolve_plan(load_plan(small, ["space.cp=[1, 2]"])))
    assert all(design.layout.cp == 1 for design in good)
    assert {refused.reason for refused in bad if refused.design.layout.cp == 2} == {
        "vllm is not started with context parallelism"
    }


def test_context_parallel_tensorrt_is_priced(small: Path) -> None:
    settings = ("space.cp=[2]", "space.tp=[1]", "engines=[tensorrt-llm]", "precisions=[bf16]")
    assert answered(small, *settings)["winner"]["candidate"]["pools"][0]["layout"]["cp"] == 2


def test_shared_prompts_drafts_and_overlap_are_asked_in_the_file(small: Path, tmp_path: Path) -> None:
    one = ("precisions=[fp8]", "space.tp=[1]", "space.max_sequences=[64]")
    load = {}
    for name, settings in {
        "plain": (), "cached": ("traffic.cached_share=0.6",),
        "drafted": ("speculation={tokens: 2, acceptance: 0.8}",),
    }.items():  # fmt: skip
        told = answered(small, *one, *settings)
        load[name] = told["winner"]["score"]["load_requests_per_s"]
        if name == "cached":
            assert told["asked"]["shared_tokens"] == 256
            assert "--random-prefix-len 256" in (tmp_path / "out" / "launch" / "benchmark.sh").read_text()
    assert load["cached"] > 1.05 * load["plain"]
    assert load["drafted"] != load["plain"]
    moe = ("model=Qwen3-30B-A3B", "precisions=[fp8]", "space.tp=[1]", "space.dp_attention=[4]", "space.ep=[4]")
    whole, halves = (answered(small, *moe, f"two_batch_overlap={on}") for on in ("false", "true"))
    assert whole["winner"]["score"]["ttft_s"] != halves["winner"]["score"]["ttft_s"]


def test_the_schema_of_plans_is_printed() -> None:
    done = CliRunner().invoke(app, ["schema", "--plan"])
    assert done.exit_code == 0
    assert {"objective", "slo", "speculation"} <= set(json.loads(done.stdout)["properties"])
    assert CliRunner().invoke(app, ["schema", "--plan", "--topology"]).exit_code == 2


def test_an_interrupted_sweep_tells_what_its_journal_keeps(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(plan_module, "plan", stopped)
    words = ["plan", str(small), "--workers", "1", "--out", str(small.parent / "out")]
    plain = CliRunner().invoke(app, words)
    kept = CliRunner().invoke(app, [*words, "--journal", str(small.parent / "journal")])
    assert (plain.exit_code, kept.exit_code) == (130, 130)
    assert "nothing was written" in plain.stderr
    assert "nothing was written" not in kept.stderr
    assert "journal" in kept.stderr


def test_a_comparison_can_be_a_page(small: Path, tmp_path: Path) -> None:
    answered(small, "precisions=[fp8]", "space.tp=[1]")
    measured = tmp_path / "measured.json"
    measured.write_text(json.dumps({"request_throughput": 51.0, "p90_ttft_ms": 180.0, "model_id": "<b>Qwen3-8B</b>"}))
    page = tmp_path / "page.html"
    done = CliRunner().invoke(app, ["compare", str(measured), str(tmp_path / "out"), "--html", str(page)])
    assert done.exit_code == 0, done.output
    text = page.read_text()
    assert "p90_ttft_ms" in text
    assert "as expected" in text
    assert "<b>Qwen3" not in text
    refused = CliRunner().invoke(
        app, ["compare", str(measured), str(tmp_path / "out"), "--html", str(tmp_path / "no/x")]
    )
    assert refused.exit_code == 2


def test_errors_of_validation_come_from_its_report() -> None:
    lines = [("all", "p90_ttft_s", 0.31234), ("H100", "p90_ttft_s", 0.9), ("all", "mean_e2el_s", None)]
    groups = [{"group": g, "outcome": o, "median_ape": e} for g, o, e in lines]
    before = {"families": {"one pool": {"rows": 3}}}
    found = from_report({"tables": [{"table": "serving_pd", "rows": 7, "groups": groups}]}, "2026-01-02", before)
    assert found["date"] == "2026-01-02"
    assert found["families"]["pools apart"] == {"table": "serving_pd", "rows": 7, "p90_ttft_s": 0.312}
    assert found["families"]["one pool"] == {"rows": 3}


def test_every_family_has_errors_at_every_percentile(small: Path) -> None:
    for percentile in (50, 90, 99):
        asked = resolve_plan(load_plan(small, [f"slo.percentile={percentile}"]))
        for separated in (False, True):
            known = validated(asked, separated=separated)
            assert all(0.01 < error < 1.0 for error in (known.ttft, known.tpot, known.e2el, known.throughput))
            assert any(table in known.source for table in TABLES)


def test_a_trace_of_blocks_brings_its_share_of_cached_tokens_and_is_what_the_benchmark_sends(
    small: Path, tmp_path: Path
) -> None:
    rows = [
        {
            "timestamp": 90 * i,
            "input_length": 1400 + i,
            "output_length": 30 + i % 9,
            "hash_ids": [i % 3, 50 + i, 900 + i],
        }
        for i in range(120)
    ]
    (tmp_path / "trace.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    settings = ["traffic={trace: trace.jsonl, trace_format: mooncake, requests_per_s: 22.4}", "objective=min_gpus"]
    asked = resolve_plan(load_plan(small, settings)).traffic
    assert asked.cached_share == pytest.approx(512 * 117 / sum(1400 + i for i in range(120)))
    assert asked.block_tokens == 512
    told = answered(small, *settings, "precisions=[fp8]", "space.max_sequences=[64]", "confirm=2")
    assert told["asked"]["trace_speed"] == pytest.approx(22.4 * 0.09, rel=1e-3)
    sent = (tmp_path / "out" / "launch" / "benchmark.sh").read_text()
    assert "--dataset-path trace.jsonl" in sent
    assert "--timed-trace-sec-multiplier 0.000496" in sent
