"""`shardsim topology`: a cluster in words or drawn, or read from what a machine prints."""

import sys
from pathlib import Path

from simulator.commands.text import write_new, written
from simulator.errors import OutputError, TopologyError
from simulator.report.figures.cluster import cluster_figure
from simulator.report.page.build import figure_page
from simulator.scenario.topology_file import dump_topology, load_topology, write_topology
from simulator.topology.describe import describe
from simulator.topology.draw import draw
from simulator.topology.importers import import_topology


def show_command(topology: str, nodes: int | None, plot: Path | None) -> None:
    """Print parts, links and routes; draw them where `plot` names a file."""
    cluster = load_topology(topology, nodes)
    print(describe(cluster))
    if plot is not None:
        drawing = draw(cluster)
        title = f"{cluster.name}: {cluster.gpus} × {cluster.device().name}"
        write_new(plot, figure_page([cluster_figure(drawing)], title, cluster.spec.description))
        print(written(plot), file=sys.stderr)


def import_command(dump: Path, out: Path | None, gpu: str | None) -> None:
    """Write the topology file that a machine's own dump describes, or print it where `out` is None."""
    try:
        text = sys.stdin.read() if str(dump) == "-" else dump.read_text(encoding="utf-8", errors="replace")
    except OSError as failure:
        raise TopologyError(where=str(dump), given="", rule=f"cannot be read: {failure.strerror}") from None
    spec = import_topology(text, gpu, out.stem if out else "imported")
    if out is None:
        print(spec.description, file=sys.stderr)
        write_topology(spec, sys.stdout)
        return
    if out.exists():
        raise OutputError(given=str(out), rule="exists", way_out="choose another --out")
    part = out.with_name(f".{out.name}.part")
    try:
        dump_topology(spec, part)
        part.rename(out)
    except OSError as failure:
        part.unlink(missing_ok=True)
        raise OutputError(where=str(out), given="", rule=f"cannot be written: {failure.strerror}") from None
    print(spec.description)
    print(written(out), file=sys.stderr)
