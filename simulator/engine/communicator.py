"""For each collective of a group: what it costs, which algorithm runs, and its schedule."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from math import ceil

import numpy as np
from numpy.typing import NDArray

from simulator.collectives.build import algorithms, build
from simulator.collectives.schedule import Nodes, Schedule
from simulator.collectives.volume import pair_shares
from simulator.cost.collective import (
    StepwiseParameters,
    collective_price,
    expert_all_to_all_price,
    selection,
    stepwise_parameters,
)
from simulator.cost.price import Price
from simulator.program.ops import Collective, ExpertExchange
from simulator.topology.cluster import Cluster
from simulator.topology.facts import group_links
from simulator.topology.group import GroupLinks
from simulator.topology.routes import route, routes

_AS_SCHEDULE = {"multicast": "nvls", "nvls_multicast": "nvls"}


def _node_limit(sent: ExpertExchange, nodes: int) -> float | None:
    """Nodes that a token's experts can lie on, where routing is limited to groups of experts that stand together."""
    if sent.groups <= 1 or nodes <= 1:
        return None
    return float(min(nodes, sent.groups_kept * ceil(nodes / sent.groups)))


def _uneven(op: Collective, ranks: int) -> tuple[tuple[float, ...], ...] | None:
    """Bytes between each pair where experts are unevenly busy; None where they are even."""
    if not op.share or max(op.share) - min(op.share) < 1e-9:
        return None
    total = sum(op.share)
    row = tuple(op.bytes * part / total for part in op.share)
    if op.back:
        return tuple((part,) * ranks for part in row)
    return (row,) * ranks


FlowTable = tuple[Collective, list[tuple[int, int]], list[tuple[int, ...]], list[float]]
"""The op (kept alive: its id is the key), GPUs at both ends of each flow, its links, its bytes."""


