"""Links, memory, experts and the hand-over."""

import numpy as np
import pandas as pd

from simulator.metrics.result import RunResult
from simulator.report.digest import bytes_by_class
from simulator.report.figures.figure import Figure, axis, byte_unit, short

LINK_COLOURS = {
    "NVLink": "@teal", "xGMI": "@teal", "PCIe": "@violet", "socket": "@lilac", "NIC": "@orange",
    "leaf-spine": "@red", "spine-core": "@brown",
}  # fmt: skip
MEMORY_PARTS = (("weights", "@blue"), ("kv_cache", "@teal"), ("activations", "@amber"))
GIB = 2.0**30


def links(result: RunResult, most: int = 16) -> list[Figure]:
    """Bytes by class of link, and the links that were busy longest."""
    if result.links.empty:
        return []
    sums = bytes_by_class(result)
    factor, unit = byte_unit(max(sums.values()))
    classes = {
        "type": "bar", "orientation": "h", "y": list(sums), "x": short(value * factor for value in sums.values()),
        "marker": {"color": [LINK_COLOURS.get(name, "@grey") for name in sums]},
        "hovertemplate": f"%{{y}}: %{{x}} {unit}<extra></extra>",
    }  # fmt: skip
    note = "Over the whole run, each link a message crosses counted."
    flat = {"xaxis": axis(unit), "yaxis": {"autorange": "reversed"}, "showlegend": False}
    first = Figure("Bytes by class of link", [classes], flat, note, height=110 + 46 * len(sums))
    return [first, _busiest(result, most)]


def _busiest(result: RunResult, most: int) -> Figure:
    span_s = float(result.steps["time_s"].sum()) or 1.0
    top = result.links.assign(use=100 * result.links["busy_s"] / span_s).nlargest(most, "use")
    names = [f"{a} → {b}" for a, b in zip(top["source"], top["destination"], strict=True)]
    trace = {
        "type": "bar", "orientation": "h", "y": names, "x": short(top["use"].tolist(), 4),
        "marker": {"color": [LINK_COLOURS.get(str(name), "@grey") for name in top["link_class"]]},
        "customdata": [f"{name}, {size / 1e9:.3g} GB at {rate / 1e9:.4g} GB/s" for name, size, rate in
                       zip(top["link_class"], top["bytes"], top["bandwidth_bytes_per_s"], strict=True)],
        "hovertemplate": "%{y}<br>%{customdata}<br>busy %{x}% of the time<extra></extra>",
    }  # fmt: skip
    layout = {"xaxis": axis("% of the time at full rate"), "yaxis": {"autorange": "reversed"}, "showlegend": False}
    note = f"The {len(top)} busiest of {len(result.links)} links that carried anything."
    return Figure("Busiest links", [trace], layout, note, height=110 + 24 * len(top))


def memory(result: RunResult) -> list[Figure]:
    """Bytes a GPU, stacked, against its capacity."""
    frame = result.memory
    if frame.empty:
        return []
    several = frame["pool"].nunique() > 1
    names = [f"{p} {r}" if several else str(r) for p, r in zip(frame["pool"], frame["rank"], strict=True)]
    traces = [
        {
            "type": "bar", "name": part.replace("_", " "), "x": names, "y": short(frame[f"{part}_bytes"] / GIB, 4),
            "marker": {"color": colour},
            "hovertemplate": f"rank %{{x}}<br>{part.replace('_', ' ')}: %{{y}} GiB<extra></extra>",
        }
        for part, colour in MEMORY_PARTS
    ]  # fmt: skip
    capacity = {
        "type": "scatter", "mode": "lines", "name": "capacity", "x": names,
        "y": short(frame["capacity_bytes"] / GIB, 4),
        "line": {"color": "@ink", "dash": "dot", "width": 2}, "hovertemplate": "capacity: %{y} GiB<extra></extra>",
    }  # fmt: skip
    layout = {
        "barmode": "stack", "bargap": 0.2 if len(frame) < 40 else 0, "xaxis": axis("rank", type="category", nticks=24),
        "yaxis": axis("GiB", rangemode="tozero"),
    }  # fmt: skip
    return [Figure("Memory of each GPU", [*traces, capacity], layout)]


def experts(result: RunResult) -> list[Figure]:
    """How busy experts are: as priced, and as the miniature's router chose, busiest first."""
    frame = result.expert_load
    if frame.empty:
        return []
    count = int(frame["expert"].nunique())
    rank = list(range(1, count + 1))
    sorted_routed = [np.sort(part["routed_share"].to_numpy())[::-1] for _, part in frame.groupby("layer")]
    first = frame[frame["layer"] == frame["layer"].min()]
    expected = np.sort(first["expected_share"].to_numpy())[::-1] * count
    routed = np.mean(sorted_routed, axis=0) * count
    traces = [
        _curve("as priced", rank, expected, "@violet", "solid"),
        _curve("the miniature's router", rank, routed, "@orange", "solid"),
        _curve("even", rank, np.ones(count), "@grey", "dot"),
    ]
    layout = {"xaxis": axis("experts, busiest first"), "yaxis": axis("load over the mean", rangemode="tozero")}
    note = "The router's curve is of few tokens and random weights: its unevenness is mostly chance."
    return [Figure("Load of experts", traces, layout, note)]


def _curve(
    name: str, x: list[int], y: "np.ndarray[tuple[int], np.dtype[np.float64]]", colour: str, dash: str
) -> dict[str, object]:
    return {
        "type": "scatter", "mode": "lines", "name": name, "x": x, "y": short(y.tolist(), 4),
        "line": {"color": colour, "dash": dash, "width": 2, "shape": "hv"},
        "hovertemplate": f"{name}: %{{y}}<extra></extra>",
    }  # fmt: skip


def handover(result: RunResult) -> list[Figure]:
    """Bytes from each prefill rank to each decode rank."""
    frame = result.handover
    if frame.empty:
        return []
    table: pd.DataFrame = frame.pivot_table("bytes", "source_rank", "destination_rank", "sum", fill_value=0.0)
    factor, unit = byte_unit(float(table.to_numpy().max()))
    trace = {
        "type": "heatmap", "x": [f"to {r}" for r in table.columns], "y": [f"from {r}" for r in table.index],
        "z": [short((row * factor).tolist(), 4) for row in table.to_numpy()], "colorscale": "@ramp",
        "zmin": 0,
        "hovertemplate": f"prefill rank %{{y}}, decode rank %{{x}}: %{{z}} {unit}<extra></extra>",
        "colorbar": {"title": {"text": unit}, "thickness": 12, "outlinewidth": 0}, "xgap": 2, "ygap": 2,
    }  # fmt: skip
    layout = {"xaxis": axis("decode rank", type="category"), "yaxis": axis("prefill rank", type="category")}
    return [Figure("KV cache between pools", [trace], layout, height=min(640, 200 + 26 * len(table)))]
