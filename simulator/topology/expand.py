"""A node described by its parts, written out vertex by vertex."""

from collections.abc import Iterator

from simulator.errors import TopologyError
from simulator.topology.spec import FullMesh, Graph, LinkKind, LinkSpec, NodeSpec, NvSwitch, VertexSpec, Wire


def expand(node: NodeSpec) -> Graph:
    """The vertices and links of one node; GPUs first, in order.

    Raises TopologyError where GPUs, sockets, switches or NICs do not divide evenly.
    """
    _check_counts(node)
    multicast = isinstance(node.scale_up, NvSwitch) and node.scale_up.multicast
    return Graph(vertices=tuple(_vertices(node)), links=tuple(_links(node)), multicast=multicast)


def _divides(whole: int, parts: int, what: str, where: str) -> None:
    if parts < 1 or whole % parts:
        fits = [n for n in range(1, whole + 1) if whole % n == 0]
        raise TopologyError(
            given=str(parts), rule=f"does not divide {what} = {whole}", way_out=f"use one of {fits}", where=where
        )


def _check_counts(node: NodeSpec) -> None:
    if node.gpus < 1:
        raise TopologyError(given=str(node.gpus), rule="a node has at least one GPU", where="node.gpus")
    _divides(node.gpus, node.trays, "node.gpus", "node.trays")
    tray_gpus = node.gpus // node.trays
    if node.pcie.sockets < 1 or node.pcie.switches_per_socket < 0:
        raise TopologyError(
            given=f"{node.pcie.sockets} sockets, {node.pcie.switches_per_socket} switches each",
            rule="a host has at least one socket and no fewer than zero switches",
            where="node.pcie",
        )
    if tray_gpus > 1:
        _divides(tray_gpus, node.pcie.sockets, "GPUs of a host", "node.pcie.sockets")
        if node.pcie.switches_per_socket:
            _divides(
                tray_gpus // node.pcie.sockets,
                node.pcie.switches_per_socket,
                "GPUs of a socket",
                "node.pcie.switches_per_socket",
            )
    if node.nics is not None:
        larger, smaller = max(node.nics.count, node.gpus), min(node.nics.count, node.gpus)
        if smaller < 1 or larger % smaller or node.nics.count % node.trays:
            raise TopologyError(
                given=str(node.nics.count),
                rule=f"NICs do not deal out evenly to {node.gpus} GPUs in {node.trays} host(s)",
                way_out=f"use {node.gpus} (one for each GPU), or list vertices and links explicitly",
                where="node.nics.count",
            )


def _roots(node: NodeSpec) -> int:
    """PCIe switches of the node, or its sockets where GPUs hang off the CPU."""
    return node.trays * node.pcie.sockets * max(1, node.pcie.switches_per_socket)


def _socket(node: NodeSpec, index: int, count: int) -> int:
    """The socket that item `index` of `count` evenly spread ones belongs to."""
    return index * node.trays * node.pcie.sockets // count


def _root(node: NodeSpec, index: int, count: int) -> str:
    prefix = "pcie" if node.pcie.switches_per_socket else "cpu"
    return f"{prefix}{index * _roots(node) // count}"


def _vertices(node: NodeSpec) -> Iterator[VertexSpec]:
    for gpu in range(node.gpus):
        yield VertexSpec(f"gpu{gpu}", "gpu", device=node.gpu, socket=_socket(node, gpu, node.gpus))
    if isinstance(node.scale_up, NvSwitch) and node.gpus > 1:
        yield VertexSpec("nvswitch", "nvswitch")
    for cpu in range(node.trays * node.pcie.sockets):
        yield VertexSpec(f"cpu{cpu}", "cpu", socket=cpu)
    if node.pcie.switches_per_socket:
        for switch in range(_roots(node)):
            yield VertexSpec(f"pcie{switch}", "pcie_switch", socket=_socket(node, switch, _roots(node)))
    for nic in range(node.nics.count if node.nics else 0):
        yield VertexSpec(f"nic{nic}", "nic", socket=_socket(node, nic, node.nics.count if node.nics else 1))


def _link(source: str, destination: str, kind: LinkKind, wire: Wire) -> LinkSpec:
    return LinkSpec(source, destination, kind, wire.bandwidth_bytes_per_s, wire.latency_s)


def _links(node: NodeSpec) -> Iterator[LinkSpec]:
    yield from _scale_up_links(node)
    yield from _pcie_links(node)
    if node.nics is not None:
        for nic in range(node.nics.count):
            on_gpu = f"gpu{nic * node.gpus // node.nics.count}"
            root = on_gpu if node.nics.attach == "gpu" else _root(node, nic, node.nics.count)
            yield _link(f"nic{nic}", root, "pcie", node.nics.pcie)


def _scale_up_links(node: NodeSpec) -> Iterator[LinkSpec]:
    match node.scale_up:
        case NvSwitch(wire=wire) if node.gpus > 1:
            yield from (_link(f"gpu{gpu}", "nvswitch", "nvlink", wire) for gpu in range(node.gpus))
        case FullMesh(wire=wire, kind=kind):
            for a in range(node.gpus):
                yield from (_link(f"gpu{a}", f"gpu{b}", kind, wire) for b in range(a + 1, node.gpus))
        case _:
            return


def _pcie_links(node: NodeSpec) -> Iterator[LinkSpec]:
    for gpu in range(node.gpus):
        yield _link(f"gpu{gpu}", _root(node, gpu, node.gpus), "pcie", node.pcie.device)
    if node.pcie.switches_per_socket:
        for switch in range(_roots(node)):
            yield _link(f"pcie{switch}", f"cpu{_socket(node, switch, _roots(node))}", "pcie", node.pcie.uplink)
    for tray in range(node.trays):
        first = tray * node.pcie.sockets
        for a in range(first, first + node.pcie.sockets):
            yield from (
                _link(f"cpu{a}", f"cpu{b}", "numa", node.pcie.socket) for b in range(a + 1, first + node.pcie.sockets)
            )
