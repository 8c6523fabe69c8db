"""Deterministic shortest paths in a small graph, with equal paths kept so that pairs can be spread over them."""

import heapq
from collections import defaultdict
from dataclasses import dataclass, field

from simulator.topology.spec import LINK_KINDS, VERTEX_KINDS

# What a hop of each kind costs when paths are compared: it orders them as NCCL orders path types (NVL < NVB < PIX <
# PXB < PHB < SYS < NET; NCCL 2.30 src/graph/topo.h), so that NVLink is taken before PCIe and the sockets' link last.
_COST = {"nvlink": 1, "xgmi": 1, "pcie": 10, "numa": 60, "nic": 200, "network": 200}
# Passing through another GPU needs its copy engines (NVB); passing through a CPU costs its host bridge (PHB).
_TRANSIT = {"gpu": 5, "cpu": 20, "nvswitch": 0, "pcie_switch": 0, "nic": 0, "leaf": 0, "spine": 0, "core": 0}


@dataclass(frozen=True, eq=False)
class Wiring:
    """Links of a graph, grouped by the vertex they leave."""

    source: list[int]
    destination: list[int]
    kind: list[int]
    vertex_kind: list[int]
    leaving: dict[int, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        leaving: dict[int, list[int]] = defaultdict(list)
        for link, source in enumerate(self.source):
            leaving[source].append(link)
        object.__setattr__(self, "leaving", leaving)


@dataclass(frozen=True, eq=False)
class PathTree:
    """All shortest paths from one vertex: for each vertex reached, the links that a shortest path may end with."""

    wiring: Wiring
    source: int
    cost: dict[int, int]
    last_links: dict[int, list[int]]

    def reaches(self, vertex: int) -> bool:
        """Whether there is a path."""
        return vertex in self.cost

    def path(self, vertex: int, choice: int = 0) -> tuple[int, ...]:
        """Links of a shortest path, first to last; `choice` picks among equal ones (any whole number)."""
        links: list[int] = []
        while vertex != self.source:
            options = self.last_links[vertex]
            link = options[choice % len(options)]
            links.append(link)
            choice //= len(options)
            vertex = self.wiring.source[link]
        return tuple(reversed(links))


def path_tree(wiring: Wiring, source: int) -> PathTree:
    """Dijkstra's algorithm from `source`; ties are kept, in the order of link numbers."""
    step = [_COST[LINK_KINDS[kind]] for kind in wiring.kind]
    transit = [_TRANSIT[VERTEX_KINDS[kind]] for kind in wiring.vertex_kind]
    cost = {source: 0}
    last: dict[int, list[int]] = {source: []}
    heap, done = [(0, source)], set()
    while heap:
        so_far, vertex = heapq.heappop(heap)
        if vertex in done:
            continue
        done.add(vertex)
        passing = so_far + (transit[vertex] if vertex != source else 0)
        for link in wiring.leaving.get(vertex, ()):
            there, total = wiring.destination[link], passing + step[link]
            if there not in cost or total < cost[there]:
                cost[there], last[there] = total, [link]
                heapq.heappush(heap, (total, there))
            elif total == cost[there] and there not in done:
                last[there].append(link)
    return PathTree(wiring, source, cost, {vertex: sorted(links) for vertex, links in last.items()})
