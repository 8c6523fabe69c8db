"""The link facts that the price of a collective depends on, for one group of GPUs."""

from dataclasses import dataclass
from typing import Literal

from simulator.hardware.device import Device

ScaleUp = Literal["nvswitch", "nvlink_mesh", "xgmi_mesh", "pcie", "none"]
Network = Literal["infiniband", "roce", "efa", "slingshot", "none"]


@dataclass(frozen=True, slots=True)
class GroupLinks:
    """What connects the ranks of one group. Bandwidths are per GPU and per direction.

    A scale-up domain (an NVSwitch box, an NVL72 rack, a PCIe host) counts as one node.
    """

    device: Device
    ranks: int
    nodes: int
    ranks_per_node: int
    """Of the node that holds most of them."""
    scale_up: ScaleUp
    scale_up_bytes_per_s: float
    pair_bytes_per_s: float
    """One GPU to one other inside the node; equals scale_up_bytes_per_s behind a switch."""
    multicast: bool
    """The switch reduces and multicasts (NVLS: NVSwitch gen3 and later, more than one GPU)."""
    scale_up_latency_s: float
    network: Network
    nic_bytes_per_s: float
    network_latency_s: float
    """One message between nodes, through NICs and switches, without software."""
    oversubscription: float = 1.0
    """Sum of a leaf's ports down over its ports up, for traffic that leaves the leaf; 1: non-blocking."""
    sockets: int = 1
    """CPU sockets that the ranks of one node are spread over (PCIe boxes slow down across them)."""
    crosses_rails: bool = False
    """A ring or tree may leave a node by another NIC than it came in by (NCCL_CROSS_NIC=1), and so cross the spine."""
