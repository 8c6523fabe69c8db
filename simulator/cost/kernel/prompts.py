"""A batch of prompts, the shape of prefill."""

from dataclasses import dataclass

from simulator.cost.kernel.sizes import Array


@dataclass(frozen=True, slots=True)
class Prompts:
    """Kinds of sequences along the last axis (summed over): how many, their new and their cached tokens."""

    count: Array
    new: Array
    past: Array
