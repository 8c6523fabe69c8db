"""The links of a measured setup, from the input columns of a table."""

import re
from math import isfinite
from typing import Any

from simulator.errors import ShardsimError
from simulator.hardware.catalogue import find_device
from simulator.hardware.device import Device
from simulator.topology.group import GroupLinks, Network, ScaleUp

# Time of one message without software, by kind of link. NVLink about 0.5 us through a switch (NCCL's LL hop is 0.6 us),
# PCIe 1 us; the networks by the vendors' small-message latencies (InfiniBand NDR 1-2 us with one switch, RoCE alike,
# EFA SRD about 5 us, Slingshot-11 about 2 us). Fitted hops hold the software on top of these.
SCALE_UP_LATENCY_S: dict[ScaleUp, float] = {
    "nvswitch": 0.6e-6, "nvlink_mesh": 0.5e-6, "xgmi_mesh": 1.0e-6, "pcie": 1.0e-6, "none": 0.0,
}  # fmt: skip
NETWORK_LATENCY_S: dict[Network, float] = {
    "infiniband": 2.0e-6, "roce": 2.0e-6, "efa": 5.0e-6, "slingshot": 2.0e-6, "none": 0.0,
}  # fmt: skip
IN_SWITCH_REDUCTION = ("hopper", "blackwell", "rubin")
"""Generations whose NVSwitch reduces and multicasts (NVLink SHARP)."""
RACK_DOMAIN = 72
"""GPUs of an NVL72 rack, which is one scale-up domain and so one node."""


def network_of(text: str) -> Network:
    """The kind of network a setup's description names; RoCE where it only says Ethernet or nothing."""
    lower = text.lower()
    for word, network in (("efa", "efa"), ("slingshot", "slingshot"), ("roce", "roce"), ("ethernet", "roce")):
        if word in lower:
            return network  # type: ignore[return-value]
    return "infiniband"


def scale_up_of(text: str, device: Device) -> ScaleUp:
    """The kind of link inside the node: as described, else what the device has."""
    lower = text.lower()
    for word, kind in (
        ("disabled", "none"), ("pcie", "pcie"), ("xgmi", "xgmi_mesh"), ("infinity", "xgmi_mesh"),
        ("hccs", "xgmi_mesh"),
        ("no switch", "nvlink_mesh"), ("mesh", "nvlink_mesh"), ("nvswitch", "nvswitch"), ("nvl72", "nvswitch"),
        ("nvlink", "nvswitch"), ("loopback", "none"),
    ):  # fmt: skip
        if word in lower:
            return "xgmi_mesh" if kind == "nvlink_mesh" and device.generation.startswith("cdna") else kind  # type: ignore[return-value]
    if device.generation.startswith(("cdna", "davinci")):
        return "xgmi_mesh"  # every GPU of a node linked with every other
    return "nvswitch" if device.nvlink_bytes_per_s else "pcie"


def pair_rate(device: Device, scale_up: ScaleUp, per_node: int) -> float:
    """One GPU to one other: all its links behind a switch, an equal share of them on a mesh."""
    if scale_up == "xgmi_mesh":
        return device.nvlink_bytes_per_s / 7
    if scale_up == "nvlink_mesh":
        return device.nvlink_bytes_per_s / max(per_node - 1, 1)
    return device.nvlink_bytes_per_s if scale_up == "nvswitch" else device.pcie_bytes_per_s


def group_links(
    gpu: str,
    ranks: int,
    per_node: int,
    *,
    intra: str = "",
    inter: str = "",
    nic_gbit_per_s: float = float("nan"),
    notes: str = "",
) -> GroupLinks:
    """A group of `ranks` GPUs, `per_node` in a host, with the device's own rates where the table is silent."""
    device = find_device(gpu)
    scale_up = scale_up_of(intra, device)
    if "nvl72" in intra.lower() or device.name.endswith("NVL72"):
        per_node = min(ranks, RACK_DOMAIN)
    per_node = min(per_node, ranks)
    if scale_up == "none":
        per_node = 1
    nodes = -(-ranks // per_node)
    nic = nic_gbit_per_s * 1e9 / 8 if isfinite(nic_gbit_per_s) else device.nic_bytes_per_s or 25e9
    rate = (
        device.nvlink_bytes_per_s if scale_up in ("nvswitch", "nvlink_mesh", "xgmi_mesh") else device.pcie_bytes_per_s
    )
    network: Network = network_of(inter) if nodes > 1 else "none"
    return GroupLinks(
        device=device,
        ranks=ranks,
        nodes=nodes,
        ranks_per_node=per_node,
        scale_up=scale_up,
        scale_up_bytes_per_s=rate,
        pair_bytes_per_s=pair_rate(device, scale_up, per_node),
        multicast=scale_up == "nvswitch" and device.generation in IN_SWITCH_REDUCTION,
        scale_up_latency_s=SCALE_UP_LATENCY_S[scale_up],
        network=network,
        nic_bytes_per_s=nic,
        network_latency_s=NETWORK_LATENCY_S[network],
        sockets=2 if scale_up == "pcie" and per_node > 4 else 1,
        crosses_rails=nodes > 1 and crosses_rails(notes),
    )


def crosses_rails(notes: str) -> bool:
    """Whether a run's notes say that rings and trees may change NIC inside a node.

    >>> crosses_rails("NCCL_CROSS_NIC=1; iters 20"), crosses_rails("NCCL_CROSS_NIC=0"), crosses_rails("")
    (True, False, False)
    """
    return re.search(r"NCCL_CROSS_NIC\s*=\s*1\b", notes) is not None


def text(value: Any) -> str:
    """A cell as text; an empty one as ""."""
    return "" if value is None or value != value else str(value)


def links_or_reason(*args: Any, **kwargs: Any) -> GroupLinks | str:
    """`group_links`, or why the setup cannot be described."""
    try:
        return group_links(*args, **kwargs)
    except ShardsimError as error:
        return str(error)
