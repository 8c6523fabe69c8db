"""Prompts in, tokens out: prefill and greedy decoding on all ranks, without time."""

from collections.abc import Mapping, Sequence
from typing import Any

from simulator.model.architecture import Architecture
from simulator.numeric.batch import programs_of, works_of
from simulator.numeric.rank import RankState, shard_weights
from simulator.numeric.rounding import DType, rounder
from simulator.numeric.run import Pick, Probe, default_schedule, run_step
from simulator.parallel.layout import Layout
from simulator.program.work import Sequence as WorkSequence


def make_states(
    architecture: Architecture, layout: Layout, weights: Mapping[str, Any], dtype: DType = "float64"
) -> list[RankState]:
    """The state of every rank, caches empty."""
    return [shard_weights(architecture, layout, weights, rank, rounder(dtype)) for rank in range(layout.ranks)]


def step_sequences(tokens: Mapping[int, Sequence[int]], prompt_lengths: Mapping[int, int]) -> tuple[WorkSequence, ...]:
    """The work of the next step: prompts whole at first, then one token at a time."""
    found = []
    for i, ids in tokens.items():
        prefill = len(ids) == prompt_lengths[i]
        found.append(WorkSequence(i, len(ids) if prefill else 1, 0 if prefill else len(ids) - 1))
    return tuple(found)


def generate(
    architecture: Architecture,
    layout: Layout,
    weights: Mapping[str, Any],
    prompts: Sequence[Sequence[int]],
    steps: int,
    *,
    dtype: DType = "float64",
    pick: Pick = default_schedule,
    probe: Probe | None = None,
) -> list[list[int]]:
    """`steps` greedy tokens for each prompt: one prefill, then `steps` - 1 decode steps."""
    states = make_states(architecture, layout, weights, dtype)
    tokens = {i: list(map(int, prompt)) for i, prompt in enumerate(prompts)}
    lengths = {i: len(prompt) for i, prompt in tokens.items()}
    for _ in range(steps):
        works = works_of(step_sequences(tokens, lengths), layout)
        programs = programs_of(architecture, layout, works)
        for i, token in run_step(programs, states, tokens, pick=pick, probe=probe).items():
            tokens[i].append(token)
    return [tokens[i][lengths[i] :] for i in range(len(prompts))]
