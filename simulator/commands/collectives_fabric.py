"""What routing and failing links add to a collective: its flows over the real links, against an undisturbed fabric."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import permutations
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray

from simulator.collectives.phases import Phase, phases
from simulator.collectives.schedule import Kind
from simulator.errors import ScheduleError, TopologyError
from simulator.network.collective import run_matrix, run_phases
from simulator.network.routing import Policy, Wires, wires
from simulator.network.simulate import LinkChange
from simulator.topology.cluster import Cluster
from simulator.units import parse_time

Floats = NDArray[np.float64]
_FORM = "write FROM,TO[,FACTOR[,TIME]], e.g. node0.nic0,leaf0,0.5,1ms; `shardsim topology show` draws the names"


@dataclass(frozen=True, slots=True)
class Disturbance:
    """How messages find their way, and what changes on the way."""

    routing: Policy
    changes: tuple[LinkChange, ...]


def disturbance(cluster: Cluster, routing: str, faults: Sequence[str]) -> Disturbance | None:
    """As told on the command line; None where nothing is. Raises ScheduleError or TopologyError for what cannot be."""
    if routing not in get_args(Policy):
        raise ScheduleError(where="--routing", given=repr(routing), rule=f"is none of {', '.join(get_args(Policy))}")
    changes = tuple(change for fault in faults for change in _changes(cluster, fault))
    return Disturbance(cast(Policy, routing), changes) if changes or routing != "default" else None


def _changes(cluster: Cluster, fault: str) -> list[LinkChange]:
    """Both directions of the cable that a fault names."""
    parts = [part.strip() for part in fault.split(",")]
    if not 2 <= len(parts) <= 4:
        raise TopologyError(where="--fault", given=repr(fault), rule="names no link", way_out=_FORM)
    try:
        factor = float(parts[2]) if len(parts) > 2 else 0.0
    except ValueError:
        factor = float("nan")
    if not 0.0 <= factor < 1.0:
        raise TopologyError(
            where="--fault",
            given=repr(fault),
            rule="what is left of a link is 0 (down) or more, below 1",
            way_out=_FORM,
        )
    at_s = parse_time(parts[3]) if len(parts) > 3 else 0.0
    number = {cluster.vertex_name(vertex): vertex for vertex in range(cluster.vertices)}
    for name in parts[:2]:
        if name not in number:
            near = get_close_matches(name, number, n=1)
            raise TopologyError(
                where="--fault", given=repr(name), rule=f"is no part of {cluster.name}",
                way_out=f"did you mean {near[0]}?" if near else _FORM,
            )  # fmt: skip
    found = []
    for source, destination in permutations([number[name] for name in parts[:2]]):
        here = (cluster.link_source == source) & (cluster.link_destination == destination)
        for link in np.flatnonzero(here).tolist():
            left = float(cluster.link_bandwidth_bytes_per_s[link]) * factor
            found.append(LinkChange(at_s, int(link), left))
    if not found:
        raise TopologyError(
            where="--fault", given=f"{parts[0]} and {parts[1]}", rule="are not joined by a link", way_out=_FORM
        )
    return found


def added_seconds(
    cluster: Cluster, gpus: Sequence[int], op: str, message_bytes: Sequence[float], told: Disturbance
) -> Floats:
    """Seconds that routing and faults add to each message: its flows as told, less its flows on the whole fabric.

    Flows are those of rings inside nodes and on rails (all pairs at once for an all_to_all), which load the NICs as
    NCCL's algorithms do. Raises StalledError where a failed link leaves no way.
    """
    plain, disturbed = wires(cluster, gpus), wires(cluster, gpus, told.routing)
    parts = _phases(cluster, gpus, op) if op != "all_to_all" else ()
    sizes = np.array(message_bytes, dtype=np.float64)
    # Flows on links that do not change on the way take a time linear in the size: two sizes tell all.
    whole = all(change.at_s == 0.0 for change in told.changes)
    asked = np.unique([sizes.min(), sizes.max()] if whole else sizes)
    added = [
        _flow_seconds(parts, len(gpus), size, disturbed, told.changes)
        - _flow_seconds(parts, len(gpus), size, plain, ())
        for size in asked.tolist()
    ]
    return np.maximum(np.interp(sizes, asked, added), 0.0)


def _phases(cluster: Cluster, gpus: Sequence[int], op: str) -> tuple[Phase, ...]:
    homes = cluster.gpu_node[np.asarray(gpus)]
    nodes = tuple(tuple(np.flatnonzero(homes == home).tolist()) for home in np.unique(homes))
    reducing = op in ("all_reduce", "all_gather", "reduce_scatter")
    algorithm = "direct" if op == "send_recv" else "hierarchical" if reducing and len(nodes) > 1 else "ring"
    return phases(cast(Kind, op), algorithm, len(gpus), nodes=nodes)


def _flow_seconds(
    parts: tuple[Phase, ...], ranks: int, size: float, over: Wires, changes: Sequence[LinkChange]
) -> float:
    if ranks == 1 or size == 0.0:
        return 0.0
    if parts:
        return run_phases(parts, size, over, changes=changes)
    return float(run_matrix(np.full((ranks, ranks), size / ranks), over, changes=changes).max())
