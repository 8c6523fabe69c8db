"""The page in a real browser, from disk: no errors, all plots drawn, nothing fetched."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_case import make_result

from simulator.report.write import write_report

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine (apt-get install chromium)"),
]
# Runs before the page's own script; what it notes is read from the dumped document.
SPY = """<script>
window.noted = []; const note = (what) => { noted.push(String(what));
  document.documentElement.dataset.noted = JSON.stringify(noted); };
addEventListener("error", (event) => note("error: " + event.message), true);
addEventListener("unhandledrejection", (event) => note("rejection: " + event.reason));
console.error = note; console.warn = note;
new PerformanceObserver((list) => list.getEntries().forEach((entry) => note("request: " + entry.name)))
  .observe({ type: "resource", buffered: true });
</script>"""


def dump(page: Path, profile: Path, *options: str) -> str:
    """The document after its scripts ran; all of the page is in view, so that every plot is drawn."""
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
        f"--user-data-dir={profile}", "--window-size=1400,14000", "--virtual-time-budget=20000", *options, "--dump-dom",
        page.as_uri(),
    ]  # fmt: skip
    html = ""
    for _ in range(3):  # virtual time can outrun the unpacking of plotly.js on a busy machine
        html = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        if 'data-ready="yes"' in html:
            break
    return html


def noted(html: str) -> list[str]:
    found = re.search(r'data-noted="([^"]*)"', html)
    said: list[str] = json.loads(found[1].replace("&quot;", '"').replace("&amp;", "&")) if found else []
    return said


def spied(page: Path, script: str = "") -> Path:
    """The page with the spy in its head, and a script at its end."""
    text = page.read_text().replace("<head>", f"<head>{SPY}", 1).replace("</body>", f"{script}</body>", 1)
    copy = page.with_name("spied.html")
    copy.write_text(text)
    return copy


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("scheme", ["0", "1"], ids=["dark", "light"])
def test_all_plots_are_drawn_without_an_error_or_a_request(tmp_path: Path, runs: int, scheme: str) -> None:
    results = [make_result(f"run {i}", 2 + i) for i in range(runs)]
    page = spied(write_report(results, tmp_path / "out"))
    html = dump(page, tmp_path / "profile", f"--blink-settings=preferredColorScheme={scheme}")
    assert noted(html) == []
    assert 'data-ready="yes"' in html
    drawn = html.count('data-drawn="yes"')
    hidden = html.count('class="pane" hidden') if runs == 1 else None
    plots = html.count("data-plot=")
    assert drawn == (plots - hidden if hidden is not None else 6)
    assert html.count("main-svg") >= drawn


def test_a_choice_shows_the_other_plot(tmp_path: Path) -> None:
    click = "<script>addEventListener('load', () => setTimeout(() => document.querySelectorAll('.choice button')"
    click += ".forEach((b) => b.click()), 3000));</script>"
    page = spied(write_report([make_result()], tmp_path / "out"), click)
    html = dump(page, tmp_path / "profile")
    assert noted(html) == []
    assert html.count('data-drawn="yes"') == html.count("data-plot=")


def test_the_spy_sees_errors_and_requests(tmp_path: Path) -> None:
    page = write_report([make_result()], tmp_path / "out")
    planted = "<script>console.error('planted'); undefinedFunction();</script><img src='none.png'>"
    said = " ".join(noted(dump(spied(page, planted), tmp_path / "profile")))
    assert "planted" in said
    assert "undefinedFunction" in said
    assert "none.png" in said or "error" in said
