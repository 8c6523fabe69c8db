"""What the page says of masters, classes and tiers; a verdict compares only runs under the same load."""

from pathlib import Path

import pytest
from serving_case import PAIR, case

from simulator.metrics.serving_run import ServingResult, run_serving
from simulator.report.page.masters import masters_compared
from simulator.report.page.serving import serving_page

ONE = "masters={dispatch: 250 ms, heartbeat: 1 s}"
TWO = "masters={count: 2, dispatch: 250 ms, heartbeat: 1 s}"
THREE = "masters={count: 3, dispatch: 250 ms, heartbeat: 1 s}"
KILL = "faults=[{kind: master, target: master1, at: 4 s, repair: 3 s}]"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[ServingResult]:
    folder = tmp_path_factory.mktemp("masters")
    settings = [
        ("name=calm", "traffic.rate=3", ONE),
        ("name=one", ONE),
        ("name=two", TWO),
        ("name=killed", THREE, KILL),
    ]
    return [run_serving(case(folder, PAIR, *each)) for each in settings]


def test_the_page_says_where_masters_saturate_and_what_a_kill_does(results: list[ServingResult]) -> None:
    said = masters_compared(results)
    assert "“one”: the masters saturate; 1 can pass on 4 requests a second, 6 come" in said
    assert "“calm”" not in said
    assert "“killed”: master1 dies at 4 s" in said
    outage = results[3].outages.iloc[0]
    assert outage["taken_over"] > 0
    assert (
        f"{outage['taken_over']} requests wait for the notice, 1 s later, and are taken over, all with a token" in said
    )
    assert 1.0 < outage["recovery_s"] < 10.0


def test_masters_queues_are_drawn_over_time(results: list[ServingResult]) -> None:
    one, two = results[1].series["queue:master0"], results[2].series["queue:master0"]
    assert one.max() == pytest.approx(results[1].masters["longest_queue"].max(), abs=3)
    assert one.max() > 2 * two.max()
    page = serving_page([(result, None) for result in results], "masters", "")
    assert "At the masters" in page


def test_the_verdict_compares_only_runs_under_the_same_load(results: list[ServingResult]) -> None:
    page = serving_page([(result, None) for result in results], "masters", "")
    assert "of those at 6 requests a second" in page
    assert "soonest with calm" not in page


def test_fleets_without_busy_masters_have_no_such_section(tmp_path: Path) -> None:
    assert masters_compared([run_serving(case(tmp_path))]) == ""


def test_classes_and_tiers_have_their_tables(tmp_path: Path) -> None:
    classes = "traffic.classes=[{name: chat, share: 1, output_tokens: 20}, {name: batch, share: 2, priority: 3}]"
    first = run_serving(case(tmp_path, classes))
    assert first.classes["class"].tolist() == ["chat", "batch"]
    assert first.classes["priority"].tolist() == [0, 3]
    assert first.classes["requests"].sum() == 60
    chat = first.requests[first.requests["class"] == "chat"]
    assert (chat["output_tokens"] == 20).all()
    assert 8 <= len(chat) <= 32
    page = serving_page([(first, None)], "classes", "")
    assert "Lower priorities are dispatched and admitted first" in page
    talk = ("traffic.conversation={turns: 4, think: 1 s, system_tokens: 700}", "traffic.rate=3", "traffic.requests=20")
    tiers = "serving.kv_tiers=[{name: host, size: 8 GiB}, {name: store, size: 1 TiB, bandwidth: 5 GB/s, shared: true}]"
    second = run_serving(case(tmp_path, *talk, tiers))
    assert second.tiers["tier"].tolist() == ["GPU", "host", "store"]
    assert second.tiers["hit_rate"].iloc[0] > 0.3
    assert "of these here" in serving_page([(second, None)], "tiers", "")
