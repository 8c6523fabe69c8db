"""The KV memory of one replica, in pages: some private to requests, some shared through the prefix cache."""

from collections.abc import Sequence

from simulator.errors import ScenarioError
from simulator.serving.prefix import PrefixCache
from simulator.serving.tiers import SwapSpace


class KvBlocks:
    """`capacity` pages of `block_tokens` tokens. Idle cached prefixes are evicted when pages run short.

    Raises ScenarioError for a capacity below 1 and for prefix blocks that are not whole pages.
    """

    __slots__ = ("block_tokens", "capacity", "prefix", "prefix_pages", "private", "swap")

    def __init__(
        self, capacity: int, block_tokens: int, prefix: PrefixCache | None = None, swap: SwapSpace | None = None
    ) -> None:
        if capacity < 1:
            raise ScenarioError(where="KV cache", given=f"{capacity} blocks", rule="must hold at least one block")
        self.capacity, self.block_tokens, self.prefix, self.swap = capacity, block_tokens, prefix, swap
        self.private = 0
        self.prefix_pages = 0
        if prefix is not None:
            self.prefix_pages, rest = divmod(prefix.block_tokens, block_tokens)
            if rest:
                raise ScenarioError(
                    where="prefix blocks", given=f"{prefix.block_tokens} tokens",
                    rule=f"must be whole KV blocks of {block_tokens} tokens",
                )  # fmt: skip

    def pages(self, tokens: int) -> int:
        """Pages that hold so many tokens."""
        return -(-tokens // self.block_tokens)

    @property
    def used(self) -> int:
        """Pages in use, idle prefixes included."""
        prefix = self.prefix
        return self.private if prefix is None else self.private + len(prefix.holders) * self.prefix_pages

    @property
    def available(self) -> int:
        """Pages that are free or can be made so by evicting idle prefixes."""
        prefix = self.prefix
        if prefix is None:
            return self.capacity - self.private
        return self.capacity - self.private - (len(prefix.holders) - len(prefix.idle)) * self.prefix_pages

    def take(self, pages: int) -> None:
        """Make pages private; the caller has seen that they are available."""
        self.private += pages
        prefix = self.prefix
        if prefix is not None:
            while self.used > self.capacity:
                prefix.evict()

    def give(self, pages: int) -> None:
        """Return private pages."""
        self.private -= pages

    def enter(self, hashes: tuple[int, ...], levels: Sequence[int]) -> None:
        """Blocks that come from lower tiers (levels above 0) turn private pages into cached ones."""
        assert self.prefix is not None
        for block, level in zip(hashes, levels, strict=True):
            if level:
                self.prefix.add(block)
                self.private -= self.prefix_pages

    def share(self, hashes: tuple[int, ...]) -> int:
        """Turn a request's leading private pages into cached ones, block by block; how many blocks were entered.

        Stops at the first block that another request entered meanwhile: this one keeps its own copy from there on.
        """
        prefix, entered = self.prefix, 0
        if prefix is not None:
            for block in hashes:
                if not prefix.add(block):
                    break
                entered += 1
            self.private -= entered * self.prefix_pages
        return entered
