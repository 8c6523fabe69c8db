"""The page about a plan and the files beside it: what is said is the plan's, nothing of a user's text is markup."""

import base64
import csv
import gzip
import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from plan_case import make_infeasible, make_plan
from ruamel.yaml import YAML

from simulator.errors import OutputError
from simulator.parallel.layout import Layout
from simulator.planning.launch_plan import material, planned_traffic, pool_launch
from simulator.planning.result import PlanResult, Score
from simulator.planning.result_json import result_from_json
from simulator.report.plan.answer import headline, verdicts
from simulator.report.plan.curves import cost_curves, load_curves
from simulator.report.plan.fronts import fronts
from simulator.report.plan.heat import heat_maps
from simulator.report.plan.page import plan_page
from simulator.report.plan.why import budget, tornado
from simulator.report.plan.words import AXES, BINDING, STATUS
from simulator.report.plan.write import write_plan

PLAN = make_plan()


def packed(page: str, name: str) -> Any:
    found = re.search(f'id="{name}">([^<]*)<', page)
    assert found is not None
    return json.loads(gzip.decompress(base64.b64decode(found[1])))


def test_every_figure_of_a_score_has_words() -> None:
    assert set(AXES) == {f.name for f in fields(Score)} - {"method", "asked_requests_per_s"}


def test_the_answer_says_what_was_planned() -> None:
    said = headline(PLAN)
    assert PLAN.winner is not None
    assert PLAN.winner.score is not None
    gpu = PLAN.winner.candidate.pools[0].gpu
    assert said.startswith(f"{PLAN.winner.score.gpus} {gpu} hold 24 requests/s at $")
    hardware, cost, limits, sure = verdicts(PLAN)
    assert hardware.answer == f"{PLAN.winner.score.gpus} {gpu}"
    assert cost.answer in said
    assert (limits.answer, limits.state) == ("Yes", "good")
    assert sure.answer == "±23%"


def test_a_limit_that_is_broken_is_said_to_be() -> None:
    assert PLAN.winner is not None
    assert PLAN.winner.score is not None
    slow = replace(PLAN, winner=replace(PLAN.winner, score=replace(PLAN.winner.score, tpot_s=0.031)))
    assert verdicts(slow)[2].state == "bad"


def test_nothing_holds_and_what_to_relax() -> None:
    page = plan_page(make_infeasible()).replace("\u00a0", " ")
    assert "Nothing within 64 GPUs holds these limits: KV memory binds." in page
    assert page.index("TPOT limit to 45 ms") < page.index("What was asked")
    for absent in ("Launch", "Trade-offs", "Traffic</h2>"):
        assert f"<h2>{absent}" not in page


def test_users_text_is_escaped_everywhere() -> None:
    page = plan_page(PLAN)
    assert "&lt;anything&gt;" in page
    for raw in ("<anything>", "<and>"):
        assert raw not in page
    assert not re.search(r'(src|href)="(?!data:)', page), "nothing is fetched"


def test_the_page_holds_every_candidate_with_its_reason() -> None:
    rows = packed(plan_page(PLAN), "candidates")["rows"]
    assert [row["id"] for row in rows] == [each.candidate.id for each in PLAN.evaluations]
    for row, each in zip(rows, PLAN.evaluations, strict=True):
        assert row["cells"][-1] == each.reason
        assert row["keys"][0] == STATUS[each.status]
        assert row["holds"] == each.holds
        if each.score is not None:
            assert row["cells"][2] == each.score.gpus
            assert row["cells"][5] == pytest.approx(1e3 * (each.score.tpot_s or 0), rel=1e-3)
        else:
            assert row["cells"][2] is None
    assert sum(row["best"] for row in rows) == 1


def test_fronts_draw_the_front_in_order() -> None:
    for figure, front in zip(fronts(PLAN), PLAN.pareto, strict=True):
        line = figure.traces[0]
        assert len(line["x"]) == len(front.ids)
        assert line["x"] == sorted(line["x"])
        better = 1 if front.y_up == front.x_up else -1
        falls = [better * b <= better * a for a, b in zip(line["y"], line["y"][1:], strict=False)]
        assert all(falls), "a front trades one for the other"
        assert figure.traces[-1]["name"] == "the plan"


def test_the_wide_front_holds_the_simulated_one_and_no_dominated_point() -> None:
    best = PLAN.winner
    assert best is not None
    for front in (replace(front, ids=(best.candidate.id,)) for front in PLAN.pareto):
        figure = fronts(replace(PLAN, pareto=(front,)))[0]
        wide = figure.traces[0]
        assert wide["mode"] == "lines"
        points = list(zip(wide["x"], wide["y"], strict=True))
        assert wide["x"] == sorted(wide["x"])
        signs = (1 if front.x_up else -1), (1 if front.y_up else -1)
        held = [(getattr(e.score, front.x) * AXES[front.x].factor, getattr(e.score, front.y) * AXES[front.y].factor)
                for e in PLAN.evaluations if e.holds]  # fmt: skip
        for x, y in held:
            dominating = [p for p in points if signs[0] * p[0] >= signs[0] * x * (1 - signs[0] * 1e-3)
                          and signs[1] * p[1] >= signs[1] * y * (1 - signs[1] * 1e-3)]  # fmt: skip
            assert dominating, "every candidate is reached or beaten by the front"
        for x, y in points:
            assert not any(signs[0] * a > signs[0] * x and signs[1] * b > signs[1] * y for a, b in points)


