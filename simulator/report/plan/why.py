"""Why the plan is what it is: what binds, where a step's time goes, what each input moves, how sure it is."""

from collections.abc import Sequence
from typing import Any

from simulator.planning.result import BudgetItem, Confidence, Explanation, PlanResult, Sensitivity
from simulator.report.figures.figure import Figure, axis, short, time_unit
from simulator.report.page.html import table, tag, text
from simulator.report.plan.words import AXES, BINDING, candidate_text

PROVENANCE = {"measured": "@teal", "fitted": "@blue", "roofline": "@amber", "host": "@grey"}
_KINDS = ("@blue", "@violet", "@teal", "@orange", "@sky", "@ochre", "@lilac", "@red", "@brown", "@amber")


def budget(result: PlanResult) -> list[Figure]:
    """The latency budget of the winner: a bar for each phase and pool, cut by kind of op."""
    items = result.explanations[0].budget if result.explanations else ()
    parts = list(dict.fromkeys((item.phase, item.pool) for item in items))
    colours = {name: _KINDS[i % len(_KINDS)] for i, name in enumerate(dict.fromkeys(item.name for item in items))}
    several = len({phase for phase, _ in parts}) < len(parts)
    return [_budget([i for i in items if (i.phase, i.pool) == part], part, colours, several) for part in parts]


def _budget(items: Sequence[BudgetItem], part: tuple[str, int], colours: dict[str, str], several: bool) -> Figure:
    total_s = sum(item.seconds for item in items)
    factor, unit = time_unit(total_s)
    traces: list[dict[str, Any]] = [
        {
            "type": "bar", "orientation": "h", "name": item.name, "y": [""], "x": short([item.seconds * factor], 4),
            "marker": {"color": colours[item.name]},
            "customdata": [f"{item.share:.1%} of the step; {item.provenance}, ±{item.error:.0%}"],
            "hovertemplate": f"{item.name}: %{{x}} {unit}<br>%{{customdata}}<extra></extra>",
        }
        for item in sorted(items, key=lambda item: -item.seconds)
    ]  # fmt: skip
    layout = {
        "barmode": "stack", "xaxis": axis(unit), "yaxis": {"visible": False}, "bargap": 0.3,
        "legend": {"traceorder": "normal", "y": -0.5},
    }  # fmt: skip
    phase, pool = part
    of = f" of pool {pool + 1}" if several else ""
    name = f"{phase.capitalize()} step{of}: {total_s * factor:.3g} {unit}"
    return Figure(name, traces, layout, "At the planned load; hover for share, origin and error.", height=250)


def limits(result: PlanResult) -> list[Figure]:
    """How much of each limit the winner uses; the longest bar binds."""
    found = result.explanations[0].limits if result.explanations else ()
    held = sorted(found, key=lambda limit: limit.used)
    if not held:
        return []
    colours = ["@bad" if limit.used > 1.0 else "@blue" for limit in held]
    colours[-1] = "@bad" if held[-1].used > 1.0 else "@orange"
    bars = {
        "type": "bar", "orientation": "h", "y": [BINDING[limit.constraint] for limit in held],
        "x": short([100 * limit.used for limit in held], 4), "marker": {"color": colours},
        "customdata": [f"{limit.value:.4g} of {limit.limit:.4g}" for limit in held],
        "hovertemplate": "%{y}: %{x}%<br>%{customdata}<extra></extra>",
    }  # fmt: skip
    full = {"type": "line", "xref": "x", "yref": "paper", "x0": 100, "x1": 100, "y0": 0, "y1": 1,
            "line": {"color": "@bad", "width": 1.5, "dash": "dash"}}  # fmt: skip
    reach = [0, max(108.0, 105.0 * held[-1].used)]
    layout = {"xaxis": axis("% of the limit", range=reach), "shapes": [full], "showlegend": False, "bargap": 0.35}
    return [Figure("What binds", [bars], layout, height=120 + 34 * len(held))]


def tornado(result: PlanResult) -> list[Figure]:
    """What changing one input does to the plan's metric, largest first; a figure for each metric."""
    metrics = dict.fromkeys(each.metric for each in result.sensitivity)
    return [_tornado(metric, [each for each in result.sensitivity if each.metric == metric]) for metric in metrics]


def _change(each: Sensitivity) -> float:
    return 100.0 * (each.after / each.before - 1.0) if each.after is not None and each.before else 0.0


