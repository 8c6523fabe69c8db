"""What a GPU is, as far as time and memory are concerned."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator by its datasheet; rates are dense (no sparsity), per direction, SI.

    `peak_flops_per_s` maps a compute dtype ("bf16", "fp8", "fp4", "int8", "fp32") to its dense peak.
    `generation` is the key under which fitted parameters are kept ("hopper", "ampere", ...).
    """

    name: str
    generation: str
    compute_capability: int
    peak_flops_per_s: Mapping[str, float]
    hbm_bytes: float
    hbm_bytes_per_s: float
    sm_count: int
    nvlink_bytes_per_s: float
    """Scale-up bandwidth of one GPU per direction (NVLink or xGMI, all links); 0 where there is none."""
    pcie_bytes_per_s: float
    nic_bytes_per_s: float
    """The usual scale-out bandwidth per GPU, per direction; 0 where the platform has none."""
    tdp_w: float
    source: str

    def __hash__(self) -> int:
        return hash(self.name)
