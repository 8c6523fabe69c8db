"""A window of a serving run as a trace for Perfetto: steps of every replica, the stages of every request, counters.

Format: "Trace Event Format", Google, 2016 (JSON object form), as in `report.trace`.
"""

import json
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd

from simulator.metrics.serving_run import ServingResult

MOST_REQUESTS = 2_000
MOST_STEPS = 100_000
REPLICAS, REQUESTS = 1, 2
STAGES = (
    ("arrival_s", "dispatched_s", "at a master"),
    ("dispatched_s", "prefilled_s", "queue and prompt"),
    ("prefilled_s", "moved_s", "KV transfer"),
)
"""(from, to, name); what is not a number was skipped. From the last of them on the request decodes."""


def write_serving_trace(result: ServingResult, folder: Path) -> Path:
    """Write what overlaps the case's window; returns the file."""
    path = folder / "trace.json"
    with path.open("w", encoding="utf-8") as stream:
        stream.write('{"displayTimeUnit":"ms","otherData":{"name":' + json.dumps(result.case.name) + "},")
        stream.write('"traceEvents":[\n')
        for index, event in enumerate(_events(result)):
            stream.write((",\n" if index else "") + json.dumps(event, separators=(",", ":"), allow_nan=False))
        stream.write("\n]}\n")
    return path


def _events(result: ServingResult) -> Iterator[dict[str, Any]]:
    low, high = result.case.window_s
    yield _named(REPLICAS, "replicas")
    yield _named(REQUESTS, "requests")
    for index, spec in enumerate(result.case.fleet.replicas):
        yield _named(REPLICAS, f"{spec.name} ({spec.role})", index)
    steps = result.steps
    part = steps[(steps["start_s"] < high) & (steps["start_s"] + steps["time_s"] > low)].head(MOST_STEPS)
    yield from _steps(result, part)
    requests = result.requests
    inside = requests[(requests["arrival_s"] < high) & (requests["finish_s"] > low)].head(MOST_REQUESTS)
    yield from _requests(inside)
    yield from _outages(result, low, high)


def _named(process: int, name: str, thread: int | None = None) -> dict[str, Any]:
    if thread is None:
        return {"ph": "M", "pid": process, "name": "process_name", "args": {"name": name}}
    return {"ph": "M", "pid": process, "tid": thread, "name": "thread_name", "args": {"name": name}}


def _span(process: int, thread: int, start_s: float, end_s: float, name: str, args: dict[str, Any]) -> dict[str, Any]:
    return {
        "ph": "X", "pid": process, "tid": thread, "ts": round(start_s * 1e6, 3),
        "dur": round((end_s - start_s) * 1e6, 3), "name": name, "args": args,
    }  # fmt: skip


def _steps(result: ServingResult, part: pd.DataFrame) -> Iterator[dict[str, Any]]:
    names = [spec.name for spec in result.case.fleet.replicas]
    for step in part.to_dict("records"):
        start = float(step["start_s"])
        made = [f"{step['prompt_tokens']:,} prompt tokens"] if step["prompt_tokens"] else []
        made += [f"{step['decodes']} decodes"] if step["decodes"] else []
        times = f" × {step['steps']}" if step["steps"] > 1 else ""
        counts = {key: int(step[key]) for key in ("steps", "prompt_tokens", "decodes", "waiting", "pages")}
        index = int(step["rank"])
        yield _span(REPLICAS, index, start, start + float(step["time_s"]), " + ".join(made) + times, counts)
        for key in ("waiting", "decodes", "pages"):
            yield {
                "ph": "C", "pid": REPLICAS, "ts": round(start * 1e6, 3), "name": f"{names[index]} {key}",
                "args": {key: int(step[key])},
            }  # fmt: skip


def _requests(part: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for r in part.to_dict("records"):
        number = int(r["number"])
        yield _named(REQUESTS, f"request {number}", number)
        told = {
            "input_tokens": int(r["input_tokens"]), "output_tokens": int(r["output_tokens"]), "master": r["master"],
            "prefill": r["prefill_replica"], "decode": r["decode_replica"], "retries": int(r["retries"]),
            "preemptions": int(r["preemptions"]),
        }  # fmt: skip
        at = float(r["arrival_s"])
        for _, until, name in STAGES:
            end = float(r[until])
            if isfinite(end) and end >= at:
                yield _span(REQUESTS, number, at, end, name, told)
                at = end
        if float(r["finish_s"]) > at:
            yield _span(REQUESTS, number, at, float(r["finish_s"]), "decode", told)


def _outages(result: ServingResult, low: float, high: float) -> Iterator[dict[str, Any]]:
    for o in result.outages.to_dict("records"):
        if low <= float(o["start_s"]) < high:
            yield {
                "ph": "i", "s": "g", "pid": REPLICAS, "tid": 0, "ts": round(float(o["start_s"]) * 1e6, 3),
                "name": f"{o['kind']} {o['target']} fails", "args": {"lost_requests": int(o["lost_requests"])},
            }  # fmt: skip
