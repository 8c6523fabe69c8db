"""The provider of last resort: the datasheet's roofline, an efficiency for each side, and a launch floor."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from simulator.cost.kernel.sizes import Array
from simulator.cost.kernel.work import Work, compute_s, memory_s
from simulator.cost.price import Provenance
from simulator.hardware.device import Device

Kind = Literal["plain", "scaled", "attention"]


@dataclass(frozen=True, slots=True)
class Reach:
    """What kernels reach: fractions of the dense peak and of the memory bandwidth, and a launch floor.

    `scaled` is the fraction in block-scaled formats and grouped expert products, `attention` in prefill attention.
    """

    compute: float
    memory: float
    launch_s: float
    scaled: float | None = None
    attention: float | None = None

    def of(self, kind: Kind) -> float:
        """The fraction of the peak that a kind of kernel reaches."""
        own = {"plain": self.compute, "scaled": self.scaled, "attention": self.attention}[kind]
        return self.compute if own is None else own


USUAL: Final = Reach(0.72, 0.82, 3.0e-6)
"""Dense matmul reaches 70 to 87 % of the datasheet peak, large copies about 85 to 92 % of HBM bandwidth
(stas00/ml-engineering 744d01e, 2026-08-22)."""
REACH: Final = {
    "cdna3": Reach(0.55, 0.50, 14e-6, scaled=0.17, attention=0.38),
    "cdna4": Reach(0.68, 0.65, 6e-6, scaled=0.17, attention=0.38),
}
"""Generations that differ. Compute: measured matmuls (MI300X 51, MI325X 60, MI355X 68 %; same source). Memory and
launch: chosen 2026-11-24 on decode steps of DeepSeek-R1 under SGLang, on MI300X and MI325X (closed loop) and on MI355X
(separated pools); docs/kernels.md."""
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


def roofline_times(device: Device, work: Work, kind: Kind = "plain") -> Timed:
    """Launch plus the slower side at its efficiency; 0 where there is nothing to do."""
    compute, memory = compute_s(device, work), memory_s(device, work)
    reach = REACH.get(device.generation, USUAL)
    slower = np.maximum(compute / reach.of(kind), memory / reach.memory)
    return Timed(np.where(work.moved_bytes > 0, reach.launch_s + slower, 0.0), compute, memory, "roofline", ERROR)
