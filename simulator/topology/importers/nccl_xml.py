"""NCCL and RCCL topology XML: what `NCCL_TOPO_DUMP_FILE` writes and `NCCL_TOPO_FILE` reads.

`<system>` holds `<cpu>`s, those nested `<pci>` devices by class, and `<gpu>`, `<nvlink>`, `<xgmi>`, `<nic>` and
`<net>` inside them. Files that clouds ship for NCCL to read hold only the PCI tree: NCCL finds GPUs' models and
NVLinks when it runs, so those come from `gpu` or are assumed, and told.
"""

import re
from dataclasses import dataclass, field
from xml.etree import ElementTree

from simulator.errors import TopologyError
from simulator.hardware.catalogue import find_device
from simulator.hardware.device import Device
from simulator.topology.importers.assume import (
    NIC_PORT_S,
    NVLINK_HOP_S,
    PCIE_S,
    duplex,
    link_bytes_per_s,
    multicasts,
    sockets_joined,
    switched,
)
from simulator.topology.spec import ClusterSpec, Graph, LinkSpec, VertexSpec, Wire

_KIND = {"0x0604": "pcie_switch", "0x0302": "gpu", "0x0380": "gpu", "0x1200": "gpu", "0x0207": "nic", "0x0200": "nic"}
_SWITCH_CLASS = "0x0680"
# PCI device ids of pci-ids.ucw.cz (2026-08), and compute capability or CU count where there is a <gpu> element.
_BY_PCI_ID = {
    "0x20b0": "A100-40GB-SXM",
    "0x20b2": "A100-80GB-SXM",
    "0x20b5": "A100-PCIe-80GB",
    "0x20f3": "A800-80GB-SXM",
    "0x2324": "H800-SXM",
    "0x2330": "H100-SXM",
    "0x2331": "H100-PCIe",
    "0x2335": "H200-SXM",
    "0x2329": "H20-96GB",
    "0x2901": "B200-SXM",
    "0x2941": "GB200-NVL72",
    "0x26b9": "L40S",
    "0x740c": "MI250X-GCD",
    "0x740f": "MI250X-GCD",
    "0x74a1": "MI300X",
    "0x74a5": "MI325X",
    "0x75a3": "MI355X",
}
_BY_SM = {"70": "V100-SXM2-32GB", "75": "T4", "80": "A100-80GB-SXM", "89": "L40S", "90": "H100-SXM", "100": "B200-SXM"}
_BY_GENERATION = {8.0: "V100-SXM2-32GB", 16.0: "A100-80GB-SXM", 32.0: "H100-SXM"}  # by PCIe GT/s, where all else fails
_EFA_BYTES_PER_S = 100e9 / 8  # 0x1d0f:0xefa0, the first Elastic Fabric Adapter: 100 Gbit/s (AWS p4d, 2020-11)


@dataclass
class _Read:
    """What has been read so far."""

    vertices: list[VertexSpec] = field(default_factory=list)
    links: list[LinkSpec] = field(default_factory=list)
    gpus: dict[str, tuple[str, ElementTree.Element]] = field(default_factory=dict)
    """Name and element by bus id."""
    ports: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    def name(self, prefix: str) -> str:
        number = self.numbers.get(prefix, 0)
        self.numbers[prefix] = number + 1
        return f"{prefix}{number}"

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def import_nccl_xml(text: str, gpu: str | None = None, name: str = "imported") -> ClusterSpec:
    """The node that a topology XML describes; TopologyError where it is malformed or of another version."""
    try:
        system = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise TopologyError(given=str(error), rule="is not well-formed XML", where="topology XML") from None
    if system.tag != "system" or system.get("version") not in ("1", "2"):
        raise TopologyError(
            given=f"<{system.tag} version={system.get('version')!r}>",
            rule="is no <system version=1 or 2>",
            where="topology XML",
        )
    read = _Read()
    cpus = []
    for index, cpu in enumerate(system.iter("cpu")):
        cpus.append(f"cpu{index}")
        read.vertices.append(VertexSpec(cpus[-1], "cpu", socket=index))
        for child in cpu:
            _read_child(read, child, cpus[-1], index)
    if not read.gpus:
        raise TopologyError(
            given="no GPU",
            rule="a topology XML lists PCI devices of class 0x0302, 0x0380 or 0x1200",
            where="topology XML",
        )
    devices = {bus: _device(read, element, gpu) for bus, (_, element) in read.gpus.items()}
    vendor = "amd" if any(cpu.get("vendor") == "AuthenticAMD" for cpu in system.iter("cpu")) else "intel"
    read.links += sockets_joined(cpus, vendor)
    if len(cpus) > 1:
        read.note("links between sockets not in the file: taken as NCCL counts them")
    multicast = _scale_up(read, devices)
    return _spec(read, devices, multicast, name)


