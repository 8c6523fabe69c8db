"""The report of live serving: files that agree with the frames, a page that draws, a trace of the window."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from serving_case import PAIR, case
from test_report import figures_of
from test_report_browser import CHROMIUM, dump, noted, spied

from simulator.commands.run import run_command
from simulator.errors import ScenarioError
from simulator.metrics.serving_run import run_serving
from simulator.report.page.serving import Run, serving_page
from simulator.report.serving_answer import serving_headline, serving_lines, serving_verdicts
from simulator.report.serving_write import serving_summary, write_serving_report

KILL = "faults=[{kind: replica, target: d0, at: 4 s, repair: 3 s}]"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("serving")
    pair = case(
        folder, PAIR, KILL, "name=a <b>", "masters={count: 2, dispatch: 2 ms}", "trace_window={start: 3 s, length: 2 s}"
    )
    return [(run_serving(case(folder)), None), (run_serving(pair), None)]


def test_files_agree_with_the_frames(runs: list[Run], tmp_path: Path) -> None:
    write_serving_report(runs[1:], tmp_path / "out")
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    tables = {f"tables/{n}.csv" for n in ("requests", "steps", "pools", "series", "masters", "outages")}
    assert files == tables | {"index.html", "summary.json", "benchmark.json", "trace.json"}
    result = runs[1][0]
    assert len(pd.read_csv(tmp_path / "out" / "tables" / "requests.csv")) == 60
    told = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert told == json.loads(json.dumps(result.benchmark))
    entry = json.loads((tmp_path / "out" / "summary.json").read_text())["runs"][0]
    assert entry["benchmark"] == told
    assert entry["outages"][0]["target"] == "d0"
    assert entry["label"] == result.label


def test_a_summary_is_plain_json(runs: list[Run]) -> None:
    text = json.dumps(serving_summary(runs, "two"), allow_nan=False)
    assert [run["name"] for run in json.loads(text)["runs"]] == ["small", "a <b>"]


def test_the_trace_shows_the_window_and_nothing_else(runs: list[Run], tmp_path: Path) -> None:
    write_serving_report(runs[1:], tmp_path / "out")
    events: list[dict[str, Any]] = json.loads((tmp_path / "out" / "trace.json").read_text())["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    requests = runs[1][0].requests
    inside = requests[(requests.arrival_s < 5.0) & (requests.finish_s > 3.0)]
    shown = {event["tid"] for event in spans if event["pid"] == 2}
    assert shown == set(inside.number)
    for number in shown:
        mine = [event for event in spans if event["pid"] == 2 and event["tid"] == number]
        row = requests[requests.number == number].iloc[0]
        assert sum(event["dur"] for event in mine) == pytest.approx(row.e2el_s * 1e6, abs=1.0)
    assert all(event["ts"] < 5e6 and event["ts"] + event["dur"] > 3e6 for event in spans if event["pid"] == 1)
    assert any(event["ph"] == "i" and event["name"] == "replica d0 fails" for event in events)
    assert any(event["ph"] == "C" for event in events)


def test_the_page_says_what_the_run_found(runs: list[Run]) -> None:
    page = serving_page(runs[1:], "a <b>", "what")
    assert "a &lt;b&gt;" in page
    assert "<b>" not in page
    for word in ("Are limits kept?", "What users felt", "Over time", "Pools", "Masters", "Faults", "master1"):
        assert word in page
    titles = [figure["layout"].get("xaxis", {}).get("title", {}).get("text") for figure in figures_of(page)]
    assert "seconds" in titles
    shaded = [
        figure for figure in figures_of(page) if any(s["type"] == "rect" for s in figure["layout"].get("shapes", []))
    ]
    assert len(shaded) == 5  # rates, requests in the system, masters, replicas, KV
    assert "Masters" not in serving_page(runs[:1], "t", "")


def test_answers_in_words(runs: list[Run]) -> None:
    result = runs[0][0]
    assert serving_headline(result).startswith("Stable: p95 ")
    assert [v.question for v in serving_verdicts(result)] == [
        "Are limits kept?", "How fast?", "At what price?", "Does it keep up?"
    ]  # fmt: skip
    lines = "\n".join(serving_lines(result))
    for word in ("TTFT", "TPOT", "ITL", "E2EL", "p99", "a million output tokens", "J a token"):
        assert word in lines
    assert math.isfinite(result.figures["busy"])


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine (apt-get install chromium)")
@pytest.mark.parametrize("first", [0, 1], ids=["two", "one"])
def test_all_plots_are_drawn(runs: list[Run], tmp_path: Path, first: int) -> None:
    page = spied(write_serving_report(runs[first:], tmp_path / "out"))
    html = dump(page, tmp_path / "profile")
    assert noted(html) == []
    assert html.count('data-drawn="yes"') == (4 if first == 0 else html.count("data-plot="))


def test_the_command_serves_and_runs_steps_beside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "both.yaml"
    path.write_text(
        "model: meta-llama/Llama-3.1-8B\ntopology: dgx_h100\nlayout: {tp: 2}\nengine: vLLM\n"
        "traffic: {arrivals: constant, rate: 4, requests: 12, input_tokens: 200, output_tokens: 9}\n"
        "workload: {sequences: 4, prompt_tokens: 100, decode_steps: 1}\n"
    )
    run_command(str(path), tmp_path / "out", force=False, quiet=False, as_json=False, settings=[], tables="csv")
    said = capsys.readouterr().out
    assert "both: Stable: p95 " in said
    assert "the sharded miniature's tokens equal the unsharded one's" in said
    assert (tmp_path / "out" / "steps" / "tables" / "ops.csv").exists()
    assert "Its steps" in (tmp_path / "out" / "index.html").read_text()
    shutil.rmtree(tmp_path / "out")


def test_live_runs_are_not_compared_with_batches(tmp_path: Path) -> None:
    path = tmp_path / "mixed.yaml"
    path.write_text(
        "base: {model: meta-llama/Llama-3.1-8B, topology: dgx_h100}\ncompare:\n"
        "  - {name: a, set: {traffic: {arrivals: constant, rate: 1, requests: 2, input_tokens: 9, output_tokens: 3}}}\n"
        "  - {name: b, set: {workload: {sequences: 4, prompt_tokens: 100, decode_steps: 1}}}\n"
    )
    with pytest.raises(ScenarioError, match="variant 'b' has no traffic"):
        run_command(str(path), tmp_path / "o", force=False, quiet=True, as_json=False, settings=[], tables="csv")
    assert not (tmp_path / "o").exists()
