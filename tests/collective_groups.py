"""Groups of GPUs with plain link facts, for the tests of collective prices."""

from simulator.hardware.catalogue import find_device
from simulator.topology.group import GroupLinks, Network, ScaleUp


def group(gpu: str, ranks: int, per_node: int | None = None, *, network: Network = "infiniband") -> GroupLinks:
    """`ranks` GPUs, `per_node` in a node (all in one where it is not said), with the device's own rates."""
    device = find_device(gpu)
    inside = per_node or ranks
    nodes = -(-ranks // inside)
    scale_up: ScaleUp = "nvswitch" if device.nvlink_bytes_per_s else "pcie"
    if device.generation.startswith("cdna"):
        scale_up = "xgmi_mesh"
    rate = device.nvlink_bytes_per_s or device.pcie_bytes_per_s
    return GroupLinks(
        device=device,
        ranks=ranks,
        nodes=nodes,
        ranks_per_node=inside,
        scale_up=scale_up,
        scale_up_bytes_per_s=rate,
        pair_bytes_per_s=rate / 7 if scale_up == "xgmi_mesh" else rate,
        multicast=scale_up == "nvswitch" and device.compute_capability >= 90,
        scale_up_latency_s=0.6e-6,
        network=network if nodes > 1 else "none",
        nic_bytes_per_s=device.nic_bytes_per_s or 25e9,
        network_latency_s=2e-6,
    )
