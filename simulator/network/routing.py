"""From pairs of a group's vertices to paths over links: what a collective needs to know of a cluster.

Policies: `ecmp` hashes each pair onto one of the equal paths, `rail_aligned` hops over NVLink to the GPU on the
receiver's rail first (NCCL's PXN) so that messages stay below one leaf, `adaptive` takes the least loaded of several
paths as switches with adaptive routing do.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from simulator.errors import TopologyError
from simulator.network.detour import crosses_dead
from simulator.network.incidence import Floats, Ints, Paths, joined, paths_of
from simulator.topology.cluster import Cluster
from simulator.topology.routes import DEFAULT_POLICY, RoutePolicy, route_avoiding, routes
from simulator.topology.spec import VERTEX_KINDS

Policy = Literal["default", "ecmp", "rail_aligned", "adaptive"]
Router = Callable[[Ints, Ints, Floats], Paths]
"""(sources, destinations, capacity of each link) -> paths; vertices as in `Schedule`, dead links avoided."""

POLICIES: dict[Policy, RoutePolicy] = {
    "default": DEFAULT_POLICY,
    "ecmp": RoutePolicy(spread="hash"),
    "rail_aligned": RoutePolicy(cross_rail="pxn"),
    "adaptive": RoutePolicy(spread="hash"),
}
CANDIDATES = 8
"""Paths that adaptive routing looks at for each pair."""
SWEEPS, BATCHES = 3, 16
"""Adaptive choice goes over all flows this often, in this many groups that choose knowing the others' choice."""


@dataclass(frozen=True, slots=True, eq=False)
class Wires:
    """Links of a network, and the way from any vertex of a group to any other."""

    capacity_bytes_per_s: Floats
    latency_s: Floats
    router: Router


def wires(cluster: Cluster, gpus: Sequence[int], policy: Policy = "default", salt: int = 0) -> Wires:
    """The cluster as one group sees it: member i is GPU `gpus[i]`, then the NVSwitch of each node in order."""
    return Wires(
        cluster.link_bandwidth_bytes_per_s, cluster.link_latency_s, cluster_router(cluster, gpus, policy, salt)
    )


def cluster_router(cluster: Cluster, gpus: Sequence[int], policy: Policy = "default", salt: int = 0) -> Router:
    """Routes of the cluster between members of a group, round links that are down."""
    members = np.asarray(gpus, dtype=np.int64)
    chosen = replace(POLICIES[policy], salt=salt)

    def router(sources: Ints, destinations: Ints, capacity: Floats) -> Paths:
        n = len(members)
        inside = (sources >= n) | (destinations >= n)
        to, of = np.flatnonzero(~inside), np.flatnonzero(inside)
        between = _between(cluster, members[sources[to]], members[destinations[to]], chosen, policy, capacity)
        around = _around_dead(cluster, members[sources[to]], members[destinations[to]], chosen, capacity, between)
        through = _through_switch(cluster, members, sources[of], destinations[of]) if len(of) else paths_of([])
        order = np.empty(len(sources), dtype=np.int64)
        order[np.concatenate([to, of])] = np.arange(len(sources))
        return joined([around, through]).take(order)

    return router


def _between(
    cluster: Cluster, sources: Ints, destinations: Ints, chosen: RoutePolicy, policy: Policy, capacity: Floats
) -> Paths:
    if policy != "adaptive":
        return _table(cluster, sources, destinations, chosen)
    options = [_table(cluster, sources, destinations, replace(chosen, salt=chosen.salt + k)) for k in range(CANDIDATES)]
    choice = least_loaded(capacity, options, np.ones(len(sources)))
    return joined(options).take(choice * len(sources) + np.arange(len(sources)))


def _table(cluster: Cluster, sources: Ints, destinations: Ints, chosen: RoutePolicy) -> Paths:
    table = routes(cluster, sources, destinations, chosen)
    return Paths(table.offsets, table.links.astype(np.int64))


