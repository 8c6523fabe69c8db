"""Scheduler policies as data."""

import tomllib
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib.resources import files
from typing import Literal

from simulator.errors import ScenarioError

Reserve = Literal["prompt", "whole"]


@dataclass(frozen=True, slots=True)
class Policy:
    """How a step is put together. Requests are served in order of arrival, preempted ones first.

    Raises ScenarioError for sizes below 1, a headroom outside [0, 1], more tokens a step than drafted, and whole
    prompts without whole reservation (a preempted request's prompt grows, and might then never fit into a step).
    """

    name: str
    max_batched_tokens: int
    """Tokens of one step, over all its sequences."""
    max_sequences: int
    """Sequences that hold KV blocks at a time."""
    block_tokens: int
    mixed: bool
    """Prompt chunks share a step with decodes; else prompts go first, alone, and decodes wait."""
    chunked: bool
    """A prompt may be cut over several steps."""
    reserve: Reserve
    """Blocks taken at admission: for the prompt (blocks are added token by token, and the youngest request is
    preempted and recomputed when none is left), or for prompt and answer (nobody is preempted)."""
    headroom: float
    """Share of the answers' outstanding tokens that must have room when a prompt is admitted."""
    poll_steps: int = 1
    """Decode steps between two looks at the queue's door; a prompt step, and having nothing to run, looks at once."""
    wait_share: float = 0.0
    """Prompts wait while a step with them would hold less than this share of max_batched_tokens, and others decode,"""
    wait_steps: int = 0
    """for at most so many decode steps (batch_wait_max_tokens_ratio and batch_wait_timeout_iters of TensorRT-LLM)."""
    together_steps: int = 0
    """Data-parallel attention ranks admit prompts in the same step: one that has some waits until all have, or for so
    many steps (TensorRT-LLM's attention_dp_config: enable_balance, timeout_iters); 0: each for itself."""
    draft_tokens: int = 0
    """Tokens drafted for each decoding sequence and verified with its next one."""
    tokens_per_step: float = 1.0
    """Expected tokens that a decode step brings each sequence. Emitted by accumulation: after s steps floor(s x this),
    the same for all sequences, so that runs are reproducible and leaps stay closed."""
    preempt: Literal["recompute", "swap"] = "recompute"
    """What becomes of a preempted sequence's KV: computed anew, or moved to host memory while there is room (vLLM's
    swap of its first scheduler, docs v0.6 "preemption_mode"); a prompt that is not complete is always computed anew."""
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("max_batched_tokens", "max_sequences", "block_tokens", "poll_steps"):
            if getattr(self, name) < 1:
                raise ScenarioError(where=name, given=str(getattr(self, name)), rule="must be at least 1")
        if not 0.0 <= self.headroom <= 1.0:
            raise ScenarioError(where="headroom", given=f"{self.headroom:g}", rule="must lie in [0, 1]")
        if not 0.0 <= self.wait_share <= 1.0 or min(self.wait_steps, self.together_steps) < 0:
            raise ScenarioError(
                where="wait_share, wait_steps, together_steps",
                given=f"{self.wait_share:g}, {self.wait_steps}, {self.together_steps}",
                rule="a share in [0, 1], and steps that are not negative",
            )  # fmt: skip
        if self.wait_steps and not self.mixed:
            raise ScenarioError(where="wait_steps", given=str(self.wait_steps), rule="needs mixed steps")
        if self.draft_tokens < 0 or not 1.0 <= self.tokens_per_step <= 1.0 + self.draft_tokens:
            raise ScenarioError(
                where="tokens_per_step", given=f"{self.tokens_per_step:g} of {self.draft_tokens} drafted tokens",
                rule="must lie between 1 and 1 + draft_tokens",
            )  # fmt: skip
        if self.preempt not in ("recompute", "swap"):
            raise ScenarioError(where="preempt", given=repr(self.preempt), rule="must be recompute or swap")
        if self.reserve not in ("prompt", "whole"):
            raise ScenarioError(where="reserve", given=repr(self.reserve), rule="must be prompt or whole")
        if not self.chunked and self.reserve != "whole":
            raise ScenarioError(
                where="chunked", given="false", rule='needs reserve = "whole"', way_out="set chunked: true"
            )

    def ticks(self, steps: int) -> int:
        """Tokens that every sequence which decoded in all of `steps` decode steps has emitted in them."""
        return steps if self.tokens_per_step == 1.0 else int(steps * self.tokens_per_step)

    def steps_to(self, ticks: int) -> int:
        """The fewest decode steps that bring so many tokens."""
        if self.tokens_per_step == 1.0:
            return ticks
        steps = int(ticks / self.tokens_per_step)
        while self.ticks(steps) < ticks:
            steps += 1
        return steps


@lru_cache(maxsize=1)
def policies() -> dict[str, Policy]:
    """The shipped policies by the engine's name."""
    text = files("simulator.serving").joinpath("policies.toml").read_text(encoding="utf-8")
    known = {field.name for field in fields(Policy)} - {"name"}
    tables = tomllib.loads(text)
    return {
        name: Policy(name=name, **{key: table[key] for key in known & table.keys()}) for name, table in tables.items()
    }


def find_policy(engine: str) -> Policy:
    """The policy of "vllm", "sglang" or "tensorrt-llm". Raises ScenarioError for another."""
    found = policies().get(engine)
    if found is None:
        raise ScenarioError(where="engine", given=repr(engine), rule=f"is none of {', '.join(policies())}")
    return found
