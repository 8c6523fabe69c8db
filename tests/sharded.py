"""Runs a sharded model in lockstep beside the unsharded one, and says how far they are apart."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from strategies import Case

from simulator.model.architecture import Architecture
from simulator.numeric.batch import programs_of, works_of
from simulator.numeric.compare import Comparison
from simulator.numeric.generation import make_states, step_sequences
from simulator.numeric.reference import ReferenceModel, ReferenceStep
from simulator.numeric.rounding import DType
from simulator.numeric.run import Pick, default_schedule, run_step
from simulator.numeric.weights import random_weights
from simulator.parallel.layout import Layout


@dataclass(frozen=True)
class Outcome:
    """Greedy tokens of both runs, and the largest relative error over probes, layers, ranks and steps."""

    sharded: list[list[int]]
    reference: list[list[int]]
    error: float


def run(case: Case, steps: int = 3, *, dtype: DType = "float64", pick: Pick = default_schedule) -> Outcome:
    """Both runs from the same random weights; the sharded one is fed the reference's tokens, so errors do not drift."""
    return run_on(case.architecture, case.layout, case.prompts, steps, dtype=dtype, pick=pick)


def run_on(
    architecture: Architecture, layout: Layout, prompts: tuple[tuple[int, ...], ...], steps: int = 3,
    *, dtype: DType = "float64", pick: Pick = default_schedule, weights: Mapping[str, Any] | None = None,
) -> Outcome:  # fmt: skip
    weights = random_weights(architecture, 5) if weights is None else weights
    reference = reference_steps(architecture, weights, prompts, steps)
    states = make_states(architecture, layout, weights, dtype)
    tokens = {i: list(prompt) for i, prompt in enumerate(prompts)}
    lengths = {i: len(prompt) for i, prompt in tokens.items()}
    sharded: list[list[int]] = [[] for _ in prompts]
    error = 0.0
    for step in reference:
        programs = programs_of(architecture, layout, works_of(step_sequences(tokens, lengths), layout))
        comparison = Comparison(layout, tuple(p.works for p in programs), step, tuple(tokens))
        sampled = run_step(programs, states, tokens, pick=pick, probe=comparison)
        error = max(error, *comparison.errors.values())
        for i, expected in enumerate(step.next_tokens):
            sharded[i].append(sampled[i])
            tokens[i].append(int(expected))
    expected_tokens = [[int(step.next_tokens[i]) for step in reference] for i in range(len(prompts))]
    return Outcome(sharded, expected_tokens, error)


def reference_steps(
    architecture: Architecture, weights: Mapping[str, Any], prompts: tuple[tuple[int, ...], ...], steps: int
) -> list[ReferenceStep]:
    """The unsharded model, step by step: prefill, then its own greedy tokens."""
    model = ReferenceModel(architecture, weights)
    found: list[ReferenceStep] = []
    new: list[Any] = [list(p) for p in prompts]
    for _ in range(steps):
        found.append(model.forward(new, found[-1].caches if found else None))
        new = [[int(token)] for token in found[-1].next_tokens]
    return found
