"""What is compared, read from files; and the comparison as text."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simulator.errors import DataError, OutputError
from simulator.metrics.compare import Row, Side, from_benchmark, remarks, rows
from simulator.planning.result import PlanResult
from simulator.planning.result_json import result_from_json
from simulator.report.output import MARK
from simulator.report.plan.write import PLAN_FILE

_PLAIN = ("prefill_s", "decode_s", "tokens_per_s", "usd_per_hour", "usd_per_million_output_tokens", "gpus")
_SERVING = ("gpus", "usd_per_million_output_tokens", "joules_per_output_token")


def read_sides(path: Path) -> tuple[Side, ...]:
    """The columns that a file gives: a measured result, a run's summary.json (a column a run), or a plan.json.

    A folder stands for the plan or the summary in it. Raises OutputError for what cannot be read, DataError for JSON
    that is none of these.
    """
    if path.is_dir():
        inside = next((path / name for name in (PLAN_FILE, MARK) if (path / name).is_file()), None)
        if inside is None:
            raise OutputError(given=str(path), rule=f"holds neither {PLAN_FILE} nor {MARK}")
        return tuple(_named(side, path.name) for side in read_sides(inside))
    found = _json(path)
    if "format" in found:
        return (_plan(result_from_json(found), path),)
    if "runs" in found:
        return tuple(_run(each, path) for each in found["runs"])
    if "plan" in found and "shardsim" in found:
        raise DataError(where=str(path), given="", rule="is a plan's summary", way_out=f"give {PLAN_FILE} beside it")
    return (from_benchmark(found, path.name, "predicted" if found.get("backend") == "shardsim" else "measured"),)


def beside(result: Path) -> Path:
    """The prediction in a result's folder, or in the one above. Raises OutputError where there is none."""
    for folder in (result.absolute().parent, result.absolute().parent.parent):
        for name in (PLAN_FILE, MARK):
            if (folder / name).is_file() and folder / name != result.absolute():
                return folder / name
    raise OutputError(
        given=str(result), rule=f"has no {PLAN_FILE} or {MARK} beside it to be compared with",
        way_out="name the prediction: shardsim compare RESULT.json FOLDER",
    )  # fmt: skip


def _named(side: Side, folder: str) -> Side:
    return Side(folder, side.kind, side.figures, side.traffic, side.model, side.intervals) if (
        side.name in (PLAN_FILE, MARK)) else side  # fmt: skip


def _json(path: Path) -> dict[str, Any]:
    """One object; of a file with an object a line (sglang.bench_serving appends), the last."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        said = getattr(failure, "strerror", None) or "is no text"
        raise OutputError(where=str(path), given="", rule=f"cannot be read: {said}") from None
    try:
        found = json.loads(text)
    except ValueError:
        lines = [line for line in text.splitlines() if line.strip()]
        try:
            found = json.loads(lines[-1])
        except (ValueError, IndexError):
            raise DataError(where=str(path), given="", rule="is neither JSON nor JSON lines") from None
    if not isinstance(found, dict):
        raise DataError(where=str(path), given=type(found).__name__, rule="must hold an object of figures")
    return found


def _run(entry: Mapping[str, Any], path: Path) -> Side:
    name = str(entry.get("name") or path.name)
    if isinstance(entry.get("benchmark"), dict):
        side = from_benchmark(entry["benchmark"], name, "predicted")
        more = {key: float(entry[key]) for key in _SERVING if isinstance(entry.get(key), int | float)}
        return Side(name, "predicted", {**side.figures, **more}, side.traffic, side.model)
    figures = {key: float(entry[key]) for key in _PLAIN if isinstance(entry.get(key), int | float)}
    memory = entry.get("memory") or {}
    if isinstance(memory.get("share"), int | float):
        figures["memory_share"] = float(memory["share"])
    for phase, share in (entry.get("communication_share") or {}).items():
        figures[f"communication_share.{phase}"] = float(share)
    facts = entry.get("facts") or {}
    return Side(name, "predicted", figures, model=str(facts.get("model") or facts.get("Model") or ""))


def _plan(plan: PlanResult, path: Path) -> Side:
    """The winner as planned: latencies at the plan's percentile, throughput at the load they are told for."""
    if plan.winner is None or plan.winner.score is None:
        raise DataError(where=str(path), given="", rule="is a plan that found nothing", way_out="see its `relax`")
    asked, score = plan.asked, plan.winner.score
    share = asked.slo.percentile
    percentile = "median" if share == 50 else f"p{share:g}"
    rate = score.asked_requests_per_s or score.load_requests_per_s
    times = {"ttft_s": "ttft", "tpot_s": "tpot", "e2el_s": "e2el"}
    keys = {field: f"{percentile}_{name}_ms" for field, name in times.items()}
    figures = {
        "gpus": float(score.gpus),
        "request_throughput": rate,
        "output_throughput": score.output_tokens_per_s_per_gpu * score.gpus,
        **{key: 1e3 * v for field, key in keys.items() if (v := getattr(score, field)) is not None},
    }
    if score.usd_per_hour is not None:
        figures["usd_per_hour"] = score.usd_per_hour
    if score.usd_per_million_tokens is not None:
        figures["usd_per_million_output_tokens"] = score.usd_per_million_tokens
    held = plan.confidence.intervals if plan.confidence is not None else ()
    intervals = {keys[i.name]: (1e3 * i.low, 1e3 * i.high) for i in held if i.name in keys}
    traffic = {
        "request_rate": rate,
        "tokens in a request": asked.mean_input_tokens,
        "tokens out a request": asked.mean_output_tokens,
    }
    return Side(plan.name or path.name, "predicted", figures, traffic, asked.model, intervals)


def comparison_lines(sides: Sequence[Side]) -> list[str]:
    """A table with a line a figure: each side's value, and its ratio to the first side's."""
    found = rows(sides)
    judged = any(row.inside is not None for row in found)
    head = ["", *(f"{side.name} ({side.kind})" for side in sides[:1])]
    for side in sides[1:]:
        head += [f"{side.name} ({side.kind})", "ratio"]
    table = [[*head, *(["as expected"] if judged else [])]]
    for row in found:
        cells = [row.name + (f" [{row.unit}]" if row.unit else ""), _shown(row.values[0])]
        for value, ratio in zip(row.values[1:], row.ratios[1:], strict=True):
            cells += [_shown(value), f"{ratio:.3f}" if ratio is not None else "-"]
        table.append([*cells, *([_judged(row)] if judged else [])])
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = [
        "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                  for i, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip()
        for line in table
    ]  # fmt: skip
    return [*lines, *(f"note: {remark}" for remark in remarks(sides))]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _judged(row: Row) -> str:
    return {True: "yes", False: "no", None: ""}[row.inside]


def comparison_json(sides: Sequence[Side]) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "sides": [{"name": side.name, "kind": side.kind} for side in sides],
        "figures": {
            row.name: {"unit": row.unit, "values": row.values, "ratios": row.ratios, "as_expected": row.inside}
            for row in rows(sides)
        },
        "notes": list(remarks(sides)),
    }
