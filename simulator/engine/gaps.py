"""Times between the tokens of one request, for all requests of a rank together."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Row = tuple[int, int, float, float]
"""(sequences, steps, seconds of the first, seconds of the last)."""


class Gaps:
    """Times between tokens on one rank, waiting included."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        """(sequences, steps, seconds of the first, seconds of the last)."""
        self.waits: list[list[float]] = []
        """[sequences, seconds since their last token] of decodes that wait for prompts to pass; not a number where
        there was no token yet."""

    def wait(self, decodes: int, seconds: float) -> None:
        """Prompts ran alone while `decodes` sequences waited."""
        known = sum(int(group[0]) for group in self.waits)
        if decodes > known:
            self.waits.append([decodes - known, 0.0])
        for group in self.waits:
            group[1] += seconds

    def ran(self, decodes: int, steps: int, first_s: float, last_s: float) -> None:
        """Decode steps ran; whoever waited adds that to the first."""
        if self.waits:
            for count, seconds in self.waits:
                if count and seconds == seconds:
                    self.rows.append((int(count), 1, first_s + seconds, 0.0))
            fresh = decodes - sum(int(group[0]) for group in self.waits)
            if fresh:
                self.rows.append((fresh, 1, first_s, 0.0))
            self.waits = []
            if steps == 1:
                return
            first_s += (last_s - first_s) / (steps - 1)
            steps -= 1
        self.rows.append((decodes, steps, first_s, last_s))

    def drop(self) -> float:
        """The youngest decode leaves; how long ago its last token came."""
        for group in reversed(self.waits):
            if group[0]:
                group[0] -= 1
                return group[1]
        return 0.0


def expand(rows: list[Row]) -> tuple[Floats, Ints]:
    """One entry a step, evenly spaced between the first's seconds and the last's."""
    if not rows:
        return np.zeros(0), np.zeros(0, dtype=np.int64)
    table = np.array(rows)
    times = table[:, 1].astype(np.int64)
    index = np.repeat(np.arange(len(rows)), times)
    place = np.arange(len(index)) - np.repeat(np.cumsum(times) - times, times)
    first, last = table[index, 2], table[index, 3]
    span = np.maximum(times[index] - 1, 1)
    return first + np.where(times[index] > 1, (last - first) * place / span, 0.0), table[index, 0].astype(np.int64)
