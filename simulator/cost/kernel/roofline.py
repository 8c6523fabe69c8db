"""The provider of last resort: the datasheet's roofline, an efficiency for each side, and a launch floor."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from simulator.cost.kernel.sizes import Array
from simulator.cost.kernel.work import Work, compute_s, memory_s
from simulator.cost.price import Provenance
from simulator.hardware.device import Device

# Dense matmul reaches 70 to 87 % of the datasheet peak (stas00/ml-engineering 744d01e, 2026-08-22, measured achievable
# matmul FLOPS), large copies about 85 to 92 % of HBM bandwidth (same).
COMPUTE_EFFICIENCY: Final = 0.72
MEMORY_EFFICIENCY: Final = 0.82
LAUNCH_S: Final = 4e-6
"""A kernel inside a CUDA graph, empty: 2 to 5 us from launch to retirement (aiconfigurator operator tables, 2026)."""
ERROR: Final = 0.4
"""Relative error of rooflines seen against measured kernels (issue: 20 to 60 %)."""


@dataclass(frozen=True, slots=True)
class Timed:
    """Times of an array of ops with the two sides of the roofline they came from."""

    time_s: Array
    compute_s: Array
    memory_s: Array
    provenance: Provenance
    error: float


def roofline_times(device: Device, work: Work) -> Timed:
    """Launch plus the slower side at its efficiency; 0 where there is nothing to do."""
    compute, memory = compute_s(device, work), memory_s(device, work)
    slower = np.maximum(compute / COMPUTE_EFFICIENCY, memory / MEMORY_EFFICIENCY)
    return Timed(np.where(work.moved_bytes > 0, LAUNCH_S + slower, 0.0), compute, memory, "roofline", ERROR)
