"""One pipeline stage of a table: everything it was filled with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.cost.table.grids import Box, Plane

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Body:
    """Seconds by number of tokens (0, 1, 2 ...) of everything but attention and head, [skew, token]."""

    time_s: Array
    compute_s: Array
    comm_s: Array

    def row(self, skew: float, skews: tuple[float, ...]) -> "BodyRow":
        """The lines at one skew, linear between tabulated ones."""
        i = min(max(0, int(np.searchsorted(skews, skew, side="right")) - 1), max(0, len(skews) - 2))
        if len(skews) == 1 or skew == skews[i]:
            return BodyRow(self.time_s[i], self.compute_s[i], self.comm_s[i])
        w = (skew - skews[i]) / (skews[i + 1] - skews[i])
        mixed = [a[i] + w * (a[i + 1] - a[i]) for a in (self.time_s, self.compute_s, self.comm_s)]
        return BodyRow(*mixed)


@dataclass(frozen=True, slots=True)
class BodyRow:
    """`Body` at one skew: [token]."""

    time_s: Array
    compute_s: Array
    comm_s: Array


@dataclass(frozen=True, slots=True)
class StageLines:
    """One kind of pipeline stage."""

    index: int
    times: int
    decode: Body
    prefill: Body
    head: Array
    """Seconds by number of sampled rows."""
    plane: Plane
    box: Box
    launches: int
    """Kernels of one step, launched one by one where no graph was captured."""
    layers: int
