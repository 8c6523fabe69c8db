"""The report of live serving: page, summary, result file, tables and trace, all of them or none."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd

from simulator import __version__
from simulator.metrics.result import RunResult
from simulator.metrics.serving_run import ServingResult
from simulator.report.output import MARK, staged
from simulator.report.page.serving import Run, serving_page
from simulator.report.serving_trace import write_serving_trace
from simulator.report.summary import run_summary
from simulator.report.tables import MOST_PLAIN_ROWS, Format, check_format, write_tables
from simulator.report.trace import write_trace

BENCHMARK = "benchmark.json"
"""The result file in the fields of `vllm bench serve`, and nothing else."""
FRAMES = ("requests", "steps", "pools", "series", "masters", "outages", "tiers", "classes")


def write_serving_report(
    runs: Sequence[Run], out: Path, tables: Format = "csv", *, force: bool = False, title: str = "",
    description: str = "",
) -> Path:  # fmt: skip
    """Write index.html, summary.json, and for each run benchmark.json, tables/ and trace.json; returns the page.

    Of several runs, each has its files in a folder of its own (run1, run2, ...); steps that were run beside are in
    `steps/`. Raises OutputError as `write_report` does; nothing is left behind then.
    """
    check_format(tables)
    name = title or runs[0][0].case.name
    with staged(out, force) as folder:
        for index, (serving, steps) in enumerate(runs):
            inside = folder if len(runs) == 1 else folder / f"run{index + 1}"
            inside.mkdir(exist_ok=True)
            _write_frames(serving, inside / "tables", tables)
            write_serving_trace(serving, inside)
            (inside / BENCHMARK).write_text(_json(_plain(serving.benchmark)), encoding="utf-8")
            if steps is not None:
                _write_steps(steps, inside / "steps", tables)
        words = description or (runs[0][0].case.description if len(runs) == 1 else "")
        (folder / "index.html").write_text(serving_page(runs, name, words), encoding="utf-8")
        (folder / MARK).write_text(_json(serving_summary(runs, name)), encoding="utf-8")
    return out / "index.html"


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def _write_steps(steps: RunResult, folder: Path, tables: Format) -> None:
    folder.mkdir()
    write_tables(steps, folder / "tables", tables)
    write_trace(steps, folder)


def _write_frames(result: ServingResult, folder: Path, tables: Format) -> None:
    folder.mkdir(parents=True)
    for name in FRAMES:
        frame: pd.DataFrame = getattr(result, name)
        if frame.empty:
            continue
        if tables == "parquet":
            frame.to_parquet(folder / f"{name}.parquet", index=False)
        elif len(frame) > MOST_PLAIN_ROWS:
            frame.to_csv(folder / f"{name}.csv.gz", index=False, compression={"method": "gzip", "compresslevel": 1})
        else:
            frame.to_csv(folder / f"{name}.csv", index=False)


def serving_summary(runs: Sequence[Run], name: str) -> dict[str, Any]:
    """One object for summary.json, with one entry a run; NaN as null."""
    return {"shardsim": __version__, "name": name, "runs": [_run(serving, steps) for serving, steps in runs]}


def _run(result: ServingResult, steps: RunResult | None) -> dict[str, Any]:
    slo = result.case.slo
    entry: dict[str, Any] = {
        "name": result.case.name,
        "description": result.case.description,
        "kind": "serving",
        "facts": result.case.facts,
        "label": result.label,
        "benchmark": result.benchmark,
        **result.figures,
        "slo": None if slo is None else asdict(slo),
        "rejected": result.rejected,
        "pools": result.pools.to_dict("records"),
        "masters": result.masters.to_dict("records"),
        "outages": result.outages.to_dict("records"),
        "classes": result.classes.to_dict("records"),
        "kv_tiers": result.tiers.to_dict("records"),
        "prices": {pool.name: pool.price_source for pool in result.case.pools},
        "events": result.events,
        "warnings": list(result.warnings),
        "steps": None if steps is None else run_summary(steps),
    }
    return {key: _plain(value) for key, value in entry.items()}


def _plain(value: Any) -> Any:
    """JSON's own types; infinities and NaN become null."""
    match value:
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case float():
            return value if isfinite(value) else None
        case None | bool() | int() | str():
            return value
        case _:
            return str(value)
