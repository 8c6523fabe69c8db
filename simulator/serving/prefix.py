"""Prompt prefixes kept after their requests are gone, by hash of block; the least recently used go first."""

from collections import OrderedDict

Hashes = tuple[int, ...]


class PrefixCache:
    """Blocks of `block_tokens` tokens by hash. A block is held by the requests that use it, idle otherwise.

    A hash stands for its tokens and all before them, so a block is only found behind its predecessors.
    """

    __slots__ = ("block_tokens", "holders", "idle")

    def __init__(self, block_tokens: int) -> None:
        self.block_tokens = block_tokens
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

    def idle_among(self, hashes: Hashes) -> int:
        """How many of these are idle."""
        return sum(block in self.idle for block in hashes)

    def hold(self, hashes: Hashes) -> None:
        """One more request uses these blocks."""
        for block in hashes:
            self.holders[block] += 1
            self.idle.pop(block, None)

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
        """Drop the least recently used idle block."""
        block, _ = self.idle.popitem(last=False)
        del self.holders[block]
