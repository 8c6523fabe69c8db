"""Bus bandwidth over message size."""

from collections.abc import Sequence

from simulator.report.figures.figure import Figure, axis, short
from simulator.units import format_bytes

COLOURS = ("@blue", "@orange", "@teal", "@violet", "@red", "@amber", "@brown")


def bandwidth_figure(
    size_bytes: Sequence[float],
    bus_bytes_per_s: Sequence[float],
    algorithm: Sequence[str],
    measured: Sequence[tuple[float, float]] = (),
) -> Figure:
    """A curve with a marker for each size, coloured by the algorithm that the library chooses.

    `measured` points (bytes, bus bytes/s) are drawn over it as crosses.
    """
    line = {
        "type": "scatter", "mode": "lines", "x": short(size_bytes, 8), "y": short(v / 1e9 for v in bus_bytes_per_s),
        "line": {"color": "@grey", "width": 1.5}, "hoverinfo": "skip", "showlegend": False,
    }  # fmt: skip
    traces = [line]
    for colour, name in zip(COLOURS, dict.fromkeys(algorithm), strict=False):
        mine = [i for i, each in enumerate(algorithm) if each == name]
        traces.append(
            {
                "type": "scatter", "mode": "markers", "name": name, "x": short((size_bytes[i] for i in mine), 8),
                "y": short(bus_bytes_per_s[i] / 1e9 for i in mine), "marker": {"color": colour, "size": 8},
                "customdata": [format_bytes(size_bytes[i]) for i in mine],
                "hovertemplate": f"%{{customdata}}: %{{y}} GB/s<extra>{name}</extra>",
            }
        )  # fmt: skip
    if measured:
        traces.append(
            {
                "type": "scatter", "mode": "markers", "name": "measured", "x": short((x for x, _ in measured), 8),
                "y": short(y / 1e9 for _, y in measured), "marker": {"color": "@grey", "size": 7, "symbol": "x"},
                "customdata": [format_bytes(x) for x, _ in measured],
                "hovertemplate": "%{customdata}: %{y} GB/s<extra>measured</extra>",
            }
        )  # fmt: skip
    layout = {
        "xaxis": axis("message, bytes", type="log", dtick=1),
        "yaxis": axis("bus bandwidth, GB/s", rangemode="tozero"),
    }
    return Figure("Bus bandwidth", traces, layout, "As nccl-tests counts it; predicted.", height=460)
