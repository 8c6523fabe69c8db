"""Where a step's time goes: by op, by layer."""

import pandas as pd

from simulator.metrics.result import RunResult
from simulator.report.digest import group_times, phases, rank_steps, step_time
from simulator.report.figures.figure import Figure, axis, short, time_unit
from simulator.report.kinds import GROUPS, group_of


def by_op(result: RunResult, ops: pd.DataFrame) -> list[Figure]:
    """A stacked bar for each phase, and the step's time beside it. `ops` is what digest.timed returns."""
    figures = []
    for phase in phases(result):
        groups, total_s = group_times(ops, phase), step_time(result, phase)
        factor, unit = time_unit(max(total_s, sum(time_s for _, time_s in groups)))
        traces = [
            {
                "type": "bar", "orientation": "h", "name": group.label, "y": [""], "x": short([time_s * factor]),
                "marker": {"color": group.colour}, "customdata": short([100 * time_s / total_s]),
                "hovertemplate": f"{group.label}: %{{x}} {unit}, %{{customdata:.3g}}% of the step<extra></extra>",
            }
            for group, time_s in groups
        ]  # fmt: skip
        line = {
            "type": "line", "xref": "x", "yref": "paper", "x0": total_s * factor, "x1": total_s * factor, "y0": 0,
            "y1": 1, "line": {"color": "@ink", "width": 2, "dash": "dot"},
        }  # fmt: skip
        label = {
            "x": total_s * factor, "y": 1, "xref": "x", "yref": "paper", "text": "step", "showarrow": False,
            "xanchor": "right", "yanchor": "bottom", "font": {"size": 11},
        }  # fmt: skip
        figures.append(
            Figure(
                f"{phase.capitalize()} step by op",
                traces,
                {
                    "barmode": "stack", "xaxis": axis(unit), "yaxis": {"visible": False}, "shapes": [line],
                    "annotations": [label], "legend": {"traceorder": "normal", "y": -0.55}, "bargap": 0.25,
                },
                "What an average rank spends on each; compute and communication overlap where the bar passes the line.",
                height=250,
            )
        )  # fmt: skip
    return figures


def by_layer(result: RunResult, ops: pd.DataFrame) -> list[Figure]:
    """Stacked bars over layers, a figure for each phase; what stands before and after the layers comes first, last."""
    figures = []
    for phase in phases(result):
        part = ops[ops["phase"] == phase]
        sums = part.groupby(["group", "layer"], observed=True)["time_s"].sum() / rank_steps(part)
        layers = sorted({int(x) for x in part["layer"].unique() if x >= 0})
        table = sums.unstack("group").fillna(0.0).reindex([-1, *layers, -2]).fillna(0.0)
        # A rank of a pipeline runs only its own layers: the mean above is over all ranks, so scale to those that do.
        owners = part[["layer", "pool", "rank"]].drop_duplicates().groupby("layer").size().reindex(table.index)
        table = table.mul(part[["pool", "rank"]].drop_duplicates().shape[0] / owners.fillna(1), axis=0)
        factor, unit = time_unit(float(table.sum(axis=1).max()))
        names = ["start", *map(str, layers), "end"]
        traces = [
            {
                "type": "bar", "name": group.label, "x": names, "y": short((table[group.label] * factor).tolist(), 4),
                "marker": {"color": group.colour, "line": {"width": 0}},
                "hovertemplate": f"layer %{{x}}<br>{group.label}: %{{y}} {unit}<extra></extra>",
            }
            for group in GROUPS
            if group.label in table
        ]  # fmt: skip
        layout = {"barmode": "stack", "bargap": 0.15, "xaxis": axis("layer", type="category", nticks=20)}
        figures.append(
            Figure(
                f"{phase.capitalize()} by layer", traces, {**layout, "yaxis": axis(unit)}, "Of the ranks that run it."
            )
        )
    return figures


def costliest(ops: pd.DataFrame, phase: str, most: int = 14) -> list[tuple[str, str, float, float, str, str]]:
    """(op, group, seconds a step, share, what binds, where the price comes from) of the costliest ops of a phase."""
    part = ops[ops["phase"] == phase]
    keys = ["op", "kind", "stream", "bound", "provenance"]
    sums = part.groupby(keys, observed=True)["time_s"].sum().reset_index()
    total, count = float(sums["time_s"].sum()) or 1.0, rank_steps(part)
    top = sums.nlargest(most, "time_s")
    return [
        (str(op), group_of(str(kind), str(stream)).label, float(s) / count, float(s) / total, str(bound), str(origin))
        for op, kind, stream, bound, origin, s in top.itertuples(index=False)
    ]
