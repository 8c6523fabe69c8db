"""The few facts of a device that kernel models use, as scalars or as arrays over rows."""

from dataclasses import dataclass

import numpy as np

from simulator.cost.kernel.formats import peak_flops_per_s
from simulator.cost.kernel.sizes import Array
from simulator.hardware.device import Device

Parameters = dict[str, float]
"""Fitted parameters of one family by name; times in seconds, efficiencies as fractions of the datasheet."""


@dataclass(frozen=True, slots=True)
class Silicon:
    """Processors, HBM bandwidth and dense peak in the op's format; floats of one device or arrays over many rows."""

    sm_count: Array
    hbm_bytes_per_s: Array
    peak_flops_per_s: Array

    @property
    def sm_flops_per_s(self) -> Array:
        """Dense peak of one multiprocessor."""
        return self.peak_flops_per_s / self.sm_count

    def on_last_axis(self) -> "Silicon":
        """The same with a trailing axis of length one, for models that try several configurations per row."""
        return Silicon(
            np.asarray(self.sm_count)[..., None],
            np.asarray(self.hbm_bytes_per_s)[..., None],
            np.asarray(self.peak_flops_per_s)[..., None],
        )


def silicon(device: Device, dtype: str) -> Silicon:
    """The facts of one device for ops in `dtype`. Raises KernelError where the device has no unit for it."""
    return Silicon(
        np.asarray(float(device.sm_count)),
        np.asarray(device.hbm_bytes_per_s),
        np.asarray(peak_flops_per_s(device, dtype)),
    )


def either(a: Array, b: Array, power: float) -> Array:
    """A soft maximum, (a^p + b^p)^(1/p): two resources that overlap, less well near the ridge."""
    high = np.maximum(a, b)
    low = np.minimum(a, b)
    ratio = np.divide(low, high, out=np.zeros_like(high + low), where=high > 0)
    soft: Array = high * (1.0 + ratio**power) ** (1.0 / power)
    return soft
