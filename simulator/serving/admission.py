"""Who is admitted and who must leave: what a request must bring, its place in the queue, when prompts wait for more."""

from collections import deque
from collections.abc import Iterable
from math import ceil

from simulator.errors import WorkloadError
from simulator.serving.blocks import KvBlocks
from simulator.serving.held import Held
from simulator.serving.policy import Policy


def most_tokens(policy: Policy, input_tokens: int, output_tokens: int) -> int:
    """Tokens of KV that a request may come to hold: its last step may bring more than its answer needs."""
    spare = ceil(policy.tokens_per_step) - 1 if output_tokens > 1 else 0
    return input_tokens + output_tokens - 1 + spare


def check_request(policy: Policy, blocks: KvBlocks, number: int, input_tokens: int, output_tokens: int) -> None:
    """Raise WorkloadError for a request that this machine could never answer."""
    need = blocks.pages(most_tokens(policy, input_tokens, output_tokens))
    if need > blocks.capacity:
        raise WorkloadError(
            where=f"request {number}", given=f"{input_tokens} + {output_tokens} tokens",
            rule=f"needs {need} KV blocks of {blocks.block_tokens}; there are {blocks.capacity}",
            way_out="use more GPUs, a smaller KV type, or shorter requests",
        )  # fmt: skip
    if not policy.chunked and input_tokens > policy.max_batched_tokens:
        raise WorkloadError(
            where=f"request {number}", given=f"{input_tokens} prompt tokens",
            rule=f"does not fit a step of {policy.max_batched_tokens} tokens, and prompts are not cut",
            way_out="raise max_batched_tokens, or set chunked: true",
        )  # fmt: skip


def too_few(policy: Policy, decodes: int, waiting: Iterable[Held]) -> bool:
    """Whether a step of these decodes and all waiting prompts would hold less than the policy waits for."""
    tokens, enough = decodes, policy.wait_share * policy.max_batched_tokens
    for held in waiting:
        if tokens >= enough:
            break
        tokens += held.target
    return tokens < enough


def enqueue(waiting: deque[Held], held: Held, *, first: bool = False) -> None:
    """Put a request behind those of its class and of lower ones; `first`: before those of its class."""
    if not first and (not waiting or waiting[-1].priority <= held.priority):
        waiting.append(held)
        return
    place = sum(1 for other in waiting if other.priority < held.priority + (not first))
    waiting.insert(place, held)


def victim(running: dict[int, Held]) -> Held:
    """Whom to preempt: the last admitted of the highest class."""
    found = None
    for held in reversed(running.values()):
        if found is None or held.priority > found.priority:
            found = held
    assert found is not None
    return found
