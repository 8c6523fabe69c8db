"""A comparison as a page: how far each figure is from the first side's, and the figures themselves."""

from collections.abc import Sequence
from pathlib import Path

from simulator import __version__
from simulator.errors import OutputError
from simulator.metrics.compare import Row, Side, remarks, rows
from simulator.report.figures.figure import Figure, axis, short
from simulator.report.page.build import document
from simulator.report.page.html import Plots, section, table, tag, text

COLOURS = ("@blue", "@orange", "@teal", "@violet", "@ochre", "@red", "@sky")
INSIDE = {True: "yes", False: "no", None: "-"}


def write_page(target: Path, sides: Sequence[Side]) -> None:
    """Write the page. Raises OutputError where it cannot be written, DataError where nothing is in common."""
    try:
        target.write_text(comparison_page(sides), encoding="utf-8")
    except OSError as failure:
        raise OutputError(where=str(target), given="", rule=f"cannot be written: {failure.strerror}") from None


def comparison_page(sides: Sequence[Side]) -> str:
    """HTML of the whole page."""
    found, plots = rows(sides), Plots()
    title = f"{sides[0].name} beside {' and '.join(side.name for side in sides[1:])}"
    notes = "".join(tag("li", text(remark)) for remark in remarks(sides))
    said = f'<ul class="warnings">{notes}</ul>' if notes else ""
    inside = tag("h1", text(title), class_="headline") + said
    inside += section("Differences", plots.place(_ratios(sides, found)))
    inside += section("Figures", _table(sides, found))
    return document(plots, title, "", inside, f"shardsim {__version__}")


def _ratios(sides: Sequence[Side], found: Sequence[Row]) -> Figure:
    """A bar a figure and side: more or less than the first side's, in percent."""
    names = [row.name for row in reversed(found)]
    traces = []
    for index, side in enumerate(sides[1:], start=1):
        known = [row.ratios[index] for row in reversed(found)]
        traces.append({
            "type": "bar", "orientation": "h", "name": side.name, "y": names,
            "x": [None if ratio is None else short([100.0 * (ratio - 1.0)], 4)[0] for ratio in known],
            "marker": {"color": COLOURS[(index - 1) % len(COLOURS)]},
            "hovertemplate": f"{text(side.name)}: %{{x:+.3g}}% in %{{y}}<extra></extra>",
        })  # fmt: skip
    layout = {
        "barmode": "group", "xaxis": axis(f"more than {sides[0].name}, %", zeroline=True),
        "yaxis": {"automargin": True}, "showlegend": len(sides) > 2, "bargap": 0.3,
    }  # fmt: skip
    return Figure("More or less than the first", traces, layout, height=140 + 26 * len(found) * (len(sides) - 1))


def _table(sides: Sequence[Side], found: Sequence[Row]) -> str:
    judged = any(row.inside is not None for row in found)
    head = ["figure", "unit", *(f"{side.name} ({side.kind})" for side in sides), *(["as expected"] if judged else [])]
    lines = [
        (row.name, row.unit, *("-" if value is None else f"{value:,.4g}" for value in row.values),
         *([INSIDE[row.inside]] if judged else []))
        for row in found
    ]  # fmt: skip
    return table(head, lines, numeric=range(2, 2 + len(sides)))
