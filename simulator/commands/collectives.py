"""`shardsim collectives`: the table nccl-tests would print, predicted; and a real one compared with it."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import cast, get_args

import numpy as np
import pandas as pd

from simulator.commands.collectives_fabric import Floats, added_seconds, disturbance
from simulator.commands.show import print_table
from simulator.commands.text import write_new, written
from simulator.cost.collective import collective_times, selection
from simulator.cost.collective.request import LIBRARIES, OPS, Mode
from simulator.errors import DataError, ScheduleError, ShardsimError
from simulator.hardware.catalogue import find_device
from simulator.report.figures.bandwidth import bandwidth_figure
from simulator.report.page.build import figure_page
from simulator.scenario.topology_file import load_topology
from simulator.topology.cluster import Cluster
from simulator.topology.facts import group_links
from simulator.topology.group import GroupLinks
from simulator.units import format_bytes, parse_bytes
from simulator.validation.libraries import library_key
from simulator.validation.nccl_log import check_log, parse_log
from simulator.validation.table_collectives import ONE_PROCESS, bus_share

_MOST_ROWS = 1000
_HALF_BYTES = 2
_COLUMNS = (
    "gpu", "nodes", "total_gpus", "op", "library", "library_version", "mode", "notes", "message_bytes",
    "bus_bytes_per_s",
)  # fmt: skip
_PROGRAM = {"all_to_all": "alltoall", "send_recv": "sendrecv"}


@dataclass(frozen=True, slots=True)
class Row:
    """One size of the table, SI."""

    size_bytes: float
    time_s: float
    bus_bytes_per_s: float
    algorithm: str
    protocol: str

    @property
    def bytes_per_s(self) -> float:
        """Algorithm bandwidth: size over time; 0 for what takes none (a group of one, an empty message)."""
        return self.size_bytes / self.time_s if self.time_s else 0.0


def collectives_command(
    topology: str,
    op: str,
    *,
    nodes: int,
    gpus: int | None,
    sizes: tuple[str, str, float],
    algorithm: str | None,
    library: str,
    plot: Path | None,
    measured: Path | None = None,
    mode: str = "nccl-tests",
    routing: str = "default",
    faults: Sequence[str] = (),
) -> None:
    """Print the table, and draw it where `plot` names a file, with measured points over it where there are any.

    `routing` and `faults` (links that slow down or fail) add what the flows lose by them (`collectives_fabric`).
    """
    if measured is not None and plot is None:
        raise ScheduleError(
            where="--measured", given=str(measured), rule="is drawn over the curve", way_out="add --plot FILE"
        )
    if op not in OPS:
        raise ScheduleError(where="--op", given=repr(op), rule=f"is none of {', '.join(OPS)}")
    if library not in LIBRARIES:
        raise ScheduleError(where="--library", given=repr(library), rule=f"is none of {', '.join(LIBRARIES)}")
    if mode not in get_args(Mode):
        raise ScheduleError(where="--mode", given=repr(mode), rule=f"is none of {', '.join(get_args(Mode))}")
    cluster, links, members = _group(topology, nodes, gpus, op)
    told = disturbance(cluster, routing, faults)
    lost = (lambda each: added_seconds(cluster, [gpu for gpu, _ in members], op, each, told)) if told else np.zeros_like
    rows = _rows(links, op, _sizes(*sizes), algorithm, library, cast(Mode, mode), lost)
    print("\n".join(_table(rows, op, members)))
    if plot is not None:
        points = measured_points(measured, links, op, library) if measured is not None else ()
        figure = bandwidth_figure(
            [row.size_bytes for row in rows],
            [row.bus_bytes_per_s for row in rows],
            [row.algorithm for row in rows],
            points,
        )
        if measured is not None:
            of = f"{op} by {library} on {links.ranks} x {links.device.name}"
            print(f"{len(points)} measured points of {of}", file=sys.stderr)
        title = f"{op} on {links.ranks} × {links.device.name}"
        write_new(plot, figure_page([figure], title, f"{topology}, {links.nodes} node(s)"))
        print(written(plot), file=sys.stderr)


def measured_points(path: Path, links: GroupLinks, op: str, library: str) -> tuple[tuple[float, float], ...]:
    """(message bytes, bus bytes/s) from a log of nccl-tests, or from a table's rows of this op, library and group.

    Rows that ran outside a CUDA graph, or from one process for all GPUs, are another regime than the curve's.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as failure:
        raise DataError(where=str(path), given="", rule=f"cannot be read: {failure.strerror}") from None
    if path.suffix != ".csv":
        return tuple((row.size_bytes, row.bus_bytes_per_s) for row in parse_log(text, op).rows)
    table = pd.read_csv(StringIO(text), low_memory=False)
    missing = set(_COLUMNS) - set(table.columns)
    if missing:
        raise DataError(
            where=str(path), given=", ".join(sorted(missing)), rule="columns that a table of collectives has"
        )
    same = (table["op"] == op) & (table["nodes"] == links.nodes) & (table["total_gpus"] == links.ranks)
    same &= (table["mode"] != "eager") & ~table["notes"].fillna("").str.contains(ONE_PROCESS)
    versions = table["library_version"].fillna("").astype(str)
    keys = [library_key(name, version) for name, version in zip(table["library"].fillna(""), versions, strict=True)]
    same &= pd.Series([_same_library(key, library) for key in keys], table.index)
    rows = table[same & (table["gpu"].map(_device_name) == links.device.name)].dropna(subset=["bus_bytes_per_s"])
    return tuple(zip(rows["message_bytes"].tolist(), rows["bus_bytes_per_s"].tolist(), strict=True))


