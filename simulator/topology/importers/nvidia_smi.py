"""`nvidia-smi topo -m`: a matrix of how each GPU and NIC reaches each other.

Codes from near to far: NV# (bonded NVLinks), PIX (one PCIe switch), PXB (several), PHB (the CPU's host bridge), NODE
(host bridges of one NUMA node), SYS (between NUMA nodes). Bandwidths are not in it; they come from the catalogue.
"""

import re
from collections import Counter
from dataclasses import dataclass
from itertools import combinations

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

_CODE = re.compile(r"^(X|NV\d+|PIX|PXB|PHB|NODE|SYS)$")
_ITEM = re.compile(r"^(GPU|NIC)\d+$|^mlx\d_\d+$|^rdmap\S+$|^bnxt_re\d+$")
_LIKELY = {18: "H100-SXM", 12: "A100-80GB-SXM", 8: "H800-SXM", 6: "V100-SXM2-32GB"}  # links of a GPU, by model


@dataclass(frozen=True, slots=True)
class Matrix:
    """The matrix as printed: items (GPU0, NIC3) in order, codes[a][b], and the NUMA column where it is filled."""

    items: tuple[str, ...]
    codes: dict[tuple[str, str], str]
    numa: dict[str, str]

    @property
    def gpus(self) -> list[str]:
        """Items that are GPUs."""
        return [item for item in self.items if item.startswith("GPU")]

    @property
    def nics(self) -> list[str]:
        """Items that are NICs."""
        return [item for item in self.items if not item.startswith("GPU")]

    def links(self, a: str, b: str) -> int:
        """NVLinks between two GPUs."""
        code = self.codes[a, b]
        return int(code[2:]) if code.startswith("NV") else 0


def parse_matrix(text: str) -> Matrix:
    """Read the matrix; TopologyError says which line is wrong."""
    lines = [(number, re.sub(r"\x1b\[[0-9;]*m", "", line)) for number, line in enumerate(text.splitlines(), 1)]
    at = next((i for i, (_, line) in enumerate(lines) if line.split()[:1] == ["GPU0"]), None)
    if at is None:
        raise TopologyError(
            given="no header", rule="the matrix begins with a line of GPU0 GPU1 ...", where="nvidia-smi topo -m"
        )
    items = []
    for word in lines[at][1].split():
        if not _ITEM.match(word):
            break
        items.append(word)
    codes: dict[tuple[str, str], str] = {}
    numa: dict[str, str] = {}
    for number, line in lines[at + 1 :]:
        words = line.split()
        if words and words[0] in items:
            _read_row(number, words, items, codes)
            affinity = words[1 + len(items) :]
            if len(affinity) > 1 and affinity[1].isdigit():
                numa[words[0]] = affinity[1]
    _check_matrix(items, codes)
    return Matrix(tuple(items), codes, numa)


def _read_row(number: int, words: list[str], items: list[str], codes: dict[tuple[str, str], str]) -> None:
    row = words[1 : 1 + len(items)]
    wrong = [code for code in row if not _CODE.match(code)]
    if len(row) < len(items) or wrong:
        raise TopologyError(
            given=wrong[0] if wrong else f"{len(row)} of {len(items)} columns",
            rule="a row has X, NV#, PIX, PXB, PHB, NODE or SYS under each column",
            way_out="paste the whole output, unwrapped",
            where=f"nvidia-smi topo -m:{number}: {words[0]}",
        )
    codes.update({(words[0], item): code for item, code in zip(items, row, strict=True)})


def _check_matrix(items: list[str], codes: dict[tuple[str, str], str]) -> None:
    missing = [item for item in items if (item, item) not in codes]
    if missing:
        raise TopologyError(given=missing[0], rule="has a column but no row", where="nvidia-smi topo -m")
    for a, b in combinations(items, 2):
        if codes[a, b] != codes[b, a]:
            raise TopologyError(
                given=f"{a}-{b} is {codes[a, b]} and {codes[b, a]}",
                rule="the matrix is symmetric",
                where="nvidia-smi topo -m",
            )


