"""Step times of a pipeline from those of the same cut without one: so that layouts that differ in pp share a table."""

from dataclasses import dataclass
from math import ceil
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.cost.collective import collective_price
from simulator.cost.table import StepTable
from simulator.parallel.layout import Layout
from simulator.planning.question import Platform

Array = NDArray[np.float64]
ACTIVATION_BYTES = 2.0
"""bf16 between stages."""
LARGE = 8192


class Steps(Protocol):
    """Seconds of steps, one by one or many."""

    def step_time_s(
        self, prefill_tokens: int, prefill_context: int, decode_sequences: int, decode_kv_tokens: int,
        *, prefill_sequences: int = 1,
    ) -> float:  # fmt: skip
        """As `StepTable.step_time_s`."""

    def step_times_s(
        self, prefill_tokens: ArrayLike, prefill_context: ArrayLike, decode_sequences: ArrayLike,
        decode_kv_tokens: ArrayLike,
    ) -> Array:  # fmt: skip
        """As `StepTable.step_times_s`."""


@dataclass(frozen=True, slots=True)
class Piped:
    """A micro-batch's way through `pp` stages: the whole model, and a message between each two stages.

    Stages of unequal depth wait for the deepest (`stretch`). A message's time is linear in its tokens.
    """

    table: StepTable
    stretch: float
    start_s: float
    token_s: float

    def step_time_s(
        self, prefill_tokens: int, prefill_context: int, decode_sequences: int, decode_kv_tokens: int,
        *, prefill_sequences: int = 1,
    ) -> float:  # fmt: skip
        """Seconds of one step."""
        time = self.table.step_time_s(
            prefill_tokens, prefill_context, decode_sequences, decode_kv_tokens, prefill_sequences=prefill_sequences
        )
        return time * self.stretch + self.start_s + self.token_s * (prefill_tokens + decode_sequences)

    def step_times_s(
        self, prefill_tokens: ArrayLike, prefill_context: ArrayLike, decode_sequences: ArrayLike,
        decode_kv_tokens: ArrayLike,
    ) -> Array:  # fmt: skip
        """Seconds of many."""
        times = self.table.step_times_s(prefill_tokens, prefill_context, decode_sequences, decode_kv_tokens)
        tokens = np.asarray(prefill_tokens) + np.asarray(decode_sequences)
        return np.asarray(times * self.stretch + self.start_s + self.token_s * tokens)


def piped(table: StepTable, platform: Platform, layout: Layout) -> Piped:
    """The step times of `layout`, whose cut but for pp is the table's."""
    if layout.pp == 1:
        return Piped(table, 1.0, 0.0, 0.0)
    layers = len(table.direct.setup.architecture.layers)
    links = platform.links(layout)(("pp",))
    wide = table.direct.setup.architecture.hidden * ACTIVATION_BYTES
    small = collective_price(links, "send_recv", wide).time_s
    large = collective_price(links, "send_recv", wide * LARGE).time_s
    hops = layout.pp - 1
    token = max(0.0, large - small) / LARGE
    return Piped(table, ceil(layers / layout.pp) * layout.pp / layers, hops * small, hops * token)
