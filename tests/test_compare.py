"""`shardsim compare`: the same words on both sides, ratios of what both have, one clear line where nothing is."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_case import make_infeasible, make_plan
from typer.testing import CliRunner

from simulator.cli import app
from simulator.errors import DataError, OutputError
from simulator.metrics.compare import UNITS, Side, from_benchmark, remarks, rows
from simulator.planning.result_json import result_to_json
from simulator.report.compare import beside, comparison_json, comparison_lines, read_sides

MEASURED = {
    "backend": "vllm", "model_id": "meta-llama/Llama-3.1-70B-Instruct", "num_prompts": 7200, "request_rate": 24.0,
    "burstiness": 1.0, "max_concurrency": None, "duration": 301.2, "completed": 7200, "total_input_tokens": 7_920_000,
    "total_output_tokens": 2_304_000, "request_throughput": 23.7, "request_goodput:": 22.1, "output_throughput": 7584.0,
    "total_token_throughput": 33654.0, "mean_ttft_ms": 213.5, "median_ttft_ms": 187.1, "p95_ttft_ms": 471.0,
    "mean_tpot_ms": 22.4, "median_tpot_ms": 21.9, "p95_tpot_ms": 38.5, "input_lens": [3, 4], "errors": ["", ""],
}  # fmt: skip
SGLANG = {
    "backend": "sglang", "dataset_name": "random", "request_rate": "inf", "max_concurrency": 64, "completed": 640,
    "total_input_tokens": 590_080, "total_output_tokens": 589_440, "request_throughput": 4.1,
    "input_throughput": 3775.0, "output_throughput": 3771.0, "mean_e2e_latency_ms": 15231.0,
    "p99_e2e_latency_ms": 16702.5, "mean_ttft_ms": 341.0,
    "p50_itl_ms": 15.2, "concurrency": 62.4, "accept_length": None,
}  # fmt: skip


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_a_measured_result_beside_its_plan(tmp_path: Path) -> None:
    plan = make_plan()
    (tmp_path / "plan").mkdir()
    write(tmp_path / "plan" / "plan.json", result_to_json(plan))
    result = write(tmp_path / "plan" / "measured.json", MEASURED)
    sides = (*read_sides(result), *read_sides(beside(result)))
    assert [side.kind for side in sides] == ["measured", "predicted"]
    found = {row.name: row for row in rows(sides)}
    assert plan.winner is not None
    assert plan.winner.score is not None
    assert plan.winner.score.ttft_s is not None
    assert found["p95_ttft_ms"].ratios[1] == pytest.approx(1e3 * plan.winner.score.ttft_s / 471.0)
    assert found["p95_ttft_ms"].inside is True, "between 330 and 530"
    assert found["p95_tpot_ms"].inside is False, "above 32.4"
    assert found["output_throughput"].inside is None
    assert "mean_ttft_ms" not in found, "the plan has none"
    assert remarks(sides) == (), "the benchmark sent what was planned"
    text = "\n".join(comparison_lines(sides))
    assert "as expected" in text
    assert (
        json.loads(json.dumps(comparison_json(sides), allow_nan=False))["figures"]["p95_tpot_ms"]["as_expected"]
        is False
    )


def test_other_traffic_and_another_model_are_remarked_on() -> None:
    first = from_benchmark(MEASURED, "one")
    other = {**MEASURED, "request_rate": 20.0, "total_output_tokens": 2_000_000, "model_id": "Qwen/Qwen3-32B"}
    said = " ".join(remarks((first, from_benchmark(other, "two"))))
    for part in ("request_rate: 24", "tokens out a request: 320", "model: meta-llama"):
        assert part in said
    assert "tokens in" not in said
    slightly = from_benchmark({**MEASURED, "request_rate": 24.5, "model_id": "/models/Llama-3.1-70B-Instruct"}, "three")
    assert remarks((first, slightly)) == ()
    closed = from_benchmark({**MEASURED, "request_rate": "inf"}, "four")
    assert len(remarks((first, closed))) == 1, "a rate and none at all"


def test_sglang_speaks_the_same_words(tmp_path: Path) -> None:
    path = tmp_path / "online.jsonl"
    path.write_text(json.dumps({**SGLANG, "mean_ttft_ms": 9.0}) + "\n" + json.dumps(SGLANG) + "\n")
    (side,) = read_sides(path)
    assert side.figures["mean_e2el_ms"] == 15231.0
    assert side.figures["p99_e2el_ms"] == 16702.5
    assert side.figures["median_itl_ms"] == 15.2
    assert side.figures["mean_ttft_ms"] == 341.0, "the last line is the last run"
    assert side.figures["total_token_throughput"] == 7546.0
    assert side.traffic["tokens out a request"] == 921.0
    assert math.isinf(side.traffic["request_rate"])


def test_other_percentiles_are_kept() -> None:
    sides = (from_benchmark({"p99.9_ttft_ms": 5.0}, "a"), from_benchmark({"p99.9_ttft_ms": 8.0}, "b"))
    assert [(row.name, row.ratios[1]) for row in rows(sides)] == [("p99.9_ttft_ms", 1.6)]


FIGURES = st.dictionaries(st.sampled_from(sorted(UNITS)), st.floats(1e-3, 1e6), min_size=1)


@given(FIGURES, FIGURES)
def test_a_ratio_is_of_what_both_have(a: dict[str, float], b: dict[str, float]) -> None:
    sides = Side("a", "predicted", a), Side("b", "predicted", b)
    shared = [name for name in UNITS if name in a and name in b]
    if not shared:
        with pytest.raises(DataError, match="no figure in common"):
            rows(sides)
        return
    for row, back, name in zip(rows(sides), rows(sides[::-1]), shared, strict=True):
        assert row.name == name
        assert row.ratios[1] == pytest.approx(b[name] / a[name])
        assert (row.ratios[1] or 0) * (back.ratios[1] or 0) == pytest.approx(1.0)
    assert all(row.ratios[1] == 1.0 for row in rows((sides[0], replace(sides[0], name="again"))))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "neither JSON nor JSON lines"),
        ("", "neither JSON nor JSON lines"),
        ("[1, 2]", "must hold an object"),
        ('{"a": 1}', "holds no figure"),
        ('{"mean_ttft_ms": "fast"}', "holds no figure"),
        ('{"format": "shardsim plan 999"}', "must be 'shardsim plan 1'"),
        ('{"shardsim": "0.1.0", "plan": "x"}', "plan.json beside it"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_status_2(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(content)
    good = write(tmp_path / "good.json", MEASURED)
    answer = CliRunner().invoke(app, ["compare", str(path), str(good)])
    assert answer.exit_code == 2
    assert said in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_nothing_to_compare_with(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    result = write(tmp_path / "sub" / "measured.json", MEASURED)
    answer = CliRunner().invoke(app, ["compare", str(result)])
    assert answer.exit_code == 2
    assert "name the prediction" in answer.stderr
    with pytest.raises(OutputError, match="cannot be read"):
        read_sides(tmp_path / "none.json")
    with pytest.raises(OutputError, match="holds neither"):
        read_sides(tmp_path)
    write(tmp_path / "plan.json", result_to_json(make_infeasible()))
    with pytest.raises(DataError, match="found nothing"):
        read_sides(tmp_path)


def test_two_scenarios_are_simulated_and_compared() -> None:
    sets = ["--set", "numbers=off", "--set", "workload.sequences=3", "--set", "workload.decode_steps=1"]
    answer = CliRunner().invoke(app, ["compare", "single_node_tp", "single_node_tp", *sets, "--json"])
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)
    assert {side["kind"] for side in found["sides"]} == {"predicted"}
    assert found["figures"]["decode_s"]["ratios"] == [1.0, 1.0]
    assert found["figures"]["decode_s"]["values"][0] > 0
