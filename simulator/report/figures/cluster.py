"""A cluster drawn tier by tier."""

from simulator.report.figures.figure import Figure
from simulator.report.figures.resources import LINK_COLOURS
from simulator.topology.draw import Drawing

VERTEX_COLOURS = {
    "gpu": "@blue", "nvswitch": "@teal", "pcie_switch": "@violet", "cpu": "@grey", "nic": "@orange", "leaf": "@red",
    "spine": "@brown", "core": "@ochre",
}  # fmt: skip


def cluster_figure(drawing: Drawing) -> Figure:
    """Vertices by kind, links by class; the middle of a link tells its bandwidth and latency."""
    at = {vertex.vertex: (vertex.x, vertex.y) for vertex in drawing.vertices}
    traces = []
    for name in dict.fromkeys(link.link_class for link in drawing.links):
        mine = [link for link in drawing.links if link.link_class == name]
        xs: list[float | None] = []
        ys: list[float | None] = []
        for link in mine:
            (x0, y0), (x1, y1) = at[link.source], at[link.destination]
            xs, ys = [*xs, x0, x1, None], [*ys, y0, y1, None]
        colour = LINK_COLOURS.get(name, "@grey")
        traces.append({"type": "scatter", "mode": "lines", "name": name, "x": xs, "y": ys, "hoverinfo": "skip",
                       "line": {"color": colour, "width": 1}, "opacity": 0.55})  # fmt: skip
        ends = [(at[link.source], at[link.destination]) for link in mine]
        middle = [((a[0] + b[0]) / 2, (a[1] + b[1]) / 2) for a, b in ends]
        traces.append({"type": "scatter", "mode": "markers", "x": [x for x, _ in middle], "y": [y for _, y in middle],
                       "text": [link.label for link in mine], "hovertemplate": "%{text}<extra></extra>",
                       "marker": {"size": 9, "opacity": 0, "color": colour}, "showlegend": False})  # fmt: skip
    for kind in dict.fromkeys(vertex.kind for vertex in drawing.vertices):
        mine_too = [vertex for vertex in drawing.vertices if vertex.kind == kind]
        traces.append({"type": "scatter", "mode": "markers", "name": kind.replace("_", " "),
                       "x": [v.x for v in mine_too], "y": [v.y for v in mine_too], "text": [v.label for v in mine_too],
                       "hovertemplate": "%{text}<extra></extra>",
                       "marker": {"size": 12, "color": VERTEX_COLOURS[kind], "symbol": "square"}})  # fmt: skip
    hidden = {"visible": False}
    more = f"{drawing.nodes_left_out} more node(s) are left out." if drawing.nodes_left_out else ""
    return Figure("Topology", traces, {"xaxis": hidden, "yaxis": hidden, "hovermode": "closest"}, more, 560, tools=True)