@dataclass(slots=True)
class Communicator:
    """Answers are kept: the same collective comes once a layer."""

    cluster: Cluster
    forced: Mapping[str, str] = field(default_factory=dict)
    library: str = "nccl"
    closed: dict[tuple[int, tuple[int, ...]], list[Collective]] = field(default_factory=dict)
    """Collectives that were priced in closed form, by (id of the op, GPUs): their traffic is added up afterwards."""
    _flows: dict[tuple[int, tuple[int, ...]], FlowTable] = field(default_factory=dict)
    _paths: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)
    _node: list[int] = field(default_factory=list)
    calibrated: dict[Hashable, StepwiseParameters] = field(default_factory=dict)
    """Per-round parameters by collective and group, as `meeting.steps_of` found them."""
    _links: dict[tuple[int, ...], GroupLinks] = field(default_factory=dict)
    _prices: dict[Hashable, Price] = field(default_factory=dict)

    def links(self, gpus: tuple[int, ...]) -> GroupLinks:
        """Link facts of a group of GPUs."""
        found = self._links.get(gpus)
        if found is None:
            found = self._links[gpus] = group_links(self.cluster, gpus)
        return found

    def price(self, op: Collective, gpus: tuple[int, ...]) -> Price:
        """Closed-form price of the collective on this group."""
        key = (op.kind, op.bytes, op.dtype, op.exchange, op.share, op.back, gpus)
        found = self._prices.get(key)
        if found is None:
            found = self._prices[key] = self._fresh_price(op, gpus)
        return found

    def _fresh_price(self, op: Collective, gpus: tuple[int, ...]) -> Price:
        links = self.links(gpus)
        if op.exchange is not None and self._has_expert_kernels(links):
            sent = op.exchange
            return expert_all_to_all_price(
                links,
                phase=sent.phase,
                kernel=sent.kernel,
                tokens_per_rank=sent.tokens,
                hidden=sent.hidden,
                topk=sent.top_k,
                experts=sent.experts,
                dtype="fp8" if op.dtype.startswith("fp8") else op.dtype,
                node_limit=_node_limit(sent, links.nodes),
                pair_bytes=_uneven(op, len(gpus)),
            )
        size = op.bytes
        if op.share:  # the busiest rank's port is what an uneven exchange waits for
            size *= max(op.share) * len(op.share) / sum(op.share)
        return collective_price(links, op.kind, size, library=self.library, algorithm=self.forced.get(op.kind))

    def _has_expert_kernels(self, links: GroupLinks) -> bool:
        """DeepEP and its like run over NVLink and RDMA; a forced all_to_all algorithm means NCCL."""
        return links.scale_up in ("nvswitch", "nvlink_mesh") and "all_to_all" not in self.forced

    def algorithm(self, op: Collective, gpus: tuple[int, ...]) -> str:
        """The algorithm forced by the user, or the one the library would pick."""
        forced = self.forced.get(op.kind)
        if forced is not None:
            return forced
        name = selection(self.links(gpus), op.kind, op.bytes, library=self.library)[0]
        name = _AS_SCHEDULE.get(name, name)
        return name if name in algorithms(op.kind) else algorithms(op.kind)[0]

    def schedule(self, op: Collective, gpus: tuple[int, ...]) -> Schedule:
        """Rounds of transfers between places of the group."""
        return build(op.kind, self.algorithm(op, gpus), len(gpus), nodes=self.nodes(gpus))

    def steps(self, op: Collective, gpus: tuple[int, ...]) -> StepwiseParameters:
        """Per-round parameters from the fit, before `meeting.steps_of` fits them to the schedule's own rounds."""
        if op.exchange is not None and self._has_expert_kernels(self.links(gpus)):
            return self._exchange_steps(op, gpus)
        return stepwise_parameters(self.links(gpus), op.kind, op.bytes, self.forced.get(op.kind), library=self.library)

    def _exchange_steps(self, op: Collective, gpus: tuple[int, ...]) -> StepwiseParameters:
        """Expert kernels are no rounds of NCCL: their price is shared out over a pairwise exchange's wires."""
        links, total = self.links(gpus), self.price(op, gpus).time_s
        inside = op.bytes * (links.ranks_per_node - 1) / links.ranks
        across = op.bytes * (links.ranks - links.ranks_per_node) / links.ranks
        wire = inside / max(links.scale_up_bytes_per_s, 1.0)
        if links.nodes > 1:
            wire += across / links.nic_bytes_per_s
        efficiency = max(1.0, wire / total) if total else 1.0
        return StepwiseParameters(max(0.0, total - wire), 0.0, 0.0, efficiency, efficiency)

    def flow_table(
        self, op: Collective, gpus: tuple[int, ...]
    ) -> tuple[list[tuple[int, int]], list[tuple[int, ...]], list[float]]:
        """Every pair that has bytes for each other: (GPUs at both ends, links, bytes)."""
        key = (id(op), gpus)
        found = self._flows.get(key)
        if found is None:
            found = self._flows[key] = self._fresh_flows(op, gpus)
        return found[1:]

    def _fresh_flows(self, op: Collective, gpus: tuple[int, ...]) -> FlowTable:
        bytes_ = self.pair_bytes(op, gpus)
        sources, destinations = np.nonzero(bytes_)
        places = list(zip(sources.tolist(), destinations.tolist(), strict=True))
        self.find_paths(gpus, set(places))
        ranks = len(gpus)
        ends = [(gpus[a if a < ranks else b], gpus[b if b < ranks else a]) for a, b in places]
        paths = [self.path(gpus, a, b) for a, b in places]
        return op, ends, paths, bytes_[sources, destinations].tolist()

    def busiest_link_s(self, paths: list[tuple[int, ...]], sizes: list[float]) -> float:
        """Seconds that the busiest link needs for these bytes."""
        if not paths:
            return 0.0
        lengths = [len(path) for path in paths]
        links = np.array([link for path in paths for link in path], dtype=np.int64)
        used, place = np.unique(links, return_inverse=True)
        carried = np.bincount(place, weights=np.repeat(sizes, lengths))
        return float((carried / self.cluster.link_bandwidth_bytes_per_s[used]).max())

    def pair_bytes(self, op: Collective, gpus: tuple[int, ...]) -> NDArray[np.float64]:
        """Bytes from each vertex of the schedule to each other, shape (vertices, vertices)."""
        ranks = len(gpus)
        if op.kind == "all_to_all" and op.share:
            share = np.array(op.share) / sum(op.share)
            pairs = np.tile(share * op.bytes, (ranks, 1))
            if op.back:  # answers go back the way the rows came
                pairs = pairs.T.copy()
            np.fill_diagonal(pairs, 0.0)
            return pairs
        return pair_shares(self.schedule(op, gpus)) * op.bytes

    def note_closed(self, op: Collective, gpus: tuple[int, ...]) -> None:
        """Remembers that this collective's bytes went over links that were not simulated."""
        self.closed.setdefault((id(op), gpus), []).append(op)

    def nodes(self, gpus: tuple[int, ...]) -> Nodes:
        """Places of the group, node by node."""
        places: dict[int, list[int]] = {}
        for place, gpu in enumerate(gpus):
            places.setdefault(int(self.cluster.gpu_node[gpu]), []).append(place)
        return tuple(tuple(members) for members in places.values())

    def path(self, gpus: tuple[int, ...], source: int, destination: int) -> tuple[int, ...]:
        """Links between two vertices of a schedule; a vertex past the ranks is the switch of the other's node."""
        ranks = len(gpus)
        if source >= ranks:
            return self._to_switch(gpus, destination)[1]
        if destination >= ranks:
            return self._to_switch(gpus, source)[0]
        pair = (gpus[source], gpus[destination])
        found = self._paths.get(pair)
        if found is None:
            found = self._paths[pair] = route(self.cluster, *pair)
        return found

    def find_paths(self, gpus: tuple[int, ...], pairs: set[tuple[int, int]]) -> None:
        """Routes of many pairs of places at once, which is much faster than one by one."""
        missing = [
            (gpus[a], gpus[b])
            for a, b in pairs
            if a < len(gpus) and b < len(gpus) and (gpus[a], gpus[b]) not in self._paths
        ]
        if missing:
            table = routes(self.cluster, [a for a, _ in missing], [b for _, b in missing])
            bounds, links = table.offsets.tolist(), table.links.tolist()
            for number, pair in enumerate(missing):
                self._paths[pair] = tuple(links[bounds[number] : bounds[number + 1]])

    def _to_switch(self, gpus: tuple[int, ...], place: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """A GPU's link up to its switch and down from it."""
        node = self.cluster.gpu_node[gpus[place]]
        for gpu in gpus:
            if gpu != gpus[place] and self.cluster.gpu_node[gpu] == node:
                up = route(self.cluster, gpus[place], gpu)
                down = route(self.cluster, gpu, gpus[place])
                return up[:1], down[-1:]
        return (), ()

    def crosses_nodes(self, gpus: tuple[int, ...], source: int, destination: int) -> bool:
        """Whether a transfer leaves its node; switches are on their rank's node."""
        if source >= len(gpus) or destination >= len(gpus):
            return False
        if not self._node:
            self._node = self.cluster.gpu_node.tolist()
        return self._node[gpus[source]] != self._node[gpus[destination]]
