"""A cluster's description written back as a topology file's document."""

from typing import Any

from simulator.topology.spec import ClusterSpec, Fabric, FullMesh, Graph, NodeSpec, NvSwitch, Wire
from simulator.units import parse_bandwidth, parse_time


def topology_document(spec: ClusterSpec) -> dict[str, Any]:
    """The mapping that, read as a topology file, gives `spec` again."""
    document: dict[str, Any] = {"name": spec.name}
    if spec.description:
        document["description"] = spec.description
    if spec.sources:
        document["sources"] = list(spec.sources)
    if isinstance(spec.node, Graph):
        document["graph"] = _graph(spec.node)
    else:
        document["node"] = _node(spec.node)
    if spec.fabric:
        document["fabric"] = _fabric(spec.fabric)
    if spec.network != "none":
        document["network"] = spec.network
    return document


def bandwidth_text(bytes_per_s: float) -> str:
    """Exact to the last bit when read back: 450 GB/s, or bytes where gigabytes would round."""
    giga = f"{bytes_per_s / 1e9:.10g} GB/s"
    return giga if parse_bandwidth(giga) == bytes_per_s else f"{bytes_per_s!r} B/s"


def time_text(seconds: float) -> str:
    """Exact to the last bit when read back: 0.35 us, or seconds where microseconds would round."""
    micro = f"{seconds * 1e6:.10g} us"
    return micro if parse_time(micro) == seconds else f"{seconds!r} s"


def _wire(wire: Wire) -> dict[str, Any]:
    return {"bandwidth": bandwidth_text(wire.bandwidth_bytes_per_s), "latency": time_text(wire.latency_s)}


def _node(node: NodeSpec) -> dict[str, Any]:
    document: dict[str, Any] = {"gpu": node.gpu, "gpus": node.gpus, "trays": node.trays}
    match node.scale_up:
        case NvSwitch(wire=wire, chips=chips, multicast=multicast):
            document["scale_up"] = {"kind": "nvswitch", **_wire(wire), "chips": chips, "multicast": multicast}
        case FullMesh(wire=wire, kind=kind):
            document["scale_up"] = {"kind": f"{kind}_mesh", **_wire(wire)}
    document["pcie"] = {
        "sockets": node.pcie.sockets,
        "switches_per_socket": node.pcie.switches_per_socket,
        "gpu": _wire(node.pcie.device),
        "uplink": _wire(node.pcie.uplink),
        "socket_link": _wire(node.pcie.socket),
    }
    if node.nics:
        document["nics"] = {
            "count": node.nics.count,
            "port": _wire(node.nics.port),
            "pcie": _wire(node.nics.pcie),
            "attach": node.nics.attach,
        }
    return document


def _fabric(fabric: Fabric) -> dict[str, Any]:
    return {
        "kind": fabric.kind,
        "layout": "rail" if fabric.rails > 1 else "fat_tree",
        "rails": fabric.rails,
        "tiers": fabric.tiers,
        "switch_ports": fabric.switch_ports,
        "oversubscription": fabric.oversubscription,
        "hop": _wire(fabric.hop),
    }


def _graph(graph: Graph) -> dict[str, Any]:
    document: dict[str, Any] = {"vertices": [], "links": []}
    for vertex in graph.vertices:
        entry: dict[str, Any] = {"name": vertex.name, "kind": vertex.kind}
        entry |= {"device": vertex.device} if vertex.device else {}
        entry |= {"node": vertex.node} if vertex.node else {}
        document["vertices"].append(entry | ({"socket": vertex.socket} if vertex.socket else {}))
    for link in graph.links:
        ends = {"source": link.source, "destination": link.destination, "kind": link.kind}
        wire = _wire(Wire(link.bandwidth_bytes_per_s, link.latency_s))
        document["links"].append(ends | wire | ({} if link.duplex else {"duplex": False}))
    if graph.multicast:
        document["multicast"] = True
    if graph.port:
        document["port"] = _wire(graph.port)
    return document