def _around_dead(
    cluster: Cluster, sources: Ints, destinations: Ints, chosen: RoutePolicy, capacity: Floats, usual: Paths
) -> Paths:
    dead = np.flatnonzero(crosses_dead(capacity, usual))
    if not len(dead):
        return usual
    down = np.flatnonzero(capacity <= 0).tolist()
    ways = [route_avoiding(cluster, int(sources[f]), int(destinations[f]), down, chosen) for f in dead]
    order = np.arange(usual.flows)
    order[dead] = usual.flows + np.arange(len(dead))
    return joined([usual, paths_of(ways)]).take(order)


def _switch_links(cluster: Cluster) -> tuple[Ints, Ints]:
    """The link of each GPU to the NVSwitch of its node, and the one back; -1 where it has none or several."""
    switch = cluster.vertex_kind == VERTEX_KINDS.index("nvswitch")
    found = []
    for near, far in (
        (cluster.link_source, cluster.link_destination),
        (cluster.link_destination, cluster.link_source),
    ):
        links = np.flatnonzero(switch[far] & (near < cluster.gpus))
        of_gpu = np.full(cluster.gpus, -1, dtype=np.int64)
        of_gpu[near[links]] = links
        of_gpu[np.bincount(near[links], minlength=cluster.gpus) != 1] = -1
        found.append(of_gpu)
    return found[0], found[1]


def _through_switch(cluster: Cluster, members: Ints, sources: Ints, destinations: Ints) -> Paths:
    """Paths of one link, between members and the reducers in the switches of their nodes."""
    n = len(members)
    outward = sources < n
    gpus = members[np.where(outward, sources, destinations)]
    switches = np.where(outward, destinations, sources) - n
    wrong = np.flatnonzero(cluster.gpu_node[gpus] != np.unique(cluster.gpu_node[members])[switches])
    if len(wrong):
        raise TopologyError(
            given=f"GPU {gpus[wrong[0]]} and the switch of node {switches[wrong[0]]} of the group",
            rule="are on different nodes",
        )
    up, down = _switch_links(cluster)
    links = np.where(outward, up[gpus], down[gpus])
    if (links < 0).any():
        raise TopologyError(
            given=f"GPU {gpus[np.argmax(links < 0)]}",
            rule="hangs on no NVSwitch that could reduce (or on several that are listed one by one)",
            way_out="use ring or tree",
        )
    return Paths(np.arange(len(links) + 1), links)


def least_loaded(capacity: Floats, options: Sequence[Paths], weight: Floats) -> Ints:
    """For each flow, which of its paths to take so that the busiest link of each is as idle as can be.

    `options[k]` has the k-th path of every flow; `weight` is what each flow adds to its links (bytes, say). Greedy,
    group by group, each knowing what the others chose last; deterministic.
    """
    flows = options[0].flows
    choice = np.zeros(flows, dtype=np.int64)
    with np.errstate(divide="ignore"):
        cost = 1.0 / capacity
    load = _load(options, choice, np.arange(flows), weight, len(capacity))
    for _ in range(SWEEPS):
        for batch in range(BATCHES):
            rows = np.arange(batch, flows, BATCHES)
            load -= _load(options, choice, rows, weight, len(capacity))
            busiest = np.stack([_busiest(option.take(rows), load * cost, weight[rows], cost) for option in options])
            choice[rows] = busiest.argmin(axis=0)
            load += _load(options, choice, rows, weight, len(capacity))
    return choice


def _load(options: Sequence[Paths], choice: Ints, rows: Ints, weight: Floats, links: int) -> Floats:
    total = np.zeros(links)
    for k, option in enumerate(options):
        flows = rows[choice[rows] == k]
        part = option.take(flows)
        total += np.bincount(part.links, weights=np.repeat(weight[flows], part.lengths()), minlength=links)
    return total


def _busiest(paths: Paths, busy: Floats, weight: Floats, cost: Floats) -> Floats:
    """Largest (load + own) / capacity on each path; ties broken towards the smaller sum by a small part of it."""
    each = busy[paths.links] + np.repeat(weight, paths.lengths()) * cost[paths.links]
    total = np.zeros(paths.flows)
    filled = np.flatnonzero(paths.lengths())
    if len(filled):
        total[filled] = np.maximum.reduceat(each, paths.indptr[:-1][filled])
    return total
