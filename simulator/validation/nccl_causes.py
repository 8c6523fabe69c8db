"""What can ail a cluster, each as a change of the links whose price is then compared with a measurement."""

from collections.abc import Callable
from dataclasses import replace

from simulator.topology.group import GroupLinks


def _without_multicast(links: GroupLinks) -> GroupLinks:
    return replace(links, multicast=False)


def _one_rail_down(links: GroupLinks) -> GroupLinks:
    rails = max(links.ranks_per_node, 2)
    return replace(links, nic_bytes_per_s=links.nic_bytes_per_s * (rails - 1) / rails)


def _half_network(links: GroupLinks) -> GroupLinks:
    return replace(links, nic_bytes_per_s=links.nic_bytes_per_s / 2.0)


def _one_nic(links: GroupLinks) -> GroupLinks:
    return replace(links, nic_bytes_per_s=links.nic_bytes_per_s / max(links.ranks_per_node, 2))


def _over_pcie(links: GroupLinks) -> GroupLinks:
    rate = links.device.pcie_bytes_per_s
    return replace(
        links, scale_up="pcie", scale_up_bytes_per_s=rate, pair_bytes_per_s=rate, multicast=False
    )  # fmt: skip


def _over_network(links: GroupLinks) -> GroupLinks:
    return replace(
        links, nodes=links.ranks, ranks_per_node=1, scale_up="none", scale_up_bytes_per_s=0.0, pair_bytes_per_s=0.0,
        multicast=False, network=links.network if links.network != "none" else "infiniband",
        nic_bytes_per_s=links.nic_bytes_per_s or links.device.nic_bytes_per_s,
    )  # fmt: skip


# Causes in the order in which they are tried: what to change in the links, and what to say.
CAUSES: tuple[tuple[str, Callable[[GroupLinks], bool], Callable[[GroupLinks], GroupLinks]], ...] = (
    (
        "NVLS off: fits rings without in-switch reduction; check NCCL_NVLS_ENABLE, the fabric manager and the driver",
        lambda links: links.multicast, _without_multicast,
    ),
    (
        "one rail down: fits one NIC fewer per node; check ibstat on every node and NCCL_IB_HCA",
        lambda links: links.nodes > 1, _one_rail_down,
    ),
    (
        "NICs at half their rate: check the link speed, PCIe width, GPUDirect RDMA and PXN",
        lambda links: links.nodes > 1, _half_network,
    ),
    (
        "one NIC for all GPUs of a node: check NCCL_IB_HCA and the topology file inside containers",
        lambda links: links.nodes > 1 and links.ranks_per_node > 1, _one_nic,
    ),
    (
        "PCIe path: fits PCIe in place of NVLink; check NCCL_P2P_LEVEL, nvidia-smi topo -m and ACS",
        lambda links: links.scale_up in ("nvswitch", "nvlink_mesh", "xgmi_mesh"), _over_pcie,
    ),
    (
        "NVLink unused: fits every GPU talking through its NIC; check NCCL_P2P_DISABLE and the container",
        lambda links: links.scale_up in ("nvswitch", "nvlink_mesh", "xgmi_mesh") and links.device.nic_bytes_per_s > 0,
        _over_network,
    ),
)  # fmt: skip