def _spec(read: _Read, devices: dict[str, Device], multicast: bool, name: str) -> ClusterSpec:
    by_name = {read.gpus[bus][0]: device.name for bus, device in devices.items()}
    vertices = tuple(
        VertexSpec(v.name, v.kind, by_name.get(v.name, ""), v.node, v.socket) for v in _numbered_as_ranked(read)
    )
    port = None
    if any(vertex.kind == "nic" for vertex in vertices):
        known = [speed for speed in read.ports if speed]
        speed = max(known, default=next(iter(devices.values())).nic_bytes_per_s or 12.5e9)
        if len(known) < len(read.ports):
            read.note(f"NIC speed not in the file: {speed * 8e-9:g} Gbit/s assumed")
        elif len(set(known)) > 1:
            read.note(f"NICs of several speeds: {speed * 8e-9:g} Gbit/s taken for all")
        port = Wire(speed, NIC_PORT_S)
    graph = Graph(vertices, tuple(read.links), multicast, port)
    return ClusterSpec(name, graph, None, "; ".join(["from NCCL topology XML", *read.notes]), ("NCCL topology XML",))


def _numbered_as_ranked(read: _Read) -> list[VertexSpec]:
    """GPUs in the order of their `dev` numbers, where the file has them."""

    def place(vertex: VertexSpec) -> tuple[int, int]:
        digits = re.search(r"\d+$", vertex.name)
        return (0, int(digits[0])) if vertex.kind == "gpu" and digits else (1, 0)

    return sorted(read.vertices, key=place)


def _read_child(read: _Read, element: ElementTree.Element, parent: str, socket: int) -> None:
    if element.tag == "nic":  # a NIC that NCCL could place no nearer than this socket
        _add_nic(read, parent, socket, element, read_speed(read, element))
    if element.tag != "pci":
        return
    kind = _KIND.get((element.get("class") or "")[:6])
    here = {"pcie_switch": "pcie", "gpu": "gpu", "nic": "nic"}.get(kind or "")
    if kind is None or here is None:
        raise TopologyError(
            given=f"class {element.get('class')}",
            rule=f"is no PCI class known here ({', '.join(_KIND)})",
            where=f"topology XML: pci {element.get('busid')}",
        )
    if kind == "nic":
        _add_nic(read, parent, socket, element, read_speed(read, element))
        return
    if kind == "gpu":
        own = element.find("gpu")
        dev = own.get("dev") if own is not None else None
        name = f"gpu{int(dev)}" if dev is not None else read.name("gpu")
        read.gpus[element.get("busid") or name] = (name, element)
    else:
        name = read.name(here)
    read.vertices.append(VertexSpec(name, "gpu" if kind == "gpu" else "pcie_switch", socket=socket))
    read.links.append(duplex(name, parent, "pcie", pcie_bytes_per_s(read, element), PCIE_S))
    for child in element:
        _read_child(read, child, name, socket)


def _add_nic(read: _Read, parent: str, socket: int, element: ElementTree.Element, speed: float) -> None:
    name = read.name("nic")
    read.vertices.append(VertexSpec(name, "nic", socket=socket))
    read.links.append(duplex(name, parent, "pcie", pcie_bytes_per_s(read, element), PCIE_S))
    read.ports.append(speed)


