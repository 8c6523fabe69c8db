"""One group's time over all message sizes, as a table that is built once and read many times.

Each algorithm's time rises with the message, but the library's choice between them can step down at a switch
(it does so in measured curves). A simulator whose larger message were faster could be gamed by padding, so the
table is the isotonic regression of the chosen times: the nearest curve that never falls. Isotonic regression
keeps order, so a group with faster links is never slower at any size either.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LARGEST_BYTES = 2.0**63
_PER_OCTAVE = 8
GRID_BYTES: Floats = np.exp2(np.arange(0, 63 * _PER_OCTAVE + 1) / _PER_OCTAVE)
_LOG_GRID: Floats = np.log(GRID_BYTES)


def rising(values: Floats) -> Floats:
    """Isotonic regression (pool adjacent violators): the non-decreasing sequence nearest in squared error.

    >>> rising(np.array([1.0, 4.0, 2.0, 5.0])).tolist()
    [1.0, 3.0, 3.0, 5.0]
    """
    sums: list[float] = []
    counts: list[int] = []
    for value in values.tolist():
        total, count = value, 1
        while sums and sums[-1] * count >= total * counts[-1]:
            total += sums.pop()
            count += counts.pop()
        sums.append(total)
        counts.append(count)
    return np.repeat(np.array(sums) / np.array(counts), counts)


def tabulate(times: Callable[[Floats], Floats]) -> Floats:
    """Logarithms of the rising times on GRID_BYTES."""
    return rising(np.log(times(GRID_BYTES)))


def read(table: Floats, message_bytes: Floats) -> Floats:
    """Seconds at each size: log-log interpolation between the eight points per octave; 0 for empty messages."""
    inside = np.interp(np.log(np.maximum(message_bytes, 1.0)), _LOG_GRID, table)
    return np.where(message_bytes > 0.0, np.exp(inside), 0.0)
