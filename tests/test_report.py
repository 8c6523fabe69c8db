"""Reports: what they say agrees with the frames, and they appear whole or not at all."""

import gzip
import json
import math
import re
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_case import make_result, ops_frame

from simulator.errors import OutputError
from simulator.metrics.result import Correctness, RunResult
from simulator.report import digest, tables, trace
from simulator.report.answer import answer_lines, headline, verdicts
from simulator.report.figures import timeline, times
from simulator.report.kinds import GROUPS, group_of
from simulator.report.output import check_output, staged
from simulator.report.page.build import page
from simulator.report.summary import summary
from simulator.report.write import write_report

RESULT = make_result()
TIMED = digest.timed(RESULT.ops)


def empty(result: RunResult, *frames: str) -> RunResult:
    return replace(result, **{name: getattr(result, name).iloc[:0] for name in frames})  # type: ignore[arg-type]


def figures_of(html: str) -> list[dict[str, Any]]:
    found = re.search(r'id="figures">([^<]+)<', html)
    assert found
    parsed: list[dict[str, Any]] = json.loads(gzip.decompress(b64decode(found[1])))
    return parsed


# ---- digest -----------------------------------------------------------------------------------------------------


def test_groups_share_out_all_of_the_time() -> None:
    for phase in ("prefill", "decode"):
        part = RESULT.ops[RESULT.ops.phase == phase]
        steps = 1 if phase == "prefill" else 2
        total = float((part.end_s - part.start_s).sum()) / (4 * steps)
        assert math.isclose(sum(time_s for _, time_s in digest.group_times(TIMED, phase)), total, rel_tol=1e-12)


def test_totals_are_those_of_the_frames() -> None:
    most = digest.fullest(RESULT)
    assert most is not None
    assert (most.rank, most.pool) == (3, "pool")
    assert math.isclose(sum(digest.bytes_by_class(RESULT).values()), RESULT.links.bytes.sum())
    assert math.isclose(sum(digest.provenance_shares(TIMED).values()), 1.0)
    assert 0 < digest.provenance_shares(TIMED)["roofline"] < 0.1
    sent = digest.handover(RESULT)
    assert sent is not None
    assert (sent.bytes, sent.pairs) == (RESULT.handover.bytes.sum(), 6)
    uneven = digest.imbalance(RESULT, TIMED)
    assert uneven is not None
    assert math.isclose(uneven.routed, 9 * 16 / 64)
    decode = RESULT.steps[RESULT.steps.phase == "decode"]
    assert math.isclose(digest.tokens_per_s(RESULT), 64 / decode.time_s.sum())


def test_every_kind_has_a_group_and_every_group_a_colour_of_its_own() -> None:
    assert group_of("Linear").label == "Projections"
    assert group_of("NotYetKnown").label == "Norms and elementwise"
    assert group_of("NotYetKnown", "comm").comm
    assert len({group.colour for group in GROUPS}) == len({group.label for group in GROUPS}) == len(GROUPS)


def test_layers_of_a_pipeline_are_averaged_over_the_ranks_that_run_them() -> None:
    ops = ops_frame(4, 6, 2)
    half = ops[((ops["rank"] < 2) & (ops.layer < 3)) | ((ops["rank"] >= 2) & (ops.layer >= 3))]
    for figure in times.by_layer(RESULT, digest.timed(half)):
        heights = [sum(trace["y"][i] for trace in figure.traces) for i in range(1, 7)]
        assert max(heights) < 1.2 * min(heights)


# ---- answer -----------------------------------------------------------------------------------------------------


def test_the_answer_says_what_was_found() -> None:
    assert headline(RESULT).startswith("Fits, computes the right tokens, 1.2")
    wrong = Correctness(True, False, 2, 3, ((5, 9, 2), (7, 1, 4)), ((5, 9, 2), (7, 2, 4)), 0.3)
    bad = replace(RESULT, fits=False, correctness=wrong)
    assert headline(bad).startswith("Does not fit, computes wrong tokens")
    assert [verdict.state for verdict in verdicts(bad)] == ["bad", "bad", "neutral", "neutral"]
    assert "5 of 6 tokens" in verdicts(bad)[1].detail
    off = Correctness(False, False, 0, 0, (), (), float("nan"), "numbers are switched off")
    assert verdicts(replace(RESULT, correctness=off))[1].answer == "Not checked"
    assert "tokens" not in headline(replace(RESULT, correctness=off))