def read_speed(read: _Read, element: ElementTree.Element) -> float:
    """Bytes per second of a NIC's ports together, 0 if not told; `speed` is in Mbit/s."""
    if element.get("vendor") == "0x1d0f" and element.get("device") == "0xefa0":
        read.note("Elastic Fabric Adapter 0xefa0: 100 Gbit/s")
        return _EFA_BYTES_PER_S
    return sum(float(net.get("speed", 0)) for net in element.iter("net")) * 1e6 / 8


def pcie_bytes_per_s(read: _Read, element: ElementTree.Element) -> float:
    """From transfers per second and width; gen3 x16 where the file has none, as NCCL takes it."""
    rate = re.match(r"([\d.]+) ?GT/s", element.get("link_speed") or "")
    width = int(element.get("link_width") or 0)
    if rate is None or not width:
        read.note("PCIe speed not in the file in places: gen3 x16 taken, as NCCL does")
    giga, lanes = float(rate[1]) if rate else 8.0, width or 16
    coding = 128 / 130 if giga >= 8 else 8 / 10
    return giga * 1e9 * lanes * coding / 8


def _device(read: _Read, element: ElementTree.Element, gpu: str | None) -> Device:
    if gpu is not None:
        return find_device(gpu)
    by_id = _BY_PCI_ID.get(element.get("device") or "")
    if by_id:
        return find_device(by_id)
    own = element.find("gpu")
    by_sm = _BY_SM.get(own.get("sm") or "") if own is not None else None
    rate = re.match(r"([\d.]+)", element.get("link_speed") or "")
    likely = by_sm or _BY_GENERATION.get(float(rate[1]) if rate else 0.0)
    if likely is None:
        raise TopologyError(
            given=f"pci {element.get('busid')}", rule="does not say its GPU model", way_out="name it with gpu="
        )
    read.note(
        f"GPU model not in the file: {likely} assumed from its {'compute capability' if by_sm else 'PCIe generation'}"
    )
    return find_device(likely)


def _scale_up(read: _Read, devices: dict[str, Device]) -> bool:
    """Add NVLink and xGMI links; whether there is a switch that multicasts."""
    device = next(iter(devices.values()))
    pairs, switch = _listed_links(read, devices)
    if not any(element.find("gpu") is not None for _, element in read.gpus.values()) and "SXM" in device.name:
        read.note("NVLinks are found when NCCL runs, not in the file: NVSwitch assumed")
        switch = {name: device.nvlink_bytes_per_s for name, _ in read.gpus.values()}
    for name, bandwidth in switch.items():
        _, links = switched([name], bandwidth)
        read.links += links
    if switch:
        read.vertices.append(VertexSpec("nvswitch", "nvswitch"))
    kind = "xgmi" if device.generation.startswith("cdna") else "nvlink"
    for (a, b), bandwidth in pairs.items():
        read.links.append(LinkSpec(a, b, "xgmi" if kind == "xgmi" else "nvlink", bandwidth, NVLINK_HOP_S))
    return bool(switch) and multicasts(device)


def _listed_links(read: _Read, devices: dict[str, Device]) -> tuple[dict[tuple[str, str], float], dict[str, float]]:
    """Bandwidth of each pair of GPUs joined directly, and of each GPU to the switch."""
    pairs: dict[tuple[str, str], float] = {}
    switch: dict[str, float] = {}
    for bus, (name, element) in read.gpus.items():
        each = link_bytes_per_s(devices[bus])
        for link in (*element.iter("nvlink"), *element.iter("xgmi")):
            target, bandwidth = link.get("target") or "", int(link.get("count") or 0) * each
            if target == bus:
                read.note("an NVLink from a GPU to itself is left out")
            elif target in read.gpus:
                pairs[min(name, read.gpus[target][0]), max(name, read.gpus[target][0])] = bandwidth
            elif (link.get("tclass") or "").startswith(_SWITCH_CLASS):
                switch[name] = switch.get(name, 0.0) + bandwidth
            else:
                raise TopologyError(
                    given=target, rule="is no GPU of this file and no NVSwitch", where=f"topology XML: gpu {bus}"
                )
    return pairs, switch
