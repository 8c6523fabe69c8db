"""A report: one page, one summary, tables and a trace, all of them or none."""

import json
from collections.abc import Sequence
from pathlib import Path

from simulator.metrics.result import RunResult
from simulator.report.output import MARK, staged
from simulator.report.page.build import page
from simulator.report.summary import summary
from simulator.report.tables import Format, check_format, write_tables
from simulator.report.trace import write_trace


def write_report(
    results: Sequence[RunResult],
    out: Path,
    tables: Format = "csv",
    *,
    force: bool = False,
    title: str = "",
    description: str = "",
) -> Path:
    """Write index.html, summary.json, tables/ and trace.json to the folder `out`; returns the page.

    Of several runs, each has its tables and trace in a folder of its own. Raises OutputError where `out` exists (and
    `force` is False, or it is no report) or cannot be written; nothing is left behind then.
    """
    check_format(tables)
    name = title or results[0].name
    with staged(out, force) as folder:
        for index, result in enumerate(results):
            inside = folder if len(results) == 1 else folder / f"run{index + 1}"
            inside.mkdir(exist_ok=True)
            write_tables(result, inside / "tables", tables)
            write_trace(result, inside)
        words = description or (results[0].description if len(results) == 1 else "")
        (folder / "index.html").write_text(page(results, name, words), encoding="utf-8")
        text = json.dumps(summary(results, name), indent=2, allow_nan=False)
        (folder / MARK).write_text(text + "\n", encoding="utf-8")
    return out / "index.html"