def test_the_heat_map_is_grey_where_nothing_holds_and_says_why() -> None:
    one, apart = heat_maps(PLAN)
    dead, alive = one.traces
    seen = {"grey": 0, "coloured": 0}
    for row, (greys, values) in enumerate(zip(dead["z"], alive["z"], strict=True)):
        for column, (grey, value) in enumerate(zip(greys, values, strict=True)):
            hover = alive["customdata"][row][column]
            assert (grey is None) != (value is None), "each cell is one of both"
            seen["grey" if grey else "coloured"] += 1
            if grey:
                assert any(word in hover for word in STATUS.values())
                assert "holds," not in hover
            else:
                assert "holds," in hover
    assert min(seen.values()) > 5
    assert any("141 GiB of weights" in text for line in dead["customdata"] for text in line)
    best = min(v for line in alive["z"] for v in line if v is not None)
    assert PLAN.winner is not None
    assert PLAN.winner.score is not None
    assert best == pytest.approx(PLAN.winner.score.usd_per_million_tokens, rel=1e-3)
    assert apart.title == "Prefill and decode apart"


def test_cost_falls_with_load_and_the_limit_is_on_the_plot() -> None:
    figure = cost_curves(PLAN)[0]
    for trace in figure.traces:
        assert trace["y"] == sorted(trace["y"], reverse=True)
    ttft, tpot = load_curves(PLAN)
    for drawn, limit in ((ttft, 500.0), (tpot, 30.0)):
        assert drawn.layout["shapes"][0]["y0"] == pytest.approx(limit)
        assert limit < drawn.layout["yaxis"]["range"][1] <= 4.4 * limit


def test_the_budget_adds_up_and_the_tornado_is_sorted() -> None:
    for figure in budget(PLAN):
        assert figure.title.split()[2] in (f"{sum(t['x'][0] for t in figure.traces):.3g}",)
    bars = tornado(PLAN)[0].traces[0]
    known = [abs(x) for x, text in zip(bars["x"], bars["text"], strict=True) if text != "no longer holds"]
    assert known == sorted(known), "the longest bar is on top"
    assert bars["text"][-1] == "no longer holds"


def test_the_folder_holds_the_plan_itself_and_what_to_run(tmp_path: Path) -> None:
    page = write_plan(PLAN, tmp_path / "out")
    assert page == tmp_path / "out" / "index.html"
    assert result_from_json(json.loads((tmp_path / "out" / "plan.json").read_text())) == PLAN
    rows = list(csv.DictReader((tmp_path / "out" / "candidates.csv").read_text().splitlines()))
    assert len(rows) == len(PLAN.evaluations)
    assert {row["binding"] for row in rows} <= set(BINDING)
    launch = tmp_path / "out" / "launch"
    assert {path.name for path in launch.iterdir()} == {
        "vllm.sh", "sglang.sh", "tensorrt-llm.sh", "manifest.yaml", "benchmark.sh"
    }  # fmt: skip
    assert list(YAML(typ="safe").load_all((launch / "manifest.yaml").read_text()))
    with pytest.raises(OutputError, match="exists"):
        write_plan(PLAN, tmp_path / "out")
    write_plan(make_infeasible(), tmp_path / "out", force=True)
    assert not launch.exists()
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["feasible"] is False


def separated(plan: PlanResult, ep: int) -> PlanResult:
    each = next(e for e in plan.evaluations if e.candidate.separated and e.holds)
    pools = tuple(replace(pool, layout=Layout(dp_attention=8, ep=ep)) for pool in each.candidate.pools)
    return replace(plan, winner=replace(each, candidate=replace(each.candidate, pools=pools)))


def test_launch_material_of_pools_apart() -> None:
    plan = separated(PLAN, 8)
    assert plan.winner is not None
    pieces = {piece.group: piece for piece in material(plan, plan.winner)}
    for engine in ("vllm", "sglang", "tensorrt-llm"):
        assert not pieces[engine].refused
        decode = plan.winner.candidate.pools[1]
        assert f"each of {decode.replicas} servers, 8 GPUs" in pieces[engine].text or decode.replicas == 1
        assert "router" in pieces[engine].text
    four = material(separated(PLAN, 4), plan.winner)
    assert all(not piece.refused for piece in four)
    refused = {p.group: p.refused for p in material(PLAN, separated(PLAN, 4).winner or plan.winner)}
    assert "vLLM cuts experts" in refused["vllm"]
    assert not refused["sglang"]
    assert "cannot start this layout" in plan_page(separated(PLAN, 4))


def test_the_benchmark_sends_what_was_planned() -> None:
    assert PLAN.winner is not None
    traffic = planned_traffic(PLAN, PLAN.winner)
    assert (traffic.rate_per_s, traffic.input_tokens, traffic.output_tokens) == (24.0, 1100.0, 320.0)
    assert traffic.spread == pytest.approx(0.25), "evenly from 825 to 1,375"
    assert traffic.goodput_ms == {"ttft": 500.0, "tpot": 30.0}
    most = replace(PLAN, asked=replace(PLAN.asked, requests_per_s=None))
    assert PLAN.winner.score is not None
    assert planned_traffic(most, PLAN.winner).rate_per_s == PLAN.winner.score.load_requests_per_s
    superchip = replace(PLAN.winner.candidate.pools[0], gpu="GB200", layout=Layout(tp=8))
    assert pool_launch(superchip, PLAN.asked, "vllm").nodes == 2
