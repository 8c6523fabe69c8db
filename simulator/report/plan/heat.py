"""Heat maps of layouts: what each costs or does, grey where it does not fit, with the reason on hover."""

from collections.abc import Callable, Iterable
from html import escape
from typing import Any

from simulator.planning.result import Evaluation, PlanResult, PoolPlan
from simulator.report.figures.figure import Figure, short
from simulator.report.plan.words import AXES, ENGINE, candidate_text, figure, gpu_text, layout_text, state_text

MOST_ROWS, MOST_COLUMNS = 40, 24
Cell = tuple[str, str]


def heat_maps(result: PlanResult) -> list[Figure]:
    """Layouts against hardware for one pool, prefill against decode for pools apart; each cell shows its best."""
    field = "usd_per_million_tokens"
    if all(e.score is None or e.score.usd_per_million_tokens is None for e in result.evaluations):
        field = "output_tokens_per_s_per_gpu"
    mixed = [e for e in result.evaluations if not e.candidate.separated]
    apart = [e for e in result.evaluations if e.candidate.separated]
    figures = []
    if mixed:
        figures.append(_map("One pool: layouts", mixed, field, _of_one, "hardware, precision and engine"))
    if apart:
        figures.append(_map("Prefill and decode apart", apart, field, _of_two, "prefill"))
    return figures


def _hardware(pool: PoolPlan) -> str:
    precision = "" if pool.precision == "checkpoint" else f" {pool.precision}"
    kv = "" if pool.kv_cache in ("bf16", "checkpoint") else f", {pool.kv_cache} KV"
    return f"{gpu_text(pool.gpu)}{precision}{kv}<br>{ENGINE.get(pool.engine, pool.engine)}"


def _of_one(evaluation: Evaluation) -> Cell:
    pool = evaluation.candidate.pools[0]
    return layout_text(pool.layout), _hardware(pool)


def _of_two(evaluation: Evaluation) -> Cell:
    prefill, decode = sorted(evaluation.candidate.pools, key=lambda pool: pool.role != "prefill")
    return f"decode {layout_text(decode.layout)}, {gpu_text(decode.gpu)}", (
        f"{layout_text(prefill.layout)}<br>{gpu_text(prefill.gpu)}"
    )


def _best(evaluations: Iterable[Evaluation], cell: Callable[[Evaluation], Cell], field: str) -> dict[Cell, Evaluation]:
    """The best of each cell: one that holds before one that does not, then by the figure, then in the plan's order."""
    sign = -1.0 if AXES[field].up else 1.0

    def rank(each: Evaluation) -> tuple[bool, float]:
        value = figure(each.score, field) if each.score is not None else None
        return not each.holds, sign * value if value is not None else float("inf")

    found: dict[Cell, Evaluation] = {}
    for each in evaluations:
        key = cell(each)
        if key not in found or rank(each) < rank(found[key]):
            found[key] = each
    return found


def _map(
    name: str, evaluations: list[Evaluation], field: str, cell: Callable[[Evaluation], Cell], across: str
) -> Figure:
    best = _best(evaluations, cell, field)
    all_rows, all_columns = (list(dict.fromkeys(key[i] for key in best)) for i in (0, 1))
    rows, columns = all_rows[:MOST_ROWS], all_columns[:MOST_COLUMNS]
    values: list[list[float | None]] = []
    texts, hovers, grey = [], [], []
    for row in rows:
        line: list[float | None] = []
        for column in columns:
            each = best.get((row, column))
            value = figure(each.score, field) if each is not None and each.holds and each.score is not None else None
            line.append(None if value is None else short([value], 4)[0])
            texts.append("" if value is None else AXES[field].text(value))
            hovers.append(_hover(each, field))
            grey.append(each is not None and value is None)
        values.append(line)
    traces = _traces(rows, columns, values, hovers, texts, grey, field)
    left = len(all_rows) - len(rows) + len(all_columns) - len(columns)
    note = f"{AXES[field].label}, the best of each cell; grey: it does not hold, hover for the reason."
    note += f" {left} rows and columns of worse candidates are left out." if left else ""
    layout = {
        "xaxis": {"type": "category", "side": "top", "title": {"text": across}, "showgrid": False},
        "yaxis": {"type": "category", "autorange": "reversed", "showgrid": False},
        "showlegend": False,
    }
    return Figure(name, traces, layout, note[:1].upper() + note[1:], height=max(240, 130 + 30 * len(rows)))


def _traces(
    rows: list[str],
    columns: list[str],
    values: list[list[float | None]],
    hovers: list[str],
    texts: list[str],
    grey: list[bool],
    field: str,
) -> list[dict[str, Any]]:
    """Grey squares below, coloured ones above: a heat map draws no hover where it has no value."""
    width = len(columns)
    wrapped = [hovers[i : i + width] for i in range(0, len(hovers), width)]
    shown = [texts[i : i + width] for i in range(0, len(texts), width)]
    dead = [[1 if flag else None for flag in grey[i : i + width]] for i in range(0, len(grey), width)]
    common = {"type": "heatmap", "x": columns, "y": rows, "customdata": wrapped, "xgap": 2, "ygap": 2,
              "hovertemplate": "%{customdata}<extra></extra>"}  # fmt: skip
    bar = {"title": {"text": AXES[field].unit, "side": "top"}, "thickness": 12, "outlinewidth": 0}
    return [
        {**common, "z": dead, "colorscale": "@dead", "showscale": False},
        {**common, "z": values, "colorscale": "@ramp", "reversescale": not AXES[field].up, "colorbar": bar,
         "text": shown, "texttemplate": "%{text}"},
    ]  # fmt: skip


def _hover(evaluation: Evaluation | None, field: str) -> str:
    if evaluation is None:
        return "not looked at"
    lines = [candidate_text(evaluation.candidate), evaluation.reason]
    if evaluation.score is not None:
        shown = ("gpus", field, "ttft_s", "tpot_s")
        lines += [f"{AXES[name].label}: {AXES[name].text(figure(evaluation.score, name))}" for name in shown]
    return f"<b>{state_text(evaluation)}</b><br>" + "<br>".join(_wrapped(line) for line in lines if line)


def _wrapped(text: str, width: int = 70) -> str:
    """Plotly's hover labels do not break lines."""
    lines, line = [], ""
    for word in escape(text, quote=False).split(" "):
        if line and len(line) + len(word) > width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return "<br>".join([*lines, line])
