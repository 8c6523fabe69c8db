"""Load, cost and traffic: how latency and price move with the load, and what the day looks like."""

from collections.abc import Mapping, Sequence
from typing import Any

from simulator.planning.result import Evaluation, LoadPoint, PlanResult, Score
from simulator.report.figures.figure import Figure, axis, short
from simulator.report.plan.words import AXES, candidate_text, limits_of, percentile_text

COLOURS = ("@blue", "@orange", "@teal", "@violet", "@ochre", "@red", "@sky", "@brown")
MOST_CURVES = 5
_TRAFFIC = (("ttft_s", "@orange"), ("tpot_s", "@teal"))


_LEGEND = {"orientation": "h", "y": -0.24, "yanchor": "top", "font": {"size": 11}}
_TALL = 470
"""Room for a legend of whole candidates below the plot."""


def _by_candidate(result: PlanResult) -> dict[str, list[LoadPoint]]:
    """Points of each candidate in order of load; the winner first."""
    found: dict[str, list[LoadPoint]] = {}
    if result.winner is not None:
        found[result.winner.candidate.id] = []
    for point in result.load_points:
        found.setdefault(point.candidate_id, []).append(point)
    return {
        name: sorted(points, key=lambda point: point.requests_per_s)
        for name, points in list(found.items())[:MOST_CURVES]
        if points
    }


def _known(result: PlanResult) -> Mapping[str, Evaluation]:
    return {each.candidate.id: each for each in result.evaluations}


