"""Prompt prefixes kept after their requests are gone, by hash of block; the least recently used go first."""

from collections import OrderedDict
from collections.abc import Sequence

from simulator.serving.tiers import Tier

Hashes = tuple[int, ...]


class PrefixCache:
    """Blocks of `block_tokens` tokens by hash. A block is held by the requests that use it, idle otherwise.

    A hash stands for its tokens and all before them, so a block is only found behind its predecessors. What is evicted
    goes to the first of `tiers`, what that has no room for to the next, and from the last it is lost. A block that is
    fetched stays in its tier, too.
    """

    __slots__ = ("asked_tokens", "block_tokens", "hit_tokens", "holders", "idle", "tiers")

    def __init__(self, block_tokens: int, tiers: Sequence[Tier] = ()) -> None:
        self.block_tokens, self.tiers = block_tokens, tuple(tiers)
        self.asked_tokens = 0
        """Prompt tokens of all admissions."""
        self.hit_tokens = [0] * (1 + len(self.tiers))
        """Of these, found on the GPU, and in each tier."""
        self.holders: dict[int, int] = {}
        """Hash -> requests that hold it, of every block in the cache."""
        self.idle: OrderedDict[int, None] = OrderedDict()
        """Blocks nobody holds, least recently used first."""

    def match(self, hashes: Hashes) -> int:
        """How many leading blocks are here."""
        known, count = self.holders, 0
        for block in hashes:
            if block not in known:
                break
            count += 1
        return count

    def levels(self, hashes: Hashes) -> list[int]:
        """Where each of the leading blocks is, as far as they are anywhere: 0 on the GPU, k in tier k - 1."""
        found = []
        for block in hashes:
            level = 0
            if block not in self.holders:
                level = next((k for k, tier in enumerate(self.tiers, 1) if block in tier.blocks), -1)
            if level < 0:
                break
            found.append(level)
        return found

    def idle_among(self, hashes: Hashes) -> int:
        """How many of these are idle."""
        return sum(block in self.idle for block in hashes)

    def hold(self, hashes: Hashes) -> None:
        """One more request uses these blocks."""
        for block in hashes:
            self.holders[block] += 1
            self.idle.pop(block, None)

    def fetch(self, hashes: Hashes, levels: Sequence[int]) -> float:
        """Seconds to bring those of the leading blocks here that are in lower tiers; counts what was found where."""
        seconds = 0.0
        for block, level in zip(hashes, levels, strict=True):
            self.hit_tokens[level] += self.block_tokens
            if level:
                tier = self.tiers[level - 1]
                tier.blocks.move_to_end(block)
                seconds += tier.token_s * self.block_tokens
        return seconds + sum(self.tiers[level - 1].fixed_s for level in set(levels) if level)

    def add(self, block: int) -> bool:
        """Enter a computed block, held by its request; False: another request entered it before."""
        if block in self.holders:
            return False
        self.holders[block] = 1
        return True

    def release(self, hashes: Hashes) -> None:
        """A request lets go of its blocks; the deepest become the first to be evicted."""
        for block in reversed(hashes):
            self.holders[block] -= 1
            if not self.holders[block]:
                self.idle[block] = None

    def evict(self) -> None:
        """Drop the least recently used idle block, to the tiers below where there are some."""
        block, _ = self.idle.popitem(last=False)
        del self.holders[block]
        lost: int | None = block
        for tier in self.tiers:
            if lost is None:
                break
            lost = tier.put(lost)