def test_a_run_without_decode_tells_its_prefill() -> None:
    only = replace(RESULT, decode_s=float("nan"), ops=RESULT.ops[RESULT.ops.phase == "prefill"],
                   steps=RESULT.steps[RESULT.steps.phase == "prefill"])  # fmt: skip
    assert headline(only).endswith("for the prefill")
    assert "prefill" in page([only], "t", "")
    assert json.dumps(summary([only], "t"), allow_nan=False)
    assert answer_lines(only)


# ---- page -------------------------------------------------------------------------------------------------------


def test_a_page_needs_nothing_from_elsewhere_and_escapes_what_it_is_given() -> None:
    html = page([RESULT], "a <script>alert(1)</script>", "b & c")
    assert "<script>alert" not in html
    assert "two &lt;nodes&gt;" in html
    body = re.sub(r'<script type="application/octet-stream".*?</script>', "", html, flags=re.DOTALL)
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", body)
    assert not re.search(r"\b(fetch|XMLHttpRequest|import)\s*\(", body)
    assert len(figures_of(html)) == html.count("data-plot=")


def test_the_page_opens_with_the_answer() -> None:
    html = page([RESULT], "t", "")
    heads = ["Does it fit?", "What was asked", "Where the time goes", "Timeline", "Links", "Memory", "Numbers",
             "Experts", "Hand-over", "Where the figures come from"]  # fmt: skip
    found = [html.index(f"<h2>{head}" if i else head) for i, head in enumerate(heads)]
    assert found == sorted(found)


def test_colours_are_names_of_the_theme() -> None:
    html = page([RESULT, make_result("other", 2)], "t", "")
    used = set(re.findall(r'"(@\w+)"', json.dumps(figures_of(html)))) - {"@ramp"}
    for name in used:
        assert html.count(f"--{name[1:]}:") == 2, f"{name} in the light and the dark theme"


def test_sections_without_anything_are_left_out() -> None:
    bare = empty(RESULT, "expert_load", "handover", "links", "transfers", "numerics", "memory")
    html = page([bare], "t", "")
    assert "Hand-over" not in html
    assert "<h2>Links</h2>" not in html
    assert "<h2>Timeline</h2>" in html


def test_a_timeline_draws_no_more_than_it_may() -> None:
    ops = digest.timed(ops_frame(32, 30, 2))
    for most in (100, 1000, 4000):
        for figure in timeline.timelines(replace(RESULT, ops=ops), ops, most):
            assert 0 < sum(len(trace["x"]) for trace in figure.traces) <= most
    (_, decode) = timeline.timelines(RESULT, TIMED)
    assert sum(len(trace["x"]) for trace in decode.traces) == len(RESULT.ops[RESULT.ops.step == 2])


def test_a_comparison_lists_every_run() -> None:
    results = [RESULT, make_result("second", 2), replace(make_result("third", 3), fits=False)]
    html = page(results, "three", "")
    assert "2 of 3 fit" in html
    for result in results:
        assert f"<h2>{result.name}</h2>" in html


# ---- files ------------------------------------------------------------------------------------------------------


def test_a_report_holds_page_summary_tables_and_trace(tmp_path: Path) -> None:
    index = write_report([RESULT], tmp_path / "deep" / "out")
    folder = index.parent
    assert sorted(path.name for path in folder.iterdir()) == ["index.html", "summary.json", "tables", "trace.json"]
    read = json.loads((folder / "summary.json").read_text())
    assert read == json.loads(json.dumps(summary([RESULT], RESULT.name)))
    assert read["runs"][0]["fits"] is True
    ops = pd.read_csv(folder / "tables" / "ops.csv")
    assert len(ops) == len(RESULT.ops)
    assert {path.stem for path in (folder / "tables").iterdir()} == set(tables.FRAMES)
    assert [path.name for path in folder.parent.iterdir()] == ["out"]


