"""What a dump leaves out, and what is assumed instead; every assumption is told in the description."""

from collections.abc import Iterator
from itertools import combinations

from simulator.hardware.catalogue import find_device
from simulator.hardware.device import Device
from simulator.topology.spec import Graph, LinkKind, LinkSpec, VertexSpec

# NCCL 2.30.7's latencies of its lightest protocol, split evenly over the links of a hop (docs/topologies.md).
NVLINK_HOP_S, SWITCH_HALF_S, PCIE_S, SOCKET_S = 0.6e-6, 0.3e-6, 0.5e-6, 0.5e-6
NIC_PORT_S = 0.35e-6
SOCKET_BYTES_PER_S = {"intel": 40e9, "amd": 16e9}
"""Between GPUs on two sockets, as NCCL 2.30.7 counts them (Sapphire Rapids; EPYC)."""

# One NVLink or xGMI link, per direction. NVIDIA data sheets: 25 GB/s for Volta to Hopper, 50 for Blackwell; 14.06 for
# the bridges of GA102 boards; AMD CDNA 2 and 3 whitepapers: 50 and 64, CDNA 4: 76.5.
_LINK_BYTES_PER_S = {
    "volta": 25e9,
    "turing": 25e9,
    "ampere": 25e9,
    "hopper": 25e9,
    "blackwell": 50e9,
    "rubin": 50e9,
    "cdna2": 50e9,
    "cdna3": 64e9,
    "cdna4": 76.5e9,
}


def link_bytes_per_s(device: Device) -> float:
    """Bandwidth of one scale-up link of the GPU, per direction."""
    if device.compute_capability == 86:
        return 14.0625e9
    return _LINK_BYTES_PER_S.get(device.generation, 25e9)


def duplex(source: str, destination: str, kind: LinkKind, bandwidth_bytes_per_s: float, latency_s: float) -> LinkSpec:
    """A full-duplex link."""
    return LinkSpec(source, destination, kind, bandwidth_bytes_per_s, latency_s)


def switched(gpus: list[str], bandwidth_bytes_per_s: float) -> tuple[VertexSpec, list[LinkSpec]]:
    """One NVSwitch vertex (its chips stripe every message) and each GPU's link to it."""
    links = [duplex(gpu, "nvswitch", "nvlink", bandwidth_bytes_per_s, SWITCH_HALF_S) for gpu in gpus]
    return VertexSpec("nvswitch", "nvswitch"), links


def sockets_joined(cpus: list[str], vendor: str) -> Iterator[LinkSpec]:
    """Every two CPUs joined: dumps do not list that link."""
    for a, b in combinations(cpus, 2):
        yield duplex(a, b, "numa", SOCKET_BYTES_PER_S[vendor], SOCKET_S)


def multicasts(device: Device) -> bool:
    """Third-generation NVSwitch and later reduce and multicast (NVLS); they come with Hopper and later."""
    return device.generation in ("hopper", "blackwell", "rubin")


def with_device(graph: Graph, name: str) -> Graph:
    """The same graph with every GPU of that model."""
    device = find_device(name).name
    vertices = tuple(
        VertexSpec(v.name, v.kind, device if v.kind == "gpu" else "", v.node, v.socket) for v in graph.vertices
    )
    return Graph(vertices, graph.links, graph.multicast, graph.port)
