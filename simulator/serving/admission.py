"""What a request must bring to be served at all, how much KV it may come to hold, and when prompts wait for more."""

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