def _same_library(key: str | None, library: str) -> bool:
    return key == library or (library == "nccl" and key in ("rccl", "oneccl"))


def _device_name(given: object) -> str:
    try:
        return find_device(str(given)).name
    except ShardsimError:
        return ""  # a GPU that no topology can have either


def check_command(log: Path, topology: str, *, nodes: int, gpus: int | None, op: str | None) -> int:
    """Print each size of a log of nccl-tests with its verdict; status 1 where a size is low."""
    try:
        text = sys.stdin.read() if str(log) == "-" else log.read_text(encoding="utf-8", errors="replace")
    except OSError as failure:
        raise DataError(where=str(log), given="", rule=f"cannot be read: {failure.strerror}") from None
    _, links, _ = _group(topology, nodes, gpus, op or "")
    rows = check_log(text, links, op)
    print_table(
        [
            {"size": format_bytes(row.size_bytes), "time us": f"{row.time_s * 1e6:.2f}",
             "busbw GB/s": f"{row.measured_bus_bytes_per_s / 1e9:.2f}",
             "expected": f"{row.expected_bus_bytes_per_s / 1e9:.2f}", "ratio": f"{row.ratio:.2f}",
             "verdict": row.verdict, "as": f"{row.algorithm} {row.protocol}", "bound by": row.bound, "hint": row.hint}
            for row in rows
        ]
    )  # fmt: skip
    low = sum(row.verdict == "low" for row in rows)
    print(f"{low} of {len(rows)} sizes are lower than this topology should give")
    return 1 if low else 0


def _group(topology: str, nodes: int, gpus: int | None, op: str) -> tuple[Cluster, GroupLinks, list[tuple[int, int]]]:
    """The cluster, the group's links, and (GPU, node) of each rank: `gpus` spread evenly over the nodes, or all."""
    cluster = load_topology(topology, nodes)
    each, over = divmod(gpus or (2 if op == "send_recv" else cluster.gpus), cluster.nodes)
    per_node = cluster.gpus // cluster.nodes
    if over or not 1 <= each <= per_node:
        raise ScheduleError(
            where="--gpus",
            given=str(gpus),
            rule=f"must be the same on each of {cluster.nodes} node(s) of {per_node} GPUs",
        )
    chosen = [gpu for node in range(cluster.nodes) for gpu in cluster.gpus_of_node(node)[:each]]
    return cluster, group_links(cluster, chosen), [(gpu, int(cluster.gpu_node[gpu])) for gpu in chosen]


def _sizes(smallest: str, largest: str, factor: float) -> list[float]:
    first, last = parse_bytes(smallest), parse_bytes(largest)
    if first == 0:  # an empty message has its row, and sizes go on from one byte
        return [0.0, *(_sizes("1", largest, factor) if last else [])]
    if not 1 <= first <= last:
        raise ScheduleError(where="--min, --max", given=f"{smallest}, {largest}", rule="must be whole bytes, in order")
    if not factor > 1.0:
        raise ScheduleError(where="--factor", given=f"{factor:g}", rule="must be more than 1")
    count = int(np.log(last / first * 1.000001) / np.log(factor)) + 1
    if count > _MOST_ROWS:
        raise ScheduleError(
            where="--factor", given=f"{factor:g}", rule=f"gives {count} sizes", way_out="use a larger one"
        )
    return [first * factor**i for i in range(count)]


def _rows(
    links: GroupLinks, op: str, sizes: list[float], algorithm: str | None, library: str, mode: Mode,
    lost: Callable[[Floats], Floats],
) -> list[Row]:  # fmt: skip
    bytes_ = np.array(sizes)
    times = collective_times(links, op, bytes_, library=library, algorithm=algorithm, mode=mode) + lost(bytes_)
    share = bus_share(op, links.ranks)
    return [
        Row(
            size,
            time_s,
            size / time_s * share if time_s else 0.0,
            *selection(links, op, size, library=library, algorithm=algorithm),
        )
        for size, time_s in zip(sizes, times.tolist(), strict=True)
    ]


def _table(rows: list[Row], op: str, members: list[tuple[int, int]]) -> Iterator[str]:
    """As nccl-tests prints it (out of place), with the algorithm and protocol in place of `#wrong`."""
    yield f"# {_PROGRAM.get(op, op)}_perf, predicted"
    yield from (f"#  Rank {i:2d} on node{node} device {gpu}" for i, (gpu, node) in enumerate(members))
    yield "#"
    heads = (("size", "(B)"), ("count", "(elements)"), ("type", ""), ("redop", ""), ("root", ""), ("time", "(us)"),
             ("algbw", "(GB/s)"), ("busbw", "(GB/s)"))  # fmt: skip
    widths = (12, 12, 8, 6, 5, 10, 8, 8)
    for line in (0, 1):
        yield "# " + " ".join(f"{head[line]:>{width}}" for head, width in zip(heads, widths, strict=True))
    redop = "sum" if op in ("all_reduce", "reduce_scatter") else "none"
    for row in rows:
        yield (
            f"  {row.size_bytes:12.0f} {row.size_bytes // _HALF_BYTES:12.0f} {'half':>8} {redop:>6} {-1:5d}"
            f" {row.time_s * 1e6:10.2f} {row.bytes_per_s / 1e9:8.2f} {row.bus_bytes_per_s / 1e9:8.2f}"
            f"  {row.algorithm} {row.protocol}"
        )
    yield f"# Avg bus bandwidth    : {sum(row.bus_bytes_per_s for row in rows) / len(rows) / 1e9:.3f}"
