"""What holds after every event, each with an id; a switch of the engine checks them all."""

from collections.abc import Callable

from simulator.errors import StalledError
from simulator.serving.batcher import Batcher, Held


def _tokens_now(batcher: Batcher, held: Held) -> int:
    return held.target + batcher.ticks - held.joined if held.joined >= 0 else held.target


def _owed(batcher: Batcher, held: Held) -> int:
    since = batcher.ticks - held.joined if held.joined >= 0 else 0
    return held.output_tokens - held.emitted - since


def _private_pages(batcher: Batcher) -> int:
    total = 0
    for held in batcher.running.values():
        grown = 0
        if held.joined >= 0 and batcher.policy.reserve == "prompt":
            grown = batcher.blocks.pages(_tokens_now(batcher, held)) - batcher.blocks.pages(held.target)
        total += held.pages + grown
    return total + sum(held.pages for held in (*batcher.incoming.values(), *batcher.parked.values()))


def _decoding(batcher: Batcher) -> list[Held]:
    return [held for held in batcher.running.values() if held.joined >= 0]


def _held_hashes(batcher: Batcher) -> dict[int, int]:
    counts: dict[int, int] = {}
    for held in (*batcher.running.values(), *batcher.parked.values()):
        for block in held.hashes[: held.held]:
            counts[block] = counts.get(block, 0) + 1
    return counts


def _prefix_holders(batcher: Batcher) -> bool:
    prefix = batcher.blocks.prefix
    if prefix is None:
        return True
    counted = _held_hashes(batcher)
    return all(counted.get(block, 0) == n and (n == 0) == (block in prefix.idle) for block, n in prefix.holders.items())


INVARIANTS: dict[str, tuple[str, Callable[[Batcher], bool]]] = {
    "S1": (
        "requests in = finished + running + waiting + on their way",
        lambda b: b.arrived == b.finished + b.in_flight,
    ),
    "S2": ("KV pages in use never exceed the capacity", lambda b: 0 <= b.blocks.used <= b.blocks.capacity),
    "S3": (
        "every private page belongs to a request that runs, comes or waits to be fetched",
        lambda b: b.blocks.private == _private_pages(b),
    ),
    "S4": (
        "the decodes' KV tokens are those of the decoding requests",
        lambda b: b.kv_tokens == sum(_tokens_now(b, held) for held in _decoding(b)),
    ),
    "S5": (
        "a running request is prefilling, decoding or on its way back from host memory: one of these",
        lambda b: len(b.running) == b.decodes + len(b.prefilling) + len(b.resuming),
    ),
    "S6": (
        "no more sequences run than the policy allows",
        lambda b: len(b.running) + len(b.incoming) <= b.policy.max_sequences,
    ),
    "S7": ("a cached prefix block is idle if and only if nobody holds it", _prefix_holders),
    "S8": (
        "tokens owed are those that the running requests have not emitted",
        lambda b: b.outstanding == sum(_owed(b, held) for held in b.running.values()),
    ),
    "S9": (
        "no tier holds more blocks than it has room for",
        lambda b: b.blocks.prefix is None or all(len(tier.blocks) <= tier.capacity for tier in b.blocks.prefix.tiers),
    ),
    "S10": (
        "host memory holds the KV of the waiting requests that were swapped out, and no other",
        lambda b: (
            (0 if b.blocks.swap is None else b.blocks.swap.used) == sum(held.swapped for held in b.waiting)
            and (b.blocks.swap is None or b.blocks.swap.used <= b.blocks.swap.capacity)
        ),
    ),
}


def check_invariants(batcher: Batcher) -> None:
    """Raise StalledError naming the first invariant that does not hold."""
    for key, (text, holds) in INVARIANTS.items():
        if not holds(batcher):
            raise StalledError(where=f"invariant {key}", given=f"{batcher.in_flight} requests in flight", rule=text)
