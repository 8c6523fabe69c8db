"""What connects the ranks of one group: the few numbers that the price of a collective depends on."""

from collections.abc import Sequence
from itertools import permutations

import numpy as np

from simulator.errors import TopologyError
from simulator.hardware.device import Device
from simulator.topology.block import Floats, Ints
from simulator.topology.cluster import Cluster
from simulator.topology.group import GroupLinks, ScaleUp
from simulator.topology.routes import RouteTable, routes
from simulator.topology.spec import LINK_KINDS, VERTEX_KINDS


def group_links(cluster: Cluster, gpus: Sequence[int]) -> GroupLinks:
    """The link facts of a group of GPUs, kept once found.

    `oversubscription` is the stated one of the leaves only if traffic kept on its rail has to leave them; a group
    whose rails each fit on one leaf meets no uplink. Where the nodes hold differently placed members, the worst
    node counts. Facts of the network are 0 and "none" for a group on one node.
    Raises TopologyError: an empty group, a GPU twice or not in the cluster, GPUs of different models.
    """
    key = tuple(gpus)
    if key not in cluster.facts_memo:
        cluster.facts_memo[key] = _find(cluster, _checked(cluster, key))
    return cluster.facts_memo[key]


def _find(cluster: Cluster, members: Ints) -> GroupLinks:
    device = _one_device(cluster, members)
    node, counts = np.unique(cluster.gpu_node[members], return_counts=True)
    fullest = [members[cluster.gpu_node[members] == n] for n in node[counts == counts.max()]]
    inside = [_node_facts(cluster, part) for part in _distinct(cluster, fullest)]
    worst = min(inside, key=lambda facts: (facts[2], facts[1]))
    nic, latency, oversubscription = _network_facts(cluster, members) if len(node) > 1 else (0.0, 0.0, 1.0)
    return GroupLinks(
        device=device,
        ranks=len(members),
        nodes=len(node),
        ranks_per_node=int(counts.max()),
        scale_up=worst[0],
        scale_up_bytes_per_s=worst[1],
        pair_bytes_per_s=worst[2],
        multicast=cluster.block.multicast and worst[0] == "nvswitch" and int(counts.max()) > 1,
        scale_up_latency_s=max(facts[3] for facts in inside),
        network=cluster.network if len(node) > 1 else "none",
        nic_bytes_per_s=nic,
        network_latency_s=latency,
        oversubscription=oversubscription,
        sockets=max(len(np.unique(cluster.gpu_socket[part])) for part in fullest),
    )


def _checked(cluster: Cluster, gpus: Sequence[int]) -> Ints:
    members = np.asarray(gpus, dtype=np.int64)
    if not len(members):
        raise TopologyError(given="no GPU", rule="a group has at least one GPU")
    cluster.check_gpu(int(members.min()))
    cluster.check_gpu(int(members.max()))
    values, times = np.unique(members, return_counts=True)
    if len(values) < len(members):
        raise TopologyError(given=f"GPU {values[times > 1][0]}", rule="is in the group twice")
    return members


def _one_device(cluster: Cluster, members: Ints) -> Device:
    devices = {cluster.device(int(gpu)) for gpu in np.unique(members % cluster.block.gpus)}
    if len(devices) > 1:
        names = ", ".join(sorted(device.name for device in devices))
        raise TopologyError(given=names, rule="a group has GPUs of one model", way_out="make a group for each model")
    return devices.pop()


def _distinct(cluster: Cluster, parts: list[Ints]) -> list[Ints]:
    """One part for each set of places within the (repeated) node."""
    return list({tuple((part % cluster.block.gpus).tolist()): part for part in parts}.values())


def _node_facts(cluster: Cluster, part: Ints) -> tuple[ScaleUp, float, float, float]:
    """Kind, bandwidth of one GPU, bandwidth of one pair, latency, for the members on one node."""
    if len(part) == 1:
        return _lone(cluster, int(part[0]))
    pairs = np.array(list(permutations(part.tolist(), 2)))
    table = routes(cluster, pairs[:, 0], pairs[:, 1])
    leaving: dict[int, set[int]] = {}
    for pair, source in enumerate(pairs[:, 0].tolist()):
        leaving.setdefault(source, set()).add(int(table.links[table.offsets[pair]]))
    bandwidth = cluster.link_bandwidth_bytes_per_s
    per_gpu = min(float(bandwidth[list(links)].sum()) for links in leaving.values())
    return (
        _kind(cluster, table),
        per_gpu,
        float(_bottleneck(cluster, table).min()),
        float(_latency(cluster, table).max()),
    )


def _lone(cluster: Cluster, gpu: int) -> tuple[ScaleUp, float, float, float]:
    """A single member of its node: what the node offers it, as seen towards its neighbours."""
    others = [other for other in cluster.gpus_of_node(int(cluster.gpu_node[gpu])) if other != gpu]
    if not others:
        return "none", 0.0, 0.0, 0.0
    return _node_facts(cluster, np.array([gpu, others[0]]))


