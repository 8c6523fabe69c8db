"""The page about a plan: the answer, then everything behind it. Self-contained, as the page about a run is."""

import re
from collections.abc import Mapping
from importlib.resources import files

from simulator import __version__
from simulator.planning.launch_plan import Piece, material
from simulator.planning.result import PlanResult
from simulator.report.figures.figure import Figure
from simulator.report.page.build import document
from simulator.report.page.html import Plots, section, table, tag, text
from simulator.report.plan import curves, why
from simulator.report.plan.answer import headline, verdicts
from simulator.report.plan.candidates import candidates_data, candidates_table
from simulator.report.plan.fronts import fronts
from simulator.report.plan.heat import heat_maps
from simulator.report.plan.words import AXES, ENGINE, limits_of, percentile_text

OBJECTIVES = {
    "min_gpus": "the fewest GPUs for the load",
    "max_load": "the most load for the GPUs",
    "min_cost": "the lowest cost per million output tokens",
    "pareto": "everything that nothing else beats",
}
GROUPS = {**ENGINE, "kubernetes": "Kubernetes", "benchmark": "Benchmark"}


def plan_page(result: PlanResult, per_node: Mapping[str, int] | None = None) -> str:
    """HTML of the whole page. `per_node`: GPUs of a node by platform, for the launch commands."""
    plots = Plots()
    inside = _answer(result) + _sections(result, plots, per_node)
    assets = files("simulator.report.plan")
    style, script = (assets.joinpath(name).read_text(encoding="utf-8") for name in ("plan.css", "plan.js"))
    looked = len(result.evaluations)
    footer = f"shardsim {__version__} · {looked:,} candidates · figures are predictions"
    data = candidates_data(result)
    return document(plots, result.name, result.description, inside, footer, style=style, script=script, data=data)


def _answer(result: PlanResult) -> str:
    tiles = "".join(
        tag("div", f'<span class="question">{text(v.question)}</span><strong>{text(v.answer)}</strong>'
            f"<span>{text(v.detail)}</span>", class_=f"tile {v.state}")
        for v in verdicts(result)
    )  # fmt: skip
    notes = "".join(tag("li", text(note)) for note in result.notes)
    said = re.sub(r"(?<=\d) (?=\w)", "\u00a0", headline(result))
    listed = f'<ul class="warnings">{notes}</ul>' if notes else ""
    return tag("h1", text(f"{said}."), class_="headline") + tag("div", tiles, class_="tiles") + listed


def _sections(result: PlanResult, plots: Plots, per_node: Mapping[str, int] | None) -> str:
    relax = "".join(tag("li", text(each)) for each in result.relax)
    sure = result.confidence
    parts = [
        section("What to relax", f'<ol class="relax">{relax}</ol>' if relax else "", lead="The least first."),
        section("What was asked", _asked(result)),
        section("Why this one", _why(result, plots)),
        section("Trade-offs", plots.choice(fronts(result), 0), lead=_FRONTS),
        section("Layouts", plots.choice(heat_maps(result), _chosen(result))),
        section("Load and cost", _grid(plots, curves.load_curves(result) + curves.cost_curves(result))),
        section("Traffic", plots.all(curves.traffic(result)), lead=_TRAFFIC),
        section("What each input moves", plots.all(why.tornado(result))),
        section("How sure it is", _sure(result, plots) if sure is not None else ""),
        section("Launch", _launch(result, per_node), lead=_LAUNCH),
        section("All candidates", candidates_table()),
    ]
    return "".join(parts)


_FRONTS = "Every candidate that was scored, and the line of those that no other beats in both."
_TRAFFIC = "The plan at the real traffic, simulated; the dashed line is the limit."
_LAUNCH = (
    "Commands for the planned layout under each engine. The benchmark writes measured.json; "
    "shardsim compare measured.json PLAN/plan.json then puts it beside these predictions."
)


def _chosen(result: PlanResult) -> int:
    """The heat map that holds the winner: the last one for pools apart."""
    return -1 if result.winner is not None and result.winner.candidate.separated else 0


def _grid(plots: Plots, figures: list[Figure]) -> str:
    return tag("div", plots.all(figures), class_="grid") if figures else ""


def _asked(result: PlanResult) -> str:
    asked = result.asked
    limits = [f"{AXES[f].label} {AXES[f].text(v)}" for f, v in limits_of(asked.slo).items()]
    rows = [
        ("Model", asked.model),
        ("Goal", OBJECTIVES[asked.objective]),
        ("Traffic", asked.traffic),
        ("Limits", f"{'; '.join(limits)} at {percentile_text(asked.slo)}" if limits else "none"),
        ("Hardware", f"at most {asked.max_gpus} GPUs"),
    ]
    listed = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in rows)
    prices = [(p.platform, f"${p.usd_per_gpu_hour:.2f}", p.source) for p in asked.prices]
    head = ("GPU", "$ a GPU hour", "price from")
    return tag("dl", listed, class_="facts") + (table(head, prices, numeric=(1,)) if prices else "")


def _why(result: PlanResult, plots: Plots) -> str:
    if not result.explanations:
        return ""
    first, others = result.explanations[0], result.explanations[1:]
    drawn = plots.all(why.limits(result)) + _grid(plots, why.budget(result))
    return tag("p", text(first.text), class_="why") + drawn + why.neighbours(result, others)


def _sure(result: PlanResult, plots: Plots) -> str:
    assert result.confidence is not None
    words = tag("p", text(result.confidence.text), class_="why") if result.confidence.text else ""
    return words + plots.all(why.confidence_figure(result.confidence)) + why.confidence_table(result.confidence)


def _launch(result: PlanResult, per_node: Mapping[str, int] | None) -> str:
    if result.winner is None:
        return ""
    pieces = material(result, result.winner, per_node)
    planned = result.winner.candidate.pools[0].engine
    ordered = sorted(pieces, key=lambda piece: piece.group != planned)
    buttons = "".join(
        f'<button type="button" aria-pressed="{"true" if i == 0 else "false"}">{text(GROUPS[piece.group])}</button>'
        for i, piece in enumerate(ordered)
    )
    panes = "".join(f'<div class="tab"{" hidden" if i else ""}>{_block(p)}</div>' for i, p in enumerate(ordered))
    return f'<div class="tabs"><div class="buttons" role="group">{buttons}</div>{panes}</div>'


def _block(piece: Piece) -> str:
    if piece.refused:
        return tag("p", text(f"{GROUPS[piece.group]} cannot start this layout: {piece.refused}"), class_="refused")
    return f'<div class="code"><button type="button" class="copy">copy</button>{tag("pre", text(piece.text))}</div>'
