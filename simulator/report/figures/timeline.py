"""Ranks' streams over time, for as many ranks as a browser draws easily; the trace file has them all."""

import numpy as np
import pandas as pd

from simulator.metrics.result import RunResult
from simulator.report.digest import phases
from simulator.report.figures.figure import Figure, axis, short, time_unit
from simulator.report.kinds import GROUPS

MOST_BARS = 4000
"""SVG bars that a page redraws within about half a second when zoomed."""
MOST_RANKS = 8


def timelines(result: RunResult, ops: pd.DataFrame, most_bars: int = MOST_BARS) -> list[Figure]:
    """The last step of each phase. `ops` is what digest.timed returns."""
    return [_timeline(ops, phase, most_bars) for phase in phases(result)]


def _timeline(ops: pd.DataFrame, phase: str, most_bars: int) -> Figure:
    step = int(ops.loc[ops["phase"] == phase, "step"].max())
    part = ops[(ops["phase"] == phase) & (ops["step"] == step)]
    part = part.assign(start_s=part["start_s"] - part["start_s"].min())
    ranks = part[["pool", "rank"]].drop_duplicates().sort_values(["pool", "rank"])
    per_rank = len(part) / len(ranks)
    shown = int(np.clip(most_bars // per_rank, min(2, len(ranks)), min(MOST_RANKS, len(ranks))))
    chosen = ranks.iloc[np.unique(np.linspace(0, len(ranks) - 1, shown).round().astype(int))]
    part = part.merge(chosen, on=["pool", "rank"])
    cut = ""
    if len(part) > most_bars:
        end = float(np.sort(part["start_s"].to_numpy())[most_bars - 1])
        part, cut = part[part["start_s"] < end], " The first part of the step is shown."
    left_out = f" {shown} of {len(ranks)} ranks are drawn; the trace file has all." if shown < len(ranks) else ""
    return _drawn(part, chosen, phase, f"Step {step}. Drag to zoom, double-click to reset.{left_out}{cut}")


def _drawn(part: pd.DataFrame, ranks: pd.DataFrame, phase: str, note: str) -> Figure:
    factor, unit = time_unit(float((part["start_s"] + part["time_s"]).max()))
    rows = [f"{rank} {stream}" for _, rank in ranks.itertuples(index=False) for stream in ("compute", "comm")]
    rows.reverse()  # plotly's first category is at the bottom
    label = part["rank"].astype(str) + " " + part["stream"].astype(str)
    traces = []
    for group in GROUPS:
        of = part["group"] == group.label
        if not of.any():
            continue
        mine = part[of]
        traces.append(
            {
                "type": "bar", "orientation": "h", "name": group.label, "y": label[of].tolist(),
                "base": short((mine["start_s"] * factor).tolist(), 6),
                "x": short((mine["time_s"] * factor).tolist(), 4),
                "customdata": [f"{op}, layer {layer}" if layer >= 0 else str(op)
                               for op, layer in zip(mine["op"], mine["layer"], strict=True)],
                "marker": {"color": group.colour, "line": {"width": 0}},
                "hovertemplate": f"%{{customdata}}<br>%{{x}} {unit} from %{{base}} {unit}<extra>rank %{{y}}</extra>",
            }
        )  # fmt: skip
    layout = {
        "barmode": "overlay",
        "bargap": 0.12,
        "xaxis": axis(unit),
        "yaxis": axis("rank and stream", categoryorder="array", categoryarray=rows, fixedrange=True),
        "dragmode": "zoom",
        "hovermode": "closest",
    }
    return Figure(f"{phase.capitalize()} timeline", traces, layout, note, height=150 + 26 * len(rows), tools=True)