def import_nvidia_smi(text: str, gpu: str | None = None, name: str = "imported") -> ClusterSpec:
    """The node that the matrix describes; PCIe switches and sockets are those its codes imply."""
    matrix = parse_matrix(text)
    most = max((matrix.links(a, b) for a, b in combinations(matrix.gpus, 2)), default=0)
    notes = ["from nvidia-smi topo -m; bandwidths from the catalogue, latencies from NCCL's constants"]
    if gpu is None:
        gpu = _LIKELY.get(most, "RTX-A6000" if most else "L40S")
        notes.append(f"GPU model not in the matrix: {gpu} assumed ({'NV' + str(most) if most else 'no NVLink'})")
    device = find_device(gpu)
    if matrix.nics:
        notes.append(f"NIC speed not in the matrix: {_nic_bytes_per_s(device) * 8e-9:g} Gbit/s assumed")
    socket = _sockets(matrix)
    vertices = [VertexSpec(g.lower(), "gpu", device.name, 0, socket[g]) for g in matrix.gpus]
    cpus = sorted(set(socket.values()))
    vertices += [VertexSpec(f"cpu{cpu}", "cpu", socket=cpu) for cpu in cpus]
    vertices += [VertexSpec(nic.lower(), "nic", socket=socket[nic]) for nic in matrix.nics]
    switches, links = _pcie(matrix, device, socket)
    more, scale_up = _scale_up(matrix, device, most)
    links += [*scale_up, *sockets_joined([f"cpu{cpu}" for cpu in cpus], "intel")]
    graph = Graph(
        tuple(vertices + switches + more),
        tuple(links),
        multicast=bool(more) and multicasts(device),
        port=Wire(_nic_bytes_per_s(device), NIC_PORT_S) if matrix.nics else None,
    )
    return ClusterSpec(name, graph, None, "; ".join(notes), ("nvidia-smi topo -m",))


def _nic_bytes_per_s(device: Device) -> float:
    return device.nic_bytes_per_s or 12.5e9


def _groups(items: list[str], near: set[tuple[str, str]]) -> list[list[str]]:
    """Connected components, in order of their first item."""
    left, groups = list(items), []
    while left:
        group, front = [left[0]], [left.pop(0)]
        while front:
            here = front.pop()
            found = [item for item in left if (here, item) in near]
            left = [item for item in left if item not in found]
            group += found
            front += found
        groups.append(sorted(group, key=items.index))
    return groups


def _sockets(matrix: Matrix) -> dict[str, int]:
    """NUMA node of each item: joined by any code nearer than SYS, or by the same number in the NUMA column."""
    near = {pair for pair, code in matrix.codes.items() if code in ("PIX", "PXB", "PHB", "NODE")}
    near |= {(a, b) for a in matrix.numa for b in matrix.numa if matrix.numa[a] == matrix.numa[b]}
    if not matrix.numa:  # the column is empty: GPUs joined by NVLink hide where they sit, so keep them on one socket
        near |= {(a, b) for a in matrix.gpus for b in matrix.gpus if matrix.links(a, b)}
    groups = _groups(list(matrix.items), near)
    return {item: index for index, group in enumerate(groups) for item in group}


def _pcie(matrix: Matrix, device: Device, socket: dict[str, int]) -> tuple[list[VertexSpec], list[LinkSpec]]:
    """A switch for each set of items joined by PIX, one above it for sets joined by PXB; the rest on the CPU."""
    bandwidth = device.pcie_bytes_per_s
    vertices, links = [], []
    items = list(matrix.items)
    pix = {pair for pair, code in matrix.codes.items() if code == "PIX"}
    pxb = pix | {pair for pair, code in matrix.codes.items() if code == "PXB"}
    number = 0
    for outer in _groups(items, pxb):
        above = f"cpu{socket[outer[0]]}"
        inner = _groups(outer, pix)
        if len(inner) > 1:
            above, number = f"pcie{number}", number + 1
            vertices.append(VertexSpec(above, "pcie_switch", socket=socket[outer[0]]))
            links.append(duplex(above, f"cpu{socket[outer[0]]}", "pcie", bandwidth, PCIE_S))
        for group in inner:
            root = above
            if len(group) > 1:
                root, number = f"pcie{number}", number + 1
                vertices.append(VertexSpec(root, "pcie_switch", socket=socket[group[0]]))
                links.append(duplex(root, above, "pcie", bandwidth, PCIE_S))
            links += [duplex(item.lower(), root, "pcie", bandwidth, PCIE_S) for item in group]
    return vertices, links


def _scale_up(matrix: Matrix, device: Device, most: int) -> tuple[list[VertexSpec], list[LinkSpec]]:
    """NVSwitch where every pair has all links of a GPU, else a link for each joined pair."""
    counts = Counter(matrix.links(a, b) for a, b in combinations(matrix.gpus, 2))
    each = link_bytes_per_s(device)
    if (
        len(matrix.gpus) > 2
        and set(counts) == {most}
        and most * (len(matrix.gpus) - 1) * each > device.nvlink_bytes_per_s
    ):
        vertex, links = switched([gpu.lower() for gpu in matrix.gpus], most * each)
        return [vertex], links
    pairs = [(a, b) for a, b in combinations(matrix.gpus, 2) if matrix.links(a, b)]
    return [], [duplex(a.lower(), b.lower(), "nvlink", matrix.links(a, b) * each, NVLINK_HOP_S) for a, b in pairs]