def _limit(value: float, text: str, *, upright: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """A dashed line across the plot and its label."""
    along, across = ("x", "y") if upright else ("y", "x")
    line = {"type": "line", f"{along}0": value, f"{along}1": value, f"{across}0": 0, f"{across}1": 1,
            f"{along}ref": along, f"{across}ref": "paper",
            "line": {"color": "@bad", "width": 1.5, "dash": "dash"}}  # fmt: skip
    label = {along: value, across: 1, f"{along}ref": along, f"{across}ref": "paper", "text": text, "showarrow": False,
             "xanchor": "left" if upright else "right", "yanchor": "top" if upright else "bottom",
             "font": {"size": 11, "color": "@bad"}}  # fmt: skip
    return line, label


def _reach(values: Sequence[float], limit: float | None) -> list[float]:
    """A range of the axis that shows the limit, and does not follow a queue that grows without end."""
    top = max(values, default=1.0)
    return [0.0, 1.08 * (min(max(top, limit), 4 * limit) if limit is not None else top)]


def load_curves(result: PlanResult) -> list[Figure]:
    """Latency against load, a figure for each limit, of the candidates that were simulated."""
    curves, known = _by_candidate(result), _known(result)
    limits = limits_of(result.asked.slo)
    at = percentile_text(result.asked.slo)
    figures = []
    for field in [name for name in ("ttft_s", "tpot_s", "e2el_s") if name in limits or name != "e2el_s"]:
        factor, unit, limit = AXES[field].factor, AXES[field].unit, limits.get(field)
        if not curves:
            break
        traces, values = [], []
        for (name, points), colour in zip(curves.items(), COLOURS, strict=False):
            ys = [getattr(point, field) * factor for point in points]
            values += ys
            traces.append(_curve(known.get(name), name, points, ys, colour, f"{AXES[field].label}: %{{y}} {unit}"))
        bounds = [] if limit is None else [_limit(limit * factor, "limit")]
        layout = {
            "xaxis": axis("requests/s, all replicas together"), "legend": _LEGEND,
            "yaxis": axis(unit, range=_reach(values, None if limit is None else limit * factor)),
            "shapes": [line for line, _ in bounds], "annotations": [label for _, label in bounds],
        }  # fmt: skip
        title = AXES[field].label
        note = f"{at} of a simulation; a cross marks a load at which a limit is broken."
        figures.append(Figure(f"{title[:1].upper()}{title[1:]} against load", traces, layout, note, _TALL))
    return figures


def _curve(
    evaluation: Evaluation | None, name: str, points: Sequence[LoadPoint], ys: Sequence[float], colour: str, shown: str
) -> dict[str, Any]:
    label = candidate_text(evaluation.candidate) if evaluation is not None else name
    return {
        "type": "scatter", "mode": "lines+markers", "name": label, "line": {"color": colour, "width": 2},
        "x": short([point.requests_per_s for point in points], 4), "y": short(ys, 4),
        "marker": {"size": 7, "color": colour, "symbol": ["circle" if p.holds else "x" for p in points]},
        "hovertemplate": f"{label}<br>%{{x}} requests/s<br>{shown}<extra></extra>",
    }  # fmt: skip


def cost_curves(result: PlanResult) -> list[Figure]:
    """Dollars per million output tokens against load: the same GPUs, better and better used, until a limit breaks."""
    known = _known(result)
    traces = []
    simulated = _by_candidate(result)
    names = list(dict.fromkeys([*simulated, *(each.candidate_id for each in result.explanations)]))[:MOST_CURVES]
    for name, colour in zip(names, COLOURS, strict=False):
        each = known.get(name)
        if each is None or each.score is None or each.score.usd_per_hour is None:
            continue
        held = [point for point in simulated.get(name, []) if point.requests_per_s > 0]
        held = sorted(_loads(each.score) + held, key=lambda point: point.requests_per_s)
        tokens = [3600 * point.requests_per_s * result.asked.mean_output_tokens for point in held]
        ys = [1e6 * each.score.usd_per_hour / count for count in tokens]
        traces.append(_curve(each, name, held, ys, colour, "$%{y} per million output tokens"))
    if not traces:
        return []
    layout = {
        "xaxis": axis("requests/s, all replicas together", rangemode="tozero"),
        "legend": _LEGEND,
        "yaxis": axis("$ per million output tokens", rangemode="tozero"),
    }
    note = "GPUs as planned, up to the load that they hold; a cross marks a load at which a limit is broken."
    return [Figure("Cost against load", traces, layout, note, _TALL)]


def _loads(score: Score) -> list[LoadPoint]:
    """Loads up to what is held, for the price alone: where no load was simulated, no latency is known."""
    unknown = float("nan")
    rates = [part / 10 * score.load_requests_per_s for part in range(2, 11)]
    return [LoadPoint("", rate, unknown, unknown, unknown, holds=True) for rate in rates]


def traffic(result: PlanResult) -> list[Figure]:
    """Requests over time, and what users feel, with the limit: the winner at the real traffic."""
    if not result.traffic:
        return []
    last = result.traffic[-1].start_s
    factor, unit = (1 / 3600, "hours") if last > 7200 else (1 / 60, "minutes") if last > 180 else (1.0, "seconds")
    xs = short([point.start_s * factor for point in result.traffic], 6)
    came = {"type": "scatter", "mode": "lines", "x": xs, "y": short([p.requests_per_s for p in result.traffic], 4),
            "fill": "tozeroy", "line": {"color": "@blue", "width": 1.5, "shape": "hv"}, "name": "requests/s",
            "hovertemplate": f"%{{x}} {unit}: %{{y}} requests/s<extra></extra>"}  # fmt: skip
    figures = [
        Figure("Traffic", [came], {"xaxis": axis(unit), "yaxis": axis("requests/s", rangemode="tozero")}, height=240)
    ]
    limits, at = limits_of(result.asked.slo), percentile_text(result.asked.slo)
    for field, colour in _TRAFFIC:
        scale, shown = AXES[field].factor, AXES[field].unit
        ys = [None if (v := getattr(p, field)) is None else short([v * scale], 4)[0] for p in result.traffic]
        known = [value for value in ys if value is not None]
        if not known:
            continue
        limit = limits.get(field)
        bounds = [] if limit is None else [_limit(limit * scale, "limit")]
        trace = {"type": "scatter", "mode": "lines", "x": xs, "y": ys, "line": {"color": colour, "width": 1.8},
                 "name": AXES[field].label,
                 "hovertemplate": f"%{{x}} {unit}: %{{y}} {shown}<extra></extra>"}  # fmt: skip
        layout = {
            "xaxis": axis(unit), "yaxis": axis(shown, range=_reach(known, None if limit is None else limit * scale)),
            "shapes": [line for line, _ in bounds], "annotations": [label for _, label in bounds],
        }  # fmt: skip
        label = AXES[field].label
        title = f"{label[:1].upper()}{label[1:]}"
        figures.append(Figure(title, [trace], layout, f"{at} of the requests that came in each stretch.", height=260))
    return figures
