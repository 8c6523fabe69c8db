"""The YAML form of a topology file, with units, and its translation to `ClusterSpec`."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from simulator.errors import ShardsimError
from simulator.topology.group import Network
from simulator.topology.spec import (
    ClusterSpec,
    Fabric,
    FullMesh,
    Graph,
    LinkKind,
    LinkSpec,
    Nics,
    NodeSpec,
    NvSwitch,
    Pcie,
    VertexKind,
    VertexSpec,
    Wire,
)
from simulator.units import parse_bandwidth, parse_time


def _checked(parse: Callable[[str], float], example: str) -> BeforeValidator:
    """A pydantic check that keeps the text and refuses what `parse` refuses, or what is below what it may be."""

    def check(text: object) -> str:
        if not isinstance(text, str):
            raise ValueError(f'{text!r}: is no text with a unit; write e.g. "{example}"')
        try:
            value = parse(text)
        except ShardsimError as error:
            raise ValueError(str(error)) from None
        if value < 0 or (value == 0 and parse is parse_bandwidth):
            raise ValueError(f"{text!r}: must be above zero; leave a link out if it is down")
        return text

    return BeforeValidator(check)


Bandwidth = Annotated[
    str, _checked(parse_bandwidth, "450 GB/s"), Field(description='per direction, e.g. "450 GB/s", "400 Gbit/s"')
]
Time = Annotated[str, _checked(parse_time, "0.6 us"), Field(description='e.g. "0.6 us"')]
Count = Annotated[int, Field(ge=1)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WireFile(_Model):
    """One full-duplex link: bandwidth per direction, latency of the first byte."""

    bandwidth: Bandwidth
    latency: Time

    def wire(self) -> Wire:
        """In SI units."""
        return Wire(parse_bandwidth(self.bandwidth), parse_time(self.latency))


class NvSwitchFile(WireFile):
    """All GPUs on NVSwitch chips; bandwidth of one GPU, latency of one hop."""

    kind: Literal["nvswitch"]
    chips: Count = 1
    multicast: bool = Field(False, description="the switch reduces and multicasts (NVLS)")


class MeshFile(WireFile):
    """A link between every two GPUs; bandwidth and latency of one of them."""

    kind: Literal["nvlink_mesh", "xgmi_mesh"]


class PcieFile(_Model):
    """Sockets, PCIe switches and their links."""

    sockets: Count
    switches_per_socket: Annotated[int, Field(ge=0)] = 0
    gpu: WireFile
    uplink: WireFile | None = Field(None, description="switch to CPU; as `gpu` if left out")
    socket_link: WireFile | None = Field(None, description="CPU to CPU; needed with two sockets or more")


class NicsFile(_Model):
    """NICs of a node."""

    count: Count
    port: WireFile
    pcie: WireFile | None = Field(None, description="NIC to PCIe switch or CPU; as pcie.gpu if left out")
    attach: Literal["pcie", "gpu"] = "pcie"


class NodeFile(_Model):
    """One scale-up domain by its parts."""

    gpu: str
    gpus: Count
    trays: Count = 1
    scale_up: Annotated[NvSwitchFile | MeshFile, Field(discriminator="kind")] | None = None
    pcie: PcieFile
    nics: NicsFile | None = None


class FabricFile(_Model):
    """Leaf, spine and core switches."""

    kind: Network
    layout: Literal["rail", "fat_tree"] = "rail"
    rails: Count | None = Field(None, description="leaves a node is spread over; one for each NIC if left out")
    tiers: Literal[2, 3] = 3
    switch_ports: Annotated[int, Field(ge=2)]
    oversubscription: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    hop: WireFile


class VertexFile(_Model):
    """One vertex of an explicit topology."""

    name: Annotated[str, Field(min_length=1)]
    kind: VertexKind
    device: str = ""
    node: Annotated[int, Field(ge=0)] = 0
    socket: Annotated[int, Field(ge=0)] = 0


class LinkFile(WireFile):
    """One link of an explicit topology."""

    source: str
    destination: str
    kind: LinkKind
    duplex: bool = True


class GraphFile(_Model):
    """A node or a cluster, vertex by vertex."""

    vertices: list[VertexFile]
    links: list[LinkFile]
    multicast: bool = False
    port: WireFile | None = None


class TopologyFile(_Model):
    """A topology file: `node` by its parts or `graph` vertex by vertex, and the fabric between nodes."""

    name: Annotated[str, Field(min_length=1)]
    description: str = ""
    sources: list[str] = []
    node: NodeFile | None = None
    graph: GraphFile | None = None
    fabric: FabricFile | None = None
    network: Network = "none"

    def spec(self) -> ClusterSpec:
        """In SI units; ValueError where both or neither of node and graph are given."""
        node: NodeSpec | Graph
        if self.node is not None and self.graph is None:
            node, nics = _node(self.node), self.node.nics.count if self.node.nics else 0
        elif self.graph is not None and self.node is None:
            node, nics = _graph(self.graph), sum(vertex.kind == "nic" for vertex in self.graph.vertices)
        else:
            raise ValueError("a topology has either `node` or `graph`")
        fabric = _fabric(self.fabric, nics) if self.fabric else None
        return ClusterSpec(self.name, node, fabric, self.description, tuple(self.sources), self.network)


def _node(node: NodeFile) -> NodeSpec:
    scale_up: NvSwitch | FullMesh | None = None
    match node.scale_up:
        case NvSwitchFile() as switch:
            scale_up = NvSwitch(switch.wire(), switch.chips, switch.multicast)
        case MeshFile() as mesh:
            scale_up = FullMesh(mesh.wire(), "nvlink" if mesh.kind == "nvlink_mesh" else "xgmi")
    gpu = node.pcie.gpu.wire()
    if node.pcie.sockets > 1 and node.pcie.socket_link is None:
        raise ValueError("node.pcie.socket_link says how the sockets are joined; give its bandwidth and latency")
    pcie = Pcie(
        sockets=node.pcie.sockets,
        switches_per_socket=node.pcie.switches_per_socket,
        device=gpu,
        uplink=node.pcie.uplink.wire() if node.pcie.uplink else gpu,
        socket=node.pcie.socket_link.wire() if node.pcie.socket_link else gpu,
    )
    nics = None
    if node.nics is not None:
        nics = Nics(
            node.nics.count, node.nics.pcie.wire() if node.nics.pcie else gpu, node.nics.port.wire(), node.nics.attach
        )
    return NodeSpec(node.gpu, node.gpus, scale_up, pcie, nics, node.trays)


def _fabric(fabric: FabricFile, nics: int) -> Fabric:
    rails = (fabric.rails or max(1, nics)) if fabric.layout == "rail" else 1
    return Fabric(fabric.kind, rails, fabric.tiers, fabric.switch_ports, fabric.oversubscription, fabric.hop.wire())


def _graph(graph: GraphFile) -> Graph:
    return Graph(
        vertices=tuple(VertexSpec(v.name, v.kind, v.device, v.node, v.socket) for v in graph.vertices),
        links=tuple(
            LinkSpec(
                link.source,
                link.destination,
                link.kind,
                parse_bandwidth(link.bandwidth),
                parse_time(link.latency),
                link.duplex,
            )
            for link in graph.links
        ),
        multicast=graph.multicast,
        port=graph.port.wire() if graph.port else None,
    )
