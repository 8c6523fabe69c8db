"""Pareto fronts: every candidate that was scored, and the line of those that none beats."""

from collections.abc import Sequence
from math import inf
from typing import Any

from simulator.planning.result import Evaluation, ParetoFront, PlanResult
from simulator.report.figures.figure import Figure, axis, short
from simulator.report.plan.words import AXES, candidate_text, figure

_GROUPS = (("one pool", False, "@blue"), ("prefill and decode apart", True, "@orange"))
MOST_POINTS = 2_000
"""Points behind a front; the best of them come first, so the ones left out lie far from it."""


def fronts(result: PlanResult) -> list[Figure]:
    """One figure a front."""
    scored = [e for e in result.evaluations if e.score is not None][:MOST_POINTS]
    return [_front(result, front, scored) for front in result.pareto if front.ids]


def _points(evaluations: Sequence[Evaluation], front: ParetoFront) -> tuple[list[float], list[float], list[str]]:
    xs, ys, texts = [], [], []
    for each in evaluations:
        assert each.score is not None
        x, y = figure(each.score, front.x), figure(each.score, front.y)
        if x is None or y is None:
            continue
        xs.append(x * AXES[front.x].factor)
        ys.append(y * AXES[front.y].factor)
        texts.append(candidate_text(each.candidate))
    return short(xs, 4), short(ys, 4), texts


def _trace(evaluations: Sequence[Evaluation], front: ParetoFront, name: str, **more: Any) -> dict[str, Any]:
    xs, ys, texts = _points(evaluations, front)
    shown = f"%{{text}}<br>{AXES[front.x].label}: %{{x}}<br>{AXES[front.y].label}: %{{y}}<extra></extra>"
    return {"type": "scatter", "name": name, "x": xs, "y": ys, "text": texts, "hovertemplate": shown, **more}


def _front(result: PlanResult, front: ParetoFront, scored: Sequence[Evaluation]) -> Figure:
    by_id = {each.candidate.id: each for each in scored}
    best = [by_id[name] for name in front.ids if name in by_id]
    simulated = all(each.status == "confirmed" for each in best)
    traces = [
        _trace(best, front, f"none {'simulated ' if simulated else ''}is better in both", mode="lines+markers",
               line={"color": "@ink", "width": 1.5, "dash": "dot"}, marker={"size": 11, "color": "@ink"})
    ]  # fmt: skip
    if simulated and len(wide := _undominated(scored, front)) > 1:
        line = {"color": "@grey", "width": 1.2, "dash": "dot"}
        traces.insert(0, _trace(wide, front, "none is better, steady state included", mode="lines", line=line))
    for name, apart, colour in _GROUPS:
        some = [each for each in scored if each.candidate.separated == apart]
        if some:
            style = {"size": 7, "color": colour, "opacity": [0.95 if e.holds else 0.35 for e in some],
                     "symbol": ["circle" if e.status == "confirmed" else "circle-open" for e in some]}  # fmt: skip
            traces.append(_trace(some, front, name, mode="markers", marker=style))
    if result.winner is not None and result.winner.score is not None:
        star = {"size": 17, "symbol": "star", "color": "@red", "line": {"width": 1, "color": "@card"}}
        traces.append(_trace([result.winner], front, "the plan", mode="markers", marker=star))
    better = f"Better lies {'up' if front.y_up else 'down'} and {'right' if front.x_up else 'left'}. "
    better += "Full: simulated; open: by steady-state analysis; faint: misses a limit."
    layout = {
        "xaxis": axis(_title(front.x), rangemode="tozero"),
        "yaxis": axis(_title(front.y), rangemode="tozero"),
        "legend": {"y": -0.2},
    }
    name = f"{AXES[front.y].label} against {AXES[front.x].label}"
    return Figure(name[:1].upper() + name[1:], traces, layout, better, height=460, tools=True)


def _undominated(evaluations: Sequence[Evaluation], front: ParetoFront) -> list[Evaluation]:
    """Those that hold and that no other beats on both axes, in order of x."""

    def place(each: Evaluation) -> tuple[float, float] | None:
        assert each.score is not None
        x, y = figure(each.score, front.x), figure(each.score, front.y)
        return None if x is None or y is None else (x if front.x_up else -x, y if front.y_up else -y)

    placed = [(at, each) for each in evaluations if each.holds and (at := place(each)) is not None]
    best: list[Evaluation] = []
    top = -inf
    for (_, y), each in sorted(placed, key=lambda pair: pair[0], reverse=True):
        if y > top:
            best.append(each)
            top = y
    return best[::-1] if front.x_up else best


def _title(field: str) -> str:
    unit = AXES[field].unit
    return f"{AXES[field].label}, {unit}" if unit and unit not in AXES[field].label else AXES[field].label
