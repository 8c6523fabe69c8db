"""Which steps an offline run makes: all prompts are there at the start, so no step's time changes the next step."""

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps in order, alike ones together: `times` each; batches as `StepTable.step_times_s` takes them."""

    times: Array
    prefill_tokens: Array
    prefill_context: Array
    prefill_sequences: Array
    decode_sequences: Array
    decode_kv_tokens: Array

    @property
    def sequences(self) -> Array:
        """Sequences of each step."""
        return self.decode_sequences + np.where(self.prefill_tokens > 0, self.prefill_sequences, 0)


Row = tuple[float, float, float, float, float, float]


def _steps(rows: list[Row]) -> Steps:
    columns = np.array(rows, dtype=np.float64).T
    return Steps(*columns)


def static_batch(batch: int, isl: int, osl: int, parts: int = 64) -> Steps:
    """All prompts in one step, then `osl` - 1 decode steps together; those in `parts` runs of equal length."""
    rows: list[Row] = [(1, batch * isl, 0, batch, 0, 0)]
    edges = np.linspace(0, osl - 1, min(parts, max(1, osl - 1)) + 1).round().astype(int)
    for start, stop in pairwise(edges):
        # Token i + 2 of each sequence reads isl + i + 1 keys; the mean of a run stands for it.
        mean = isl + 1 + (start + stop - 1) / 2
        if stop > start:
            rows.append((stop - start, 0, 0, 1, batch, batch * mean))
    return _steps(rows)


def max_load(requests: int, isl: int, osl: int, slots: int, max_tokens: int) -> Steps:
    """In-flight batching of equal requests: a prompt joins as soon as a slot and the step's token budget allow.

    Prompts are never cut, so a step takes at least one that finds a slot, whatever the budget. Each request holds its
    slot for its prompt and `osl` - 1 decode steps.
    """
    rows: list[Row] = []
    running: deque[tuple[int, int]] = deque()  # (requests that joined together, step in which they did)
    queue, active, step, joined = requests, 0, 0, 0
    while queue or active:
        free = min(slots - active, queue)
        admitted = min(free, max(1, (max_tokens - active) // isl)) if free > 0 else 0
        # Cached tokens: each running request has isl and one more for every step since it joined.
        kv = active * (isl + step) - joined
        if admitted:
            rows.append((1, admitted * isl, 0, admitted, active, kv))
            running.append((admitted, step))
            queue, active, joined = queue - admitted, active + admitted, joined + admitted * step
            length = 1
        else:
            length = running[0][1] + osl - step
            rows.append((length, 0, 0, 1, active, kv + active * (length - 1) / 2))
        step += length
        while running and running[0][1] + osl <= step:
            count, since = running.popleft()
            active, joined = active - count, joined - count * since
    return _steps(rows)
