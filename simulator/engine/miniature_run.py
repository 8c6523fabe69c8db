"""The miniature that runs beside the full-size model: its weights, states, and what the unsharded one says."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from simulator.engine.deployment import Numbers, Pool
from simulator.model.architecture import Architecture
from simulator.model.miniature import miniature
from simulator.numeric.batch import programs_of, works_of
from simulator.numeric.compare import Comparison, Errors
from simulator.numeric.generation import make_states, step_sequences
from simulator.numeric.rank import Array, RankState
from simulator.numeric.reference import ReferenceModel, ReferenceStep
from simulator.numeric.rounding import DType
from simulator.numeric.weights import load_safetensors, random_weights
from simulator.program.build import Program, stage_layers
from simulator.program.frame import Options
from simulator.program.work import Work


def kept_layers(architecture: Architecture, pp: int) -> tuple[int, ...]:
    """Layers the miniature keeps: of every pipeline stage the same number, its first layer and every kind it has.

    Equal numbers keep each layer in the stage that runs it at full size.
    """
    stages = [list(stage) for stage in stage_layers(len(architecture.layers), pp)]
    chosen: list[list[int]] = []
    for stage in stages:
        seen: dict[object, int] = {}
        for index in stage:
            seen.setdefault(architecture.layers[index], index)
        chosen.append(sorted(seen.values()))
    depth = min(max(2, *(len(c) for c in chosen)), min(len(stage) for stage in stages))
    for kept, stage in zip(chosen, stages, strict=True):
        for index in reversed(stage):
            if len(kept) >= depth:
                break
            if index not in kept:
                kept.append(index)
        kept.sort()
        del kept[depth:]
    return tuple(index for kept in chosen for index in kept)


@dataclass(slots=True)
class MiniatureRun:
    """Tokens, states and errors of the miniature while steps go by. `kept` maps its layers to the full model's."""

    architecture: Architecture
    kept: tuple[int, ...]
    weights: dict[str, Array]
    dtype: DType
    prompts: dict[int, list[int]]
    tokens: dict[int, list[int]]
    reference: list[ReferenceStep]
    """What the unsharded miniature says in each step, fed with its own tokens."""
    teacher: bool = False
    """Feed the reference's tokens (rounded runs would drift apart after the first difference)."""
    sampled: dict[int, list[int]] = field(default_factory=dict)
    errors: dict[tuple[str, int, str], float] = field(default_factory=dict)
    """(pool, layer of the full model or -2, probe) -> largest relative error over all steps."""
    expert_counts: dict[int, Array] = field(default_factory=dict)
    """Layer of the full model -> tokens the real router sent to each expert."""

    def works(self, pool: Pool) -> tuple[tuple[Work, ...], ...]:
        """The work of the coming step: [data coordinate][micro-batch]."""
        lengths = {i: len(prompt) for i, prompt in self.prompts.items()}
        return works_of(step_sequences(self.tokens, lengths), pool.layout)

    def programs(self, pool: Pool, options: Options) -> tuple[Program, ...]:
        """The miniature's program of every rank for the coming step."""
        return programs_of(self.architecture, pool.layout, self.works(pool), options)

    def states(self, pool: Pool) -> list[RankState]:
        """Fresh states of a pool's ranks."""
        return make_states(self.architecture, pool.layout, self.weights, self.dtype)

    def comparison(self, pool: Pool, step: int, programs: Sequence[Program]) -> Comparison:
        """A probe for the coming step."""
        return Comparison(pool.layout, tuple(p.works for p in programs), self.reference[step], tuple(self.prompts))

    def finish(self, pool: Pool, step: int, sampled: dict[int, int], errors: Errors) -> None:
        """Takes the tokens and errors of a step."""
        expected = self.reference[step].next_tokens
        for number, i in enumerate(self.prompts):
            self.sampled.setdefault(i, []).append(sampled[i])
            self.tokens[i].append(int(expected[number]) if self.teacher else sampled[i])
        for (layer, probe), error in errors.items():
            key = (pool.name, self.kept[layer] if layer >= 0 else layer, probe)
            self.errors[key] = max(self.errors.get(key, 0.0), error)


Parts = tuple[Architecture, tuple[int, ...], dict[str, Array], dict[int, list[int]], list[ReferenceStep]]
"""The small model, the full model's layer each of its layers stands for, weights, prompts, the unsharded steps."""


def make_miniature(architecture: Architecture, numbers: Numbers, pp: int) -> Parts:
    """The miniature (or, with a checkpoint, the model itself), its weights, prompts, and the unsharded run."""
    if numbers.checkpoint:
        kept = tuple(range(len(architecture.layers)))
        small, found = architecture, load_safetensors(architecture, numbers.checkpoint)
    else:
        kept = numbers.layers or kept_layers(architecture, pp)
        small = miniature(architecture, layers=kept)
        found = random_weights(small, numbers.seed)
    rng = np.random.default_rng([numbers.seed, 1])
    prompts = {
        i: [int(t) for t in rng.integers(0, small.vocab, length)] for i, length in enumerate(numbers.prompt_lengths)
    }
    model = ReferenceModel(small, found)
    steps: list[ReferenceStep] = []
    new: list[Sequence[int]] = list(prompts.values())
    for _ in range(1 + numbers.decode_steps):
        steps.append(model.forward(new, steps[-1].caches if steps else None))
        new = [[int(token)] for token in steps[-1].next_tokens]
    return small, kept, found, prompts, steps


def begin(
    parts: Parts,
    dtype: DType,
    *,
    teacher: bool = False,
) -> MiniatureRun:
    """A run of the miniature in one dtype, at its first step."""
    small, kept, weights, prompts, steps = parts
    tokens = {i: list(prompt) for i, prompt in prompts.items()}
    return MiniatureRun(small, kept, weights, dtype, prompts, tokens, steps, teacher)
