"""What a cluster is described by: one node (by its parts, or vertex by vertex) and the fabric between nodes.

All quantities are SI; bandwidths are per direction. The human form with units is the YAML of `topologies/`.
"""

from dataclasses import dataclass, field
from typing import Literal

from simulator.topology.group import Network

VertexKind = Literal["gpu", "nvswitch", "pcie_switch", "cpu", "nic", "leaf", "spine", "core"]
LinkKind = Literal["nvlink", "xgmi", "pcie", "numa", "nic", "network"]

VERTEX_KINDS: tuple[VertexKind, ...] = ("gpu", "nvswitch", "pcie_switch", "cpu", "nic", "leaf", "spine", "core")
LINK_KINDS: tuple[LinkKind, ...] = ("nvlink", "xgmi", "pcie", "numa", "nic", "network")


@dataclass(frozen=True, slots=True)
class Wire:
    """A full-duplex link: bandwidth of each direction and the time the first byte takes."""

    bandwidth_bytes_per_s: float
    latency_s: float


@dataclass(frozen=True, slots=True)
class NvSwitch:
    """Every GPU on a switch. The chips stripe each message over all of them, so they are one vertex of `chips`."""

    wire: Wire
    """GPU to switch, all links of the GPU together; the latency is of one of the two hops."""
    chips: int
    multicast: bool
    """The switch reduces and multicasts (NVLS): third-generation NVSwitch and later."""


@dataclass(frozen=True, slots=True)
class FullMesh:
    """A link from every GPU to every other (xGMI of an MI300X box, NVLink of four-GPU boards)."""

    wire: Wire
    kind: Literal["nvlink", "xgmi"]


@dataclass(frozen=True, slots=True)
class Pcie:
    """CPU sockets, PCIe switches under each, GPUs under those; without switches the GPUs hang off the CPU."""

    sockets: int
    switches_per_socket: int
    device: Wire
    """GPU to PCIe switch (or to the CPU)."""
    uplink: Wire
    """PCIe switch to CPU."""
    socket: Wire
    """CPU to CPU (UPI, Infinity Fabric)."""


@dataclass(frozen=True, slots=True)
class Nics:
    """Scale-out NICs of one node, spread evenly over its PCIe switches (or hung on the GPUs, as on Grace boards)."""

    count: int
    pcie: Wire
    """NIC to PCIe switch, CPU or GPU."""
    port: Wire
    """NIC to leaf switch; the latency is the cable's and the NIC's own."""
    attach: Literal["pcie", "gpu"] = "pcie"


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node, i.e. one scale-up domain, by its parts. An NVL72 rack is a node of 72 GPUs in 18 trays."""

    gpu: str
    gpus: int
    scale_up: NvSwitch | FullMesh | None
    pcie: Pcie
    nics: Nics | None
    trays: int = 1
    """Separate hosts within the domain; each has `pcie.sockets` sockets and its share of GPUs and NICs."""


@dataclass(frozen=True, slots=True)
class VertexSpec:
    """One vertex of an explicit topology. `node` and `socket` place it; `device` is the GPU's model."""

    name: str
    kind: VertexKind
    device: str = ""
    node: int = 0
    socket: int = 0


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """One link of an explicit topology, by vertex names; duplex unless told (both directions alike)."""

    source: str
    destination: str
    kind: LinkKind
    bandwidth_bytes_per_s: float
    latency_s: float
    duplex: bool = True


@dataclass(frozen=True, slots=True)
class Graph:
    """A node, or a whole cluster, vertex by vertex; GPUs are numbered in the order they are listed."""

    vertices: tuple[VertexSpec, ...]
    links: tuple[LinkSpec, ...]
    multicast: bool = False
    port: Wire | None = None
    """NIC to leaf switch, where the graph is one node that a fabric repeats; a port of the fabric if not told."""


@dataclass(frozen=True, slots=True)
class Fabric:
    """Leaf, spine and core switches between nodes.

    `rails` is the number of leaf groups that NICs are dealt to: rail-optimised fabrics have one for each NIC of a
    node (or of a tray), a plain fat tree has 1. Switches are wired for the nodes that are present: a leaf has
    `oversubscription` times more bandwidth down than up, rounded to whole ports in favour of the uplinks.
    """

    kind: Network
    rails: int
    tiers: Literal[2, 3]
    switch_ports: int
    oversubscription: float
    hop: Wire
    """Switch to switch: bandwidth of one port; the latency is one switch's and its cable's."""


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """A cluster up to its number of nodes."""

    name: str
    node: NodeSpec | Graph
    fabric: Fabric | None = None
    description: str = ""
    sources: tuple[str, ...] = field(default=())
    network: Network = "none"
    """What the links between nodes of an explicit multi-node graph are; with a fabric, the fabric says it."""
