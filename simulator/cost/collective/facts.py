"""Constants of NCCL's own tuning model, as the library ships them (not fitted here).

Source: NCCL 2.30.7, src/graph/tuning.cc and src/graph/search.cc (read 2026-11). Times in microseconds,
bandwidths in GB/s, as there; `tuner` converts to SI. Protocol order everywhere: LL, LL128, Simple.
"""

from typing import Literal

Family = Literal["volta", "ampere", "hopper", "blackwell"]
Protocol = Literal["ll", "ll128", "simple"]
PROTOCOLS: tuple[Protocol, ...] = ("ll", "ll128", "simple")
FAMILIES: tuple[Family, ...] = ("volta", "ampere", "hopper", "blackwell")

BASE_LATENCY_US: dict[str, tuple[float, float, float]] = {
    "tree": (6.8, 14.0, 8.4),
    "ring": (6.6, 14.0, 8.4),
    "nvls": (0.0, 0.0, 0.0),
    "nvls_tree": (0.0, 0.0, 0.0),
}
HARDWARE_LATENCY_US: dict[str, dict[str, tuple[float, float, float]]] = {
    "nvlink": {"tree": (0.6, 1.25, 4.0), "ring": (0.6, 1.9, 3.4), "nvls": (25.0,) * 3, "nvls_tree": (25.0,) * 3},
    "pcie": {"tree": (1.0, 1.9, 4.0), "ring": (1.0, 2.5, 5.7), "nvls": (0.0,) * 3, "nvls_tree": (0.0,) * 3},
    "network": {"tree": (5.0, 8.5, 14.0), "ring": (2.7, 4.0, 14.0), "nvls": (18.0,) * 3, "nvls_tree": (20.9,) * 3},
}
# Columns of the next tables: one node, two nodes, three or more.
LL_CAP_ONE_NODE: dict[Family, float] = {"volta": 39.0, "ampere": 87.7, "hopper": 141.0, "blackwell": 282.0}
LL_CAP_NODES: tuple[float, float, float] = (39.0, 39.0, 20.4)
"""Row of Intel hosts; AMD hosts 22.5 and 19 for two and more nodes."""
RING_LL128_CAP: dict[Family, tuple[float, float, float]] = {
    "volta": (20.0, 20.0, 20.0),
    "ampere": (20.0, 20.0, 20.0),
    "hopper": (36.7, 36.7, 36.7),
    "blackwell": (40.0, 40.0, 40.0),
}
TREE_LL128_CAP: dict[Family, tuple[float, float, float]] = {
    "volta": (20.0, 20.0, 20.0),
    "ampere": (20.0, 20.0, 20.0),
    "hopper": (36.7, 36.7, 29.0),
    "blackwell": (55.6, 31.67, 20.0),
}
TREE_CAP: dict[Family, tuple[float, float, float]] = {
    "volta": (26.5, 18.5, 10.0),
    "ampere": (24.0, 23.6, 17.8),
    "hopper": (38.7, 41.4, 36.0),
    "blackwell": (70.0, 42.8, 24.0),
}
NVLS_TREE_CAP: dict[Family, tuple[float, float, float]] = {
    "volta": (26.5, 18.5, 10.0),
    "ampere": (24.0, 23.6, 17.8),
    "hopper": (0.0, 57.7, 45.5),
    "blackwell": (0.0, 96.0, 80.0),
}
NVLS_EFFICIENCY: dict[Family, float] = {"volta": 0.0, "ampere": 0.0, "hopper": 0.85, "blackwell": 0.74}
LINK_FRACTION: dict[Family, float] = {"volta": 0.8, "ampere": 0.8, "hopper": 0.824, "blackwell": 0.802}
"""Speed per NVLink that the graph search assumes over the link's nominal rate (20/25, 20.6/25, 40.1/50)."""
SPEEDS_ONE_NODE: dict[Family, tuple[float, ...]] = {
    "volta": (40, 30, 20, 18, 15, 12, 10, 9, 7, 6, 5, 4, 3),
    "ampere": (40, 30, 20, 18, 15, 12, 10, 9, 7, 6, 5, 4, 3),
    "hopper": (60, 50, 40, 30, 24, 20, 15, 12, 11, 6, 3),
    "blackwell": (90, 80, 70, 60, 50, 45, 40, 30, 24, 20, 19, 18),
}
SPEEDS_NODES: dict[Family, tuple[float, ...]] = {
    "volta": (48, 30, 28, 24, 20, 18, 15, 12, 10, 9, 7, 6, 5, 4, 3, 2.4, 1.2),
    "ampere": (48, 30, 28, 24, 20, 18, 15, 12, 10, 9, 7, 6, 5, 4, 3, 2.4, 1.2),
    "hopper": (48, 45, 42, 40, 30, 24, 22, 20, 17.5, 15, 12, 6, 3, 2.4, 1.2),
    "blackwell": (96, 86, 80, 48, 45.1, 42, 40, 30, 24, 22, 20, 17.5, 15, 12, 6, 3, 2.4, 1.2),
}
NETWORK_FRACTION = 0.96
"""The search counts 12 GB/s for each 100 Gbit/s (12.5 GB/s) of a NIC."""
NETWORK_OVERHEAD_US = 1.0
"""Intel hosts; AMD 2."""
TREE_CORRECTION: dict[Protocol, tuple[float, ...]] = {
    # Indexed by log2(bytes / 64), 0..22; the low region lies between 64 KB and 4 MB.
    "ll": (1, 1, 1, 1, 0.9, 0.8, 0.7, 0.7, 0.7, 0.7, 0.6, 0.5, 0.4, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1, 1, 1),
    "ll128": (1, 1, 1, 1, 1, 0.9, 0.8, 0.8, 0.8, 0.7, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.8, 0.9, 0.9, 0.9, 0.9, 1, 1),
    "simple": (
        *(0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.8, 0.7, 0.6, 0.6, 0.5, 0.5, 0.5, 0.5, 0.6, 0.7, 0.8, 0.7, 0.7, 0.8),
        *(0.9, 0.9),
    ),
}
