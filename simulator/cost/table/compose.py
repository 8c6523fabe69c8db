"""How parts of a step become its time: overlap of two half batches, eager launches, the host."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from simulator.cost.engine_profile import EngineProfile
from simulator.cost.table.direct import Part

Array = NDArray[np.float64]


def overlapped_s(half: Part, attention_s: float, layers: int, slowed: float) -> float:
    """Two half batches take turns: one computes while the other communicates.

    `half` is the body of one half batch, `attention_s` that of the whole batch, `slowed` by how much computing slows
    while communication holds some SMs. In the steady state each pair of turns takes the longer of the two; the first
    layer's shorter turn has nothing to hide behind. Source: DeepSeek-V3, arXiv:2412.19437, section 3.4.
    """
    compute = half.compute_s * slowed + attention_s / 2.0
    return 2.0 * max(compute, half.comm_s) + min(compute, half.comm_s) / layers


def evened(busiest: Part, mean: Part) -> Part:
    """The busiest attention rank's body where what works on all ranks' tokens takes as long as at their mean."""
    time_s = max(mean.time_s, busiest.time_s - max(0.0, busiest.shared_s - mean.shared_s))
    return replace(busiest, time_s=min(busiest.time_s, time_s))


def blended(alone: Part, even: Part, share: float) -> Part:
    """A body of several prompts: `share` of what routing costs one `alone` over experts that are `even`ly busy."""
    time_s, compute_s, comm_s, shared_s = (
        getattr(even, name) + share * (getattr(alone, name) - getattr(even, name))
        for name in ("time_s", "compute_s", "comm_s", "shared_s")
    )
    return replace(alone, time_s=time_s, compute_s=compute_s, comm_s=comm_s, shared_s=shared_s)


def device_s(busy_s: float, launches_s: float) -> tuple[float, bool]:
    """Device time of a step whose kernels the host launches one by one, and whether the device waited for them."""
    return (launches_s, True) if launches_s > busy_s else (busy_s, False)


def host_joined_s(engine: EngineProfile, busy_s: Array, sequences: Array) -> Array:
    """Step times from device times: the longer of device and host where they overlap, else both."""
    host = np.where(sequences > 0, engine.host_step_s + engine.host_sequence_s * sequences, 0.0)
    return np.maximum(busy_s, host) if engine.overlaps_host else busy_s + host
