"""A cluster in words: what `shardsim topology show` prints."""

from collections.abc import Iterator

import numpy as np

from simulator.topology.cluster import Cluster
from simulator.topology.routes import RoutePolicy, link_class, route
from simulator.topology.spec import VERTEX_KINDS
from simulator.units import format_bandwidth, format_time

_PLURAL = {
    "gpu": "GPUs",
    "nvswitch": "NVSwitch domains",
    "pcie_switch": "PCIe switches",
    "cpu": "CPU sockets",
    "nic": "NICs",
    "leaf": "leaf switches",
    "spine": "spine switches",
    "core": "core switches",
}


def describe(cluster: Cluster) -> str:
    """Parts, links by class, and what some routes cost, as text."""
    return "\n".join([*_heading(cluster), "", *_links(cluster), "", *_routes(cluster)])


def _heading(cluster: Cluster) -> Iterator[str]:
    yield f"{cluster.name}: {cluster.gpus} x {cluster.device().name} in {cluster.nodes} node(s)"
    if cluster.spec.description:
        yield cluster.spec.description
    counts = np.bincount(cluster.vertex_kind, minlength=len(VERTEX_KINDS))
    yield ", ".join(f"{n} {_PLURAL[kind]}" for kind, n in zip(VERTEX_KINDS, counts.tolist(), strict=True) if n)
    if cluster.shape is not None and cluster.spec.fabric is not None:
        fabric = cluster.spec.fabric
        layout = f"{fabric.rails} rails" if fabric.rails > 1 else "fat tree"
        ratio = f"leaves {fabric.oversubscription:g}:1 down to up"
        yield f"{fabric.kind}, {layout}, {fabric.switch_ports}-port switches, {ratio}"


def _links(cluster: Cluster) -> Iterator[str]:
    """One line for each class and speed: number of duplex links, bandwidth a direction, latency."""
    yield f"{'link':<12}{'count':>9}  {'each direction':>14}  {'latency':>9}"
    facts = np.stack([cluster.link_kind, cluster.link_bandwidth_bytes_per_s, cluster.link_latency_s])
    distinct, first, count = np.unique(facts, axis=1, return_index=True, return_counts=True)
    for (_, bandwidth, latency), link, number in zip(distinct.T.tolist(), first.tolist(), count.tolist(), strict=True):
        name = link_class(cluster, link)
        yield f"{name:<12}{number // 2:>9}  {format_bandwidth(bandwidth):>14}  {format_time(latency):>9}"


def _routes(cluster: Cluster) -> Iterator[str]:
    yield "routes from GPU 0"
    for what, gpu, policy in _examples(cluster):
        links = route(cluster, 0, gpu, policy)
        classes: list[str] = []
        for link in links:
            name = link_class(cluster, link)
            if not classes or classes[-1] != name:
                classes.append(name)
        narrowest = min(float(cluster.link_bandwidth_bytes_per_s[link]) for link in links)
        latency = sum(float(cluster.link_latency_s[link]) for link in links)
        yield (
            f"  to GPU {gpu} ({what}): {' > '.join(classes)}; {len(links)} links, "
            f"{format_bandwidth(narrowest)}, {format_time(latency)}"
        )


def _examples(cluster: Cluster) -> Iterator[tuple[str, int, RoutePolicy]]:
    usual = RoutePolicy()
    here = cluster.gpus_of_node(0)
    if len(here) > 1:
        yield "same node", here[-1], usual
    if cluster.nodes > 1:
        there = cluster.gpus_of_node(cluster.nodes - 1)
        yield "last node, same place", there[0], usual
        if len(there) > 1:
            yield "last node, last place", there[-1], usual
            pxn = RoutePolicy(cross_rail="pxn")
            if route(cluster, 0, there[-1], pxn) != route(cluster, 0, there[-1], usual):
                yield "the same, over NVLink to the rail first", there[-1], pxn
