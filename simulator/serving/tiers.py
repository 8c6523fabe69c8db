"""Where KV goes that the GPU has no room for: tiers for prefix blocks, and space for sequences that are swapped out."""

from collections import OrderedDict
from dataclasses import dataclass

from simulator.errors import ScenarioError


class Tier:
    """A store of prefix blocks below the GPU's memory, least recently used first out. Several caches may share one.

    Raises ScenarioError for a capacity below 1 and for a negative time.
    """

    __slots__ = ("blocks", "capacity", "fixed_s", "name", "token_s")

    def __init__(self, name: str, capacity: int, token_s: float = 0.0, fixed_s: float = 0.0) -> None:
        if capacity < 1:
            raise ScenarioError(
                where=f"KV tier {name}", given=f"{capacity} blocks", rule="must hold at least one block"
            )
        if min(token_s, fixed_s) < 0.0:
            raise ScenarioError(where=f"KV tier {name}", given=f"{token_s:g} s, {fixed_s:g} s", rule="no negative time")
        self.name, self.capacity = name, capacity
        self.token_s, self.fixed_s = token_s, fixed_s
        """Seconds to fetch one token's KV; and of a fetch, whatever its size."""
        self.blocks: OrderedDict[int, None] = OrderedDict()

    def put(self, block: int) -> int | None:
        """Keep a block as the most recent one. Returns the block that has to go for it; None: none has."""
        self.blocks[block] = None
        self.blocks.move_to_end(block)
        return self.blocks.popitem(last=False)[0] if len(self.blocks) > self.capacity else None


@dataclass(slots=True)
class SwapSpace:
    """Host memory for sequences that are preempted by swapping.

    Raises ScenarioError for a negative size or time.
    """

    capacity: int
    """KV pages."""
    token_s: float = 0.0
    """Seconds to move one token's KV one way."""
    used: int = 0

    def __post_init__(self) -> None:
        if self.capacity < 0 or self.token_s < 0.0:
            given = f"{self.capacity} pages, {self.token_s:g} s"
            raise ScenarioError(where="swap space", given=given, rule="must not be negative")