def test_parquet_tables_read_back_the_same(tmp_path: Path) -> None:
    folder = write_report([RESULT, make_result("b")], tmp_path / "out", "parquet").parent
    back = pd.read_parquet(folder / "run2" / "tables" / "memory.parquet")
    pd.testing.assert_frame_equal(back, RESULT.memory)
    assert len(json.loads((folder / "summary.json").read_text())["runs"]) == 2


def test_parquet_without_pyarrow_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tables, "find_spec", lambda _name: None)
    with pytest.raises(OutputError, match="pyarrow"):
        write_report([RESULT], tmp_path / "out", "parquet")
    assert not list(tmp_path.iterdir())


def test_long_tables_are_compressed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tables, "MOST_PLAIN_ROWS", 10)
    tables.write_tables(RESULT, tmp_path / "t", "csv")
    assert len(pd.read_csv(tmp_path / "t" / "ops.csv.gz")) == len(RESULT.ops)
    assert (tmp_path / "t" / "steps.csv").exists()


def test_an_existing_folder_is_replaced_only_if_asked_and_only_if_it_is_a_report(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_report([RESULT], out)
    with pytest.raises(OutputError, match="--force"):
        write_report([RESULT], out)
    (out / "old.txt").write_text("")
    write_report([RESULT], out, force=True)
    assert not (out / "old.txt").exists()
    other = tmp_path / "home"
    other.mkdir()
    (other / "thesis.tex").write_text("x")
    with pytest.raises(OutputError, match="not a report"):
        write_report([RESULT], other, force=True)
    assert (other / "thesis.tex").exists()
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(OutputError):
            check_output(place, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "home", "out"]


def half_written(out: Path, failure: type[BaseException]) -> None:
    with staged(out, force=True) as folder:
        (folder / "index.html").write_text("half")
        raise failure


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError, OSError])
@pytest.mark.parametrize("before", [False, True])
def test_a_broken_run_leaves_nothing_half_written(tmp_path: Path, failure: type[BaseException], before: bool) -> None:
    out = tmp_path / "out"
    if before:
        write_report([RESULT], out)
    with pytest.raises((failure, OutputError)):
        half_written(out, failure)
    assert [path.name for path in tmp_path.iterdir()] == (["out"] if before else [])
    assert not before or "half" not in (out / "index.html").read_text()


# ---- trace ------------------------------------------------------------------------------------------------------


def read_trace(path: Path) -> list[dict[str, Any]]:
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    events: list[dict[str, Any]] = json.loads(text)["traceEvents"]
    return events


@pytest.mark.parametrize("most", [10, 10**9])
def test_a_trace_has_every_op_and_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(trace, "MOST_PLAIN_EVENTS", most)
    monkeypatch.setattr(trace, "_BATCH", 7)
    path = trace.write_trace(RESULT, tmp_path)
    assert path.name == ("trace.json" if most > 10 else "trace.json.gz")
    events = read_trace(path)
    complete = [event for event in events if event["ph"] == "X"]
    assert len(complete) == len(RESULT.ops) + len(RESULT.transfers) + len(RESULT.handover)
    named = {(event["pid"], event.get("tid")) for event in events if event["ph"] == "M"}
    assert {(event["pid"], event["tid"]) for event in complete} <= named
    first, row = complete[17], RESULT.ops.iloc[17]
    assert first["name"] == row["op"]
    assert math.isclose(first["ts"], row["start_s"] * 1e6, rel_tol=1e-8, abs_tol=1e-9)
    assert math.isclose(first["dur"], (row["end_s"] - row["start_s"]) * 1e6, rel_tol=1e-4)


@given(st.text(max_size=20))
def test_a_trace_takes_any_name(name: str) -> None:
    ops = RESULT.ops.head(3).assign(op=pd.Categorical([name] * 3))
    lines = [
        line for batch in trace._batches(empty(replace(RESULT, ops=ops), "transfers", "handover")) for line in batch
    ]
    assert json.loads(f"[{','.join(lines)}]")[-1]["name"] == name
