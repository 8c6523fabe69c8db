"""Clusters for the tests of the network: H100 boxes with a NIC a GPU on a rail-optimised fabric.

Figures: NVLink 450 GB/s, PCIe 63 GB/s, ConnectX-7 50 GB/s, per direction (NVIDIA DGX H100 datasheet, 2023).
"""

from functools import lru_cache
from typing import Literal

from simulator.topology.cluster import Cluster, build_cluster
from simulator.topology.spec import ClusterSpec, Fabric, Nics, NodeSpec, NvSwitch, Pcie, Wire


@lru_cache(maxsize=8)
def boxes(
    nodes: int, gpus: int = 8, tiers: Literal[2, 3] = 2, oversubscription: float = 1.0, ports: int = 64, rails: int = 0
) -> Cluster:
    """`nodes` boxes of `gpus` GPUs and as many NICs."""
    node = NodeSpec(
        gpu="H100-SXM",
        gpus=gpus,
        scale_up=NvSwitch(Wire(450e9, 0.5e-6), chips=4, multicast=True),
        pcie=Pcie(2, max(1, gpus // 4), Wire(63e9, 0.3e-6), Wire(63e9, 0.3e-6), Wire(60e9, 0.5e-6)),
        nics=Nics(gpus, Wire(63e9, 0.3e-6), Wire(50e9, 1.0e-6)),
    )
    fabric = Fabric("infiniband", rails or gpus, tiers, ports, oversubscription, Wire(50e9, 0.6e-6))
    return build_cluster(ClusterSpec("boxes", node, fabric), nodes)
