"""One pipeline stage of a table: everything it was filled with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.cost.table.direct import Part
from simulator.cost.table.grids import Box, Plane

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Body:
    """Seconds by number of tokens (0, 1, 2 ...) of everything but attention and head, [skew, token]."""

    time_s: Array
    compute_s: Array
    comm_s: Array
    shared_s: Array | None = None
    """Of `time_s`, what works on the tokens of all attention ranks; never falls. None: not known."""

    def row(self, skew: float, skews: tuple[float, ...]) -> "BodyRow":
        """The lines at one skew, linear between tabulated ones."""
        i = min(max(0, int(np.searchsorted(skews, skew, side="right")) - 1), max(0, len(skews) - 2))
        if len(skews) == 1 or skew == skews[i]:
            shared_s = None if self.shared_s is None else self.shared_s[i]
            return BodyRow(self.time_s[i], self.compute_s[i], self.comm_s[i], shared_s)
        w = (skew - skews[i]) / (skews[i + 1] - skews[i])
        time_s, compute_s, comm_s = (a[i] + w * (a[i + 1] - a[i]) for a in (self.time_s, self.compute_s, self.comm_s))
        shared = self.shared_s
        shared_s = None if shared is None else shared[i] + w * (shared[i + 1] - shared[i])
        return BodyRow(time_s, compute_s, comm_s, shared_s)


@dataclass(frozen=True, slots=True)
class BodyRow:
    """`Body` at one skew: [token]."""

    time_s: Array
    compute_s: Array
    comm_s: Array
    shared_s: Array | None = None

    def spread_s(self, tokens: int, mean: int) -> float:
        """Seconds where the busiest attention rank has `tokens` new ones and the ranks have `mean` on average.

        What each rank does for itself takes as long as on the busiest, what works on all ranks' tokens as long as if
        all had the mean. Never less than if all did, nor more than if all had the busiest one's.
        """
        time_s = float(self.time_s[tokens])
        if self.shared_s is None or mean >= tokens:
            return time_s
        evened = time_s - float(self.shared_s[tokens]) + float(self.shared_s[mean])
        return min(time_s, max(float(self.time_s[mean]), evened))


@dataclass(frozen=True, slots=True)
class Rows:
    """A stage's lines at one skew; `even` as in `StageLines`."""

    decode: BodyRow
    prefill: BodyRow
    even: BodyRow | None

    def spread_s(self, tokens: int, mean: int, alone: float) -> float:
        """`BodyRow.spread_s` of a step with prompts that keeps `alone` of what one prompt's routing costs."""
        lonely = self.prefill.spread_s(tokens, mean)
        if self.even is None:
            return lonely
        even = self.even.spread_s(tokens, mean)
        return even + alone * (lonely - even)

    def part(self, tokens: int, mean: int, halves: int, error: float, alone: float | None) -> Part:
        """A step's body, its two streams over `halves` tokens; `alone` None: a step without prompts."""
        if alone is None:
            row = self.decode
            return Part(row.spread_s(tokens, mean), float(row.compute_s[halves]), float(row.comm_s[halves]), error)
        lonely, even = self.prefill, self.even or self.prefill
        compute_s, comm_s = (
            float(few[halves] + alone * (one[halves] - few[halves]))
            for one, few in ((lonely.compute_s, even.compute_s), (lonely.comm_s, even.comm_s))
        )
        return Part(self.spread_s(tokens, mean, alone), compute_s, comm_s, error)


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
    even: Body | None = None
    """`prefill` with experts as busy as in decode steps, which steps of many prompts come to; None: no different."""
