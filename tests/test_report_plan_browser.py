"""The page about a plan in a real browser, from disk: quiet, all drawn, filters, order, tabs and copying work."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Browser
from plan_case import make_infeasible, make_plan

from simulator.planning.result import PlanResult
from simulator.report.plan.words import STATUS
from simulator.report.plan.write import write_plan

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine (apt-get install chromium)"),
]
PLAN = make_plan()
COUNT = "document.querySelectorAll('#rows tbody tr').length"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plan(PLAN, tmp_path_factory.mktemp("plan") / "out")


@pytest.fixture(scope="module")
def browser(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        opened.open(page)
        opened.draw_all()
        opened.wait("document.documentElement.dataset.planned === 'yes'")
        yield opened


def fill(browser: Browser, selector: str, value: str) -> None:
    browser.run(
        f"(() => {{ const e = document.querySelector({selector!r}); e.value = {value!r};"
        " e.dispatchEvent(new Event('input', { bubbles: true })); })()"
    )


def column(browser: Browser, index: int) -> list[Any]:
    cells: list[Any] = browser.run(
        f"[...document.querySelectorAll('#rows tbody tr')].map((r) => r.cells[{index}].textContent)"
    )
    return cells


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("plan", [PLAN, make_infeasible()], ids=["feasible", "infeasible"])
def test_quiet_and_all_drawn(tmp_path: Path, plan: PlanResult, dark: bool) -> None:
    with Browser(tmp_path / "profile", dark=dark) as opened:
        opened.open(write_plan(plan, tmp_path / "out"))
        opened.draw_all()
        opened.run("document.querySelectorAll('.choice button').forEach((b) => b.click())")
        opened.draw_all()
        assert opened.noted == []
        plots = opened.run("document.querySelectorAll('[data-plot]').length")
        assert plots >= (1 if plan.winner is None else 12)
        assert opened.run("document.querySelectorAll('.plot[data-drawn=yes] .main-svg').length") >= plots
        marks = "document.querySelectorAll('.plot .point, .plot .hm image, .plot .js-line').length"
        assert opened.run(marks) >= plots, "something stands in each plot"
        back = opened.run("getComputedStyle(document.body).backgroundColor")
        assert (back == "rgb(16, 21, 27)") == dark
        assert opened.run("document.documentElement.scrollWidth") <= 1280, "nothing sticks out sideways"


def test_a_narrow_screen_scrolls_only_down(tmp_path: Path, page: Path) -> None:
    with Browser(tmp_path / "profile", width=390) as opened:
        opened.open(page)
        opened.draw_all()
        assert opened.run("document.documentElement.scrollWidth") <= 390
        assert opened.noted == []


def test_filters_show_what_they_say(browser: Browser) -> None:
    assert browser.run(COUNT) == len(PLAN.evaluations)
    browser.run("document.getElementById('holds').click()")
    held = [each for each in PLAN.evaluations if each.holds]
    assert browser.run(COUNT) == len(held)
    fill(browser, "#find", "tp4 h200")
    found = [e for e in held if "tp4" in e.candidate.id and "H200" in e.candidate.id]
    assert all("tp4" in c and "H200" in c for c in column(browser, 0))
    assert browser.run(COUNT) >= len(found) > 0
    browser.run("document.getElementById('holds').click()")
    fill(browser, "#find", "")
    fill(browser, "[data-filter='0']", STATUS["no_memory"])
    expected = [each for each in PLAN.evaluations if each.status == "no_memory"]
    assert browser.run(COUNT) == len(expected)
    assert set(column(browser, 1)) == {STATUS["no_memory"]}
    assert all("141 GiB of weights <and>" in reason for reason in column(browser, 8))
    said = browser.run("document.getElementById('shown').textContent")
    assert said.startswith(f"{len(expected)} of {len(PLAN.evaluations)} ")
    fill(browser, "[data-filter='0']", "")
    assert browser.run(COUNT) == len(PLAN.evaluations)


def test_columns_sort_both_ways_with_gaps_last(browser: Browser) -> None:
    head = "document.querySelector('[data-sort=\"5\"]')"
    for direction in ("ascending", "descending"):
        browser.run(f"{head}.click()")
        assert browser.run(f"{head}.parentElement.getAttribute('aria-sort')") == direction
        cells = column(browser, 5)
        gaps = cells.count("-")
        assert gaps > 0
        assert cells[len(cells) - gaps :] == ["-"] * gaps
        values = [float(cell) for cell in cells[: len(cells) - gaps]]
        assert values == sorted(values, reverse=direction == "descending")


def test_tabs_and_copying(browser: Browser) -> None:
    shown = "[...document.querySelectorAll('.tab')].findIndex((t) => !t.hidden)"
    assert browser.run(shown) == 0
    browser.run("[...document.querySelectorAll('.tabs button')].find((b) => b.textContent === 'Kubernetes').click()")
    assert browser.run("document.querySelectorAll('.tab:not([hidden]) pre').length") == 1
    assert "kind: Deployment" in browser.run("document.querySelector('.tab:not([hidden]) pre').textContent")
    browser.run("document.querySelector('.tab:not([hidden]) .copy').click()")
    browser.wait("document.querySelector('.tab:not([hidden]) .copy').textContent === 'copied'")


def test_hovering_a_grey_cell_tells_the_reason(browser: Browser) -> None:
    browser.run("[...document.querySelectorAll('.choice button')].find((b) => b.textContent.startsWith('One')).click()")
    x, y = browser.run(
        "(() => { const box = [...document.querySelectorAll('.plot')].find((p) => p.data?.[0]?.type === 'heatmap'"
        " && p.offsetParent); const row = box.data[0].z.findIndex((r) => r.includes(1));"
        " box.scrollIntoView(); const at = box.getBoundingClientRect(); const { xaxis, yaxis } = box._fullLayout;"
        " return [at.left + xaxis._offset + xaxis.l2p(box.data[0].z[row].indexOf(1)),"
        " at.top + yaxis._offset + yaxis.l2p(row)]; })()"
    )
    browser.move(x - 3, y - 3)
    browser.move(x, y)
    browser.wait("document.querySelector('.hoverlayer .hovertext')")
    said = browser.run("[...document.querySelectorAll('.hoverlayer')].map((h) => h.textContent).join()")
    assert any(words in said for status, words in STATUS.items() if status in ("no_memory", "bound", "illegal"))


def test_the_spy_sees_errors_and_requests(tmp_path: Path, page: Path) -> None:
    planted = "<script>console.error('planted'); undefinedFunction();</script><img src='none.png'>"
    copy = tmp_path / "planted.html"
    copy.write_text(page.read_text().replace("</body>", f"{planted}</body>"))
    with Browser(tmp_path / "profile") as opened:
        opened.open(copy)
        said = " ".join(opened.noted)
        for part in ("planted", "undefinedFunction", "none.png"):
            assert part in said