def _kind(cluster: Cluster, table: RouteTable) -> ScaleUp:
    kinds = {LINK_KINDS[kind] for kind in np.unique(cluster.link_kind[table.links])}
    if kinds <= {"nvlink"}:
        through = np.unique(cluster.vertex_kind[cluster.link_destination[table.links]])
        return "nvswitch" if VERTEX_KINDS.index("nvswitch") in through else "nvlink_mesh"
    return "xgmi_mesh" if kinds <= {"xgmi"} else "pcie"


def _bottleneck(cluster: Cluster, table: RouteTable) -> Floats:
    """(pairs,) smallest bandwidth along each route."""
    return np.minimum.reduceat(cluster.link_bandwidth_bytes_per_s[table.links], table.offsets[:-1])


def _latency(cluster: Cluster, table: RouteTable) -> Floats:
    """(pairs,) sum of latencies along each route."""
    return np.add.reduceat(cluster.link_latency_s[table.links], table.offsets[:-1])


def _network_facts(cluster: Cluster, members: Ints) -> tuple[float, float, float]:
    """NIC bandwidth of one GPU, latency of one message, and oversubscription met, between the nodes of a group."""
    shape = cluster.shape
    if shape is None:
        return _explicit_network_facts(cluster, members)
    gpus, tables = cluster.block.gpus, cluster.tables
    node, local = np.divmod(members, gpus)
    nic = tables.gpu_nic[local]
    slot = node[:, None] * shape.nics_per_rail + nic // shape.rails
    leaf = slot // shape.ports_down * shape.rails + nic % shape.rails
    rail = nic[:, 0] % shape.rails
    table = _across(cluster, members[0], members[(rail == rail[0]) & (node != node[0])], members[node != node[0]])
    one_leaf_each_rail = len(np.unique(leaf)) == len(np.unique(leaf % shape.rails))
    stated = cluster.spec.fabric.oversubscription if cluster.spec.fabric else 1.0
    share = _nic_share(cluster, node, local)
    return share, float(_latency(cluster, table).max()), 1.0 if one_leaf_each_rail else stated


def _nic_share(cluster: Cluster, node: Ints, local: Ints) -> float:
    """Smallest share that a member has of its NICs: each is as fast as its port and the PCIe way to it allow, and is
    divided among the members that use it; a GPU with several NICs adds them up."""
    tables, nics = cluster.tables, len(cluster.block.nics)
    used = node[:, None] * nics + tables.gpu_nic[local]
    path = tables.out[local]
    narrowest = np.where(path >= 0, cluster.block.bandwidth_bytes_per_s[path], np.inf).min(axis=2)
    speed = np.minimum(float(cluster.fabric_links.bandwidth_bytes_per_s[0]), narrowest)
    # A NIC stands several times in the row of a GPU that has fewer NICs than the GPU with most.
    distinct = np.array([len(np.unique(row)) for row in tables.gpu_nic])
    weight = np.broadcast_to(distinct[local][:, None] / used.shape[1], used.shape)
    _, place = np.unique(used.ravel(), return_inverse=True)
    users = np.bincount(place, weights=weight.ravel())[place].reshape(used.shape)
    return float((speed / users * weight).sum(axis=1).min())


def _across(cluster: Cluster, first: int, same_rail: Ints, others: Ints) -> RouteTable:
    """Routes from one member to those of other nodes: on its own rail where there are any."""
    targets = same_rail if len(same_rail) else others
    return routes(cluster, np.full(len(targets), first), targets)


def _explicit_network_facts(cluster: Cluster, members: Ints) -> tuple[float, float, float]:
    """The same for an explicit graph, whose leaves are looked at one by one."""
    others = members[cluster.gpu_node[members] != cluster.gpu_node[members[0]]]
    table = routes(cluster, np.full(len(others), members[0]), others)
    kind = cluster.link_kind[table.links]
    port = cluster.link_bandwidth_bytes_per_s[table.links][kind == LINK_KINDS.index("nic")]
    bandwidth = float(min(port.min(initial=np.inf), _bottleneck(cluster, table).max()))
    return bandwidth, float(_latency(cluster, table).max()), _explicit_oversubscription(cluster)


def _explicit_oversubscription(cluster: Cluster) -> float:
    """Worst leaf's NIC bandwidth over its uplink bandwidth, never below 1; 1 where leaves have no uplinks."""
    bandwidth, kind = cluster.link_bandwidth_bytes_per_s, cluster.link_kind
    worst = 1.0
    for leaf in np.flatnonzero(cluster.vertex_kind == VERTEX_KINDS.index("leaf")):
        leaves = cluster.link_source == leaf
        up = float(bandwidth[leaves & (kind == LINK_KINDS.index("network"))].sum())
        down = float(bandwidth[leaves & (kind == LINK_KINDS.index("nic"))].sum())
        worst = max(worst, down / up if up else 1.0)
    return worst
