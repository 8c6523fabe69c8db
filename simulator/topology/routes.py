"""Which links a message takes from one GPU to another.

Inside a node: the shortest path by kind of link (NVLink before PCIe before the sockets' link). Between nodes: from
the GPU to its own NIC, to the leaf of that rail, and where the destination's NIC hangs on another leaf, through a
spine (and core) that is chosen deterministically, as switches do: by destination (InfiniBand's static d-mod-k
tables) or by a hash of the pair (ECMP on Ethernet).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.errors import TopologyError
from simulator.topology.block import Ints
from simulator.topology.cluster import Cluster
from simulator.topology.crossing import Crossing
from simulator.topology.spec import LINK_KINDS, VERTEX_KINDS

_CHUNK = 1 << 17  # pairs at a time: bounds the scratch memory of a million-pair table


@dataclass(frozen=True, slots=True)
class RoutePolicy:
    """How messages between nodes choose among paths."""

    cross_rail: Literal["own", "pxn"] = "own"
    """To a GPU on another rail: leave by the own NIC and cross a spine, or hop over NVLink to the local GPU of that
    rail first (NCCL's PXN) and stay on one leaf."""
    spread: Literal["auto", "destination", "hash"] = "auto"
    """How a spine is chosen; auto: destination on InfiniBand, hash elsewhere."""
    salt: int = 0
    """Another number chooses other spines: re-routing, and averages over ECMP draws."""


DEFAULT_POLICY = RoutePolicy()


@dataclass(frozen=True, eq=False)
class RouteTable:
    """Routes of many pairs: links of pair i are `links[offsets[i]:offsets[i + 1]]`, first to last."""

    offsets: Ints
    links: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row(self, pair: int) -> tuple[int, ...]:
        """Links of one pair."""
        return tuple(self.links[self.offsets[pair] : self.offsets[pair + 1]].tolist())


def route(
    cluster: Cluster, source_gpu: int, destination_gpu: int, policy: RoutePolicy = DEFAULT_POLICY
) -> tuple[int, ...]:
    """Link ids from one GPU to another, in order; empty for a GPU to itself. Kept once found."""
    key = (source_gpu, destination_gpu, policy)
    if key not in cluster.route_memo:
        cluster.route_memo[key] = routes(cluster, [source_gpu], [destination_gpu], policy).row(0)
    return cluster.route_memo[key]


def routes(
    cluster: Cluster, sources: ArrayLike, destinations: ArrayLike, policy: RoutePolicy = DEFAULT_POLICY
) -> RouteTable:
    """Routes of all pairs (sources[i], destinations[i]); about a second per million pairs of a regular cluster.

    Raises TopologyError for a GPU that the cluster does not have.
    """
    source, destination = np.atleast_1d(np.asarray(sources)), np.atleast_1d(np.asarray(destinations))
    for gpu in (source, destination):
        if len(gpu):
            cluster.check_gpu(int(gpu.min()))
            cluster.check_gpu(int(gpu.max()))
    salts = np.full(len(source), policy.salt, dtype=np.int64)
    counts, links = [np.zeros(1, dtype=np.int64)], [np.empty(0, dtype=np.int32)]
    for first in range(0, len(source), _CHUNK):
        part = slice(first, first + _CHUNK)
        table = _padded_routes(cluster, source[part], destination[part], policy, salts[part])
        counts.append((table >= 0).sum(axis=1))
        links.append(table[table >= 0].astype(np.int32))
    return RouteTable(np.cumsum(np.concatenate(counts)), np.concatenate(links))


def _padded_routes(cluster: Cluster, source: Ints, destination: Ints, policy: RoutePolicy, salt: Ints) -> Ints:
    """(pairs, hops) link ids with -1 in unused places, which may lie anywhere in a row."""
    if cluster.shape is None and cluster.block.gpus > _TABLE_GPUS:
        return _by_search(cluster, source, destination, salt)
    return Crossing(cluster).padded(source, destination, policy.cross_rail == "pxn", _hashed(cluster, policy), salt)


_TABLE_GPUS = 512  # larger explicit graphs are searched pair by pair rather than tabulated


def _hashed(cluster: Cluster, policy: RoutePolicy) -> bool:
    return policy.spread == "hash" or (policy.spread == "auto" and cluster.network != "infiniband")


def _by_search(cluster: Cluster, source: Ints, destination: Ints, salt: Ints) -> Ints:
    paths = [
        cluster.block.tree(s).path(d, choice=s + d + t)
        for s, d, t in zip(source.tolist(), destination.tolist(), salt.tolist(), strict=True)
    ]
    table = np.full((len(paths), max(map(len, paths), default=0)), -1, dtype=np.int64)
    for row, path in zip(table, paths, strict=True):
        row[: len(path)] = path
    return table


def link_class(cluster: Cluster, link: int) -> str:
    """What reports call the link: NVLink, xGMI, PCIe, socket, NIC, leaf-spine or spine-core."""
    kind = LINK_KINDS[cluster.link_kind[link]]
    if kind == "network":
        ends = {
            VERTEX_KINDS[cluster.vertex_kind[v]] for v in (cluster.link_source[link], cluster.link_destination[link])
        }
        return "spine-core" if "core" in ends else "leaf-spine"
    return {"nvlink": "NVLink", "xgmi": "xGMI", "pcie": "PCIe", "numa": "socket", "nic": "NIC"}[kind]


def route_avoiding(
    cluster: Cluster, source_gpu: int, destination_gpu: int, down: Sequence[int], policy: RoutePolicy = DEFAULT_POLICY
) -> tuple[int, ...]:
    """A route that uses none of the links `down`: another spine first, then through neighbours over NVLink.

    Raises TopologyError where every way is cut.
    """
    usual = route(cluster, source_gpu, destination_gpu, policy)
    dead = set(down)
    if not dead.intersection(usual):
        return usual
    spines = (
        1 if cluster.shape is None else max(1, cluster.shape.spines_per_pod * max(1, cluster.shape.cores_per_plane))
    )
    helpers = [(source_gpu, destination_gpu), *_helpers(cluster, source_gpu, destination_gpu)]
    for near, far in helpers:
        for salt in range(spines):
            salted = replace(policy, salt=policy.salt + salt)
            way = (
                *route(cluster, source_gpu, near, salted),
                *route(cluster, near, far, salted),
                *route(cluster, far, destination_gpu, salted),
            )
            if not dead.intersection(way):
                return way
    raise TopologyError(
        given=f"GPU {source_gpu} to GPU {destination_gpu}",
        rule=f"every route uses a link that is down ({len(dead)} are)",
        way_out="repair a link, or give the GPUs a second path",
        where=cluster.name,
    )


def _helpers(cluster: Cluster, source: int, destination: int) -> list[tuple[int, int]]:
    """Pairs of GPUs beside the two ends that could forward for them, both sides on one rail first."""
    near = cluster.gpus_of_node(int(cluster.gpu_node[source]))
    far = cluster.gpus_of_node(int(cluster.gpu_node[destination]))
    if near == far:
        return [(gpu, gpu) for gpu in near if gpu not in (source, destination)]
    aligned = list(zip(near, far, strict=False))
    return aligned + [(a, destination) for a in near] + [(source, b) for b in far]
