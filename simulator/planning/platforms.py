"""Platforms from clusters, or from a GPU's datasheet where no topology of it is at hand."""

from dataclasses import replace

from simulator.errors import TopologyError
from simulator.hardware.catalogue import find_device, list_devices
from simulator.hardware.device import Device
from simulator.planning.question import Platform
from simulator.topology.cluster import Cluster
from simulator.topology.facts import group_links
from simulator.topology.group import GroupLinks, ScaleUp

NETWORK_LATENCY_S = 2.0e-6
"""InfiniBand NDR or RoCE through one switch, 1 to 2 us (NVIDIA Quantum-2 and ConnectX-7 briefs, 2022)."""
SCALE_UP_LATENCY_S = {"nvswitch": 0.6e-6, "xgmi_mesh": 1.0e-6, "pcie": 1.0e-6}
"""One hop without software: NVLink through a switch 0.6 us (NCCL's LL hop), PCIe and xGMI 1 us."""
RACK_GPUS = 72
"""Of an NVL72 rack, which is one scale-up domain."""
NEXT_GENERATION = {
    "A100-80GB-SXM": "H100-SXM", "A100-40GB-SXM": "H100-SXM", "A800-80GB-SXM": "H800-SXM", "H20-96GB": "H200-SXM",
    "H800-SXM": "B200-SXM", "H100-SXM": "B200-SXM", "H200-SXM": "B200-SXM", "B200-SXM": "B300-SXM",
    "GB200-NVL72": "GB300-NVL72", "B300-SXM": "Rubin-SXM", "MI300X": "MI355X", "MI325X": "MI355X",
    "L40S": "RTX-PRO-6000-Server",
}  # fmt: skip
"""What its maker sells in its place (product pages, 2026-11)."""


def platform_from_cluster(name: str, cluster: Cluster, max_gpus: int) -> Platform:
    """The facts of a cluster of two nodes or more (of one, where it has no more)."""
    per_node = int((cluster.gpu_node == 0).sum())
    sizes = [1 << k for k in range(1, per_node.bit_length()) if 1 << k < per_node] + [per_node]
    inside = tuple(group_links(cluster, range(size)) for size in sizes if size > 1)
    across = group_links(cluster, range(2 * per_node)) if cluster.nodes > 1 else None
    most = max_gpus if across is not None else min(max_gpus, per_node)
    return Platform(name, cluster.device(), per_node, inside, across, most)


def platform_from_device(gpu: str, max_gpus: int, per_node: int = 0, nic_bytes_per_s: float = 0.0) -> Platform:
    """Nodes of 8 (72 for a rack-scale GPU) with the datasheet's links. Raises TopologyError for an unknown GPU."""
    device = find_device(gpu)
    nvl = device.name.endswith("NVL72")
    size = per_node or (RACK_GPUS if nvl else 8)
    if size < 1:
        raise TopologyError(where="per_node", given=str(size), rule="must be at least 1")
    inside = tuple(_inside(device, n, size) for n in (2, 4, 8, 16, 32, 64) if n < size) + (
        (_inside(device, size, size),) if size > 1 else ()
    )
    nic = nic_bytes_per_s or device.nic_bytes_per_s or 25e9
    base = inside[-1] if inside else _inside(device, 1, 1)
    across = replace(
        base, ranks=2 * size, nodes=2, network="infiniband", nic_bytes_per_s=nic, network_latency_s=NETWORK_LATENCY_S
    )
    return Platform(device.name, device, size, inside, across, max_gpus)


def _inside(device: Device, ranks: int, per_node: int) -> GroupLinks:
    kind: ScaleUp = "pcie"
    if device.nvlink_bytes_per_s:
        kind = "xgmi_mesh" if device.generation.startswith(("cdna", "davinci")) else "nvswitch"
    rate = device.nvlink_bytes_per_s or device.pcie_bytes_per_s
    pair = rate / 7 if kind == "xgmi_mesh" else rate
    multicast = kind == "nvswitch" and device.generation in ("hopper", "blackwell", "rubin") and ranks > 1
    return GroupLinks(
        device, ranks, 1, ranks, kind, rate, pair, multicast, SCALE_UP_LATENCY_S[kind], "none", 0.0, 0.0,
        sockets=2 if kind == "pcie" and ranks > 4 and per_node > 4 else 1,
    )  # fmt: skip


def next_generation(platform: Platform) -> Platform | None:
    """As many GPUs of the kind that follows, in its usual node; None where none is named."""
    name = NEXT_GENERATION.get(platform.device.name)
    if name is None or name not in {device.name for device in list_devices()}:
        return None
    return platform_from_device(name, platform.max_gpus)


def faster_network(platform: Platform, factor: float) -> Platform:
    """The same with NICs `factor` times as fast."""
    if platform.across is None:
        return platform
    device = replace(platform.device, nic_bytes_per_s=platform.device.nic_bytes_per_s * factor)
    across = replace(platform.across, nic_bytes_per_s=platform.across.nic_bytes_per_s * factor)
    return replace(platform, across=across, device=device)