def _tornado(metric: str, held: Sequence[Sensitivity]) -> Figure:
    rows = sorted(held, key=lambda each: (each.after is None, abs(_change(each))))
    less_is_better = "requests/s" not in metric
    colours, texts, hovers = [], [], []
    for each in rows:
        good = (_change(each) <= 0) == less_is_better
        colours.append("@grey" if each.after is None else "@teal" if good else "@orange")
        texts.append("no longer holds" if each.after is None else f"{each.before:,.4g} → {each.after:,.4g}")
        hovers.append(each.note or texts[-1])
    widest = max((abs(_change(each)) for each in rows), default=0.0) or 1.0
    bars = {
        "type": "bar", "orientation": "h", "y": [each.name for each in rows], "x": short([_change(e) for e in rows], 4),
        "marker": {"color": colours}, "text": texts, "textposition": "outside", "cliponaxis": False,
        "customdata": hovers,
        "hovertemplate": "%{y}: %{x:+.3g}%<br>%{customdata}<extra></extra>",
    }  # fmt: skip
    layout = {
        "xaxis": axis(f"change of {metric}, %", range=[-1.45 * widest, 1.45 * widest], zeroline=True),
        "yaxis": {"automargin": True}, "showlegend": False, "bargap": 0.3,
    }  # fmt: skip
    note = "The same design with one input changed: what the fleet holds changes as its steady state does."
    return Figure(f"What moves {metric}", [bars], layout, note, height=120 + 30 * len(rows))


def confidence_figure(confidence: Confidence) -> list[Figure]:
    """Shares of the critical path by origin."""
    traces = [
        {
            "type": "bar", "orientation": "h", "name": name, "y": [""], "x": short([100 * share], 4),
            "marker": {"color": PROVENANCE.get(name, "@grey")}, "hovertemplate": f"{name}: %{{x}}%<extra></extra>",
        }
        for name, share in confidence.provenance
    ]  # fmt: skip
    layout = {"barmode": "stack", "xaxis": axis("% of the time on the critical path", range=[0, 100]),
              "yaxis": {"visible": False}, "legend": {"traceorder": "normal", "y": -0.75}}  # fmt: skip
    return [Figure("Where the times come from", traces, layout, height=190)] if traces else []


def confidence_table(confidence: Confidence) -> str:
    """Each predicted figure with its interval and the validation it comes from."""
    rows = []
    for each in confidence.intervals:
        words = AXES.get(each.name)
        label = words.label if words else each.name
        shown = [words.text(v) if words else f"{v:.4g}" for v in (each.value, each.low, each.high)]
        rows.append((label, shown[0], f"{shown[1]} to {shown[2]}", f"±{each.error:.0%}", each.source))
    head = ("figure", "predicted", "interval", "median error", "validated on")
    return table(head, rows, numeric=(1, 2, 3)) if rows else ""


def _largest(items: Sequence[BudgetItem], most: int = 3) -> str:
    """`decode 21 ms: attention 45 %, GEMM 30 %, host 9 %` for each phase."""
    told = []
    for phase in dict.fromkeys(item.phase for item in items):
        mine = sorted((item for item in items if item.phase == phase), key=lambda item: -item.seconds)
        factor, unit = time_unit(total := sum(item.seconds for item in mine))
        shares = ", ".join(f"{item.name} {item.share:.0%}" for item in mine[:most])
        told.append(f"{phase} {total * factor:.3g} {unit}: {shares}")
    return "; ".join(told)


def _moves(changes: Sequence[Sensitivity]) -> str:
    """`10 % more traffic: GPUs 8 → 9` for each change."""
    if not changes:
        return ""
    told = [f"{c.name}: {'no longer holds' if c.after is None else f'{c.after:.3g}'}" for c in changes]
    return f"{changes[0].metric} {changes[0].before:.3g}; " + "; ".join(told)


def neighbours(result: PlanResult, explanations: Sequence[Explanation]) -> str:
    """The winner's neighbours: what binds each, in a sentence."""
    known = {each.candidate.id: each for each in result.evaluations}
    rows = []
    for each in explanations:
        found = known.get(each.candidate_id)
        score = found.score if found is not None else None
        rows.append((
            candidate_text(found.candidate) if found is not None else each.candidate_id,
            AXES["gpus"].text(score.gpus) if score is not None else "-",
            AXES["usd_per_million_tokens"].text(score.usd_per_million_tokens) if score is not None else "-",
            BINDING[each.binding],
            each.text,
            _largest(each.budget) or "-",
            _moves(each.sensitivity) or "-",
        ))  # fmt: skip
    if not rows:
        return ""
    head = ("instead", "GPUs", "$/M tokens", "binds", "why not", "a step's time", "what moves it")
    return tag("h3", text("Its neighbours")) + f'<div class="wrap">{table(head, rows, numeric=(1, 2))}</div>'
