"""Step-time tables of few points, for searching hundreds of layouts.

The parts of `build_table`, priced at powers of two where that has every tile and graph size: a quarter to a tenth of
the time, and within 3 % but for a few short prompt steps (tests/test_planning_steady.py).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.cost.table import Speculation, StepTable, TableOptions
from simulator.cost.table.build import padded, uneven
from simulator.cost.table.direct import DirectPricer, Stage
from simulator.cost.table.grids import Box, Plane, half_octaves, octaves
from simulator.cost.table.lines import Body, StageLines
from simulator.cost.table.table import Reach
from simulator.engine.server import prompt_skew

CONTEXT_START = 256


@dataclass(frozen=True, slots=True)
class Grain:
    """How many points are priced."""

    prompt_step: int
    """Factor between token counts of prompt steps, above 128."""
    halves: bool
    """Decodes at one and a half times each power of two as well."""
    prompts: tuple[int, ...]
    """Numbers of prompts in a step."""


SEARCH = Grain(prompt_step=4, halves=False, prompts=(1,))
REPLAY = Grain(prompt_step=2, halves=True, prompts=(1, 4, 16, 64))
"""Of the tables that simulations run on."""


def coarse_table(
    direct: DirectPricer, *, tokens: int, sequences: int, context: int, skew: float, grain: Grain = SEARCH,
    overlap: bool = False, speculation: Speculation | None = None,
) -> StepTable:  # fmt: skip
    """Steps of up to `tokens` new tokens and `sequences` decodes over `context` cached tokens each; `overlap`: each
    step's batch in two halves; `speculation`: each decode verifies its drafted tokens as well."""
    verified = 1 + speculation.tokens if speculation else 1
    reach = Reach(tokens + sequences * verified, sequences, context, verified)
    options = TableOptions(
        reach.tokens, sequences, context, (skew,), prefill_counts=grain.prompts, two_batch_overlap=overlap,
        speculation=speculation, prompt_skew=prompt_skew(direct.setup.layout.ep),
    )  # fmt: skip
    return StepTable(
        direct, options, reach, tuple(_stage(direct, stage, reach, options, grain) for stage in direct.stages)
    )


def _stage(direct: DirectPricer, stage: Stage, reach: Reach, options: TableOptions, grain: Grain) -> StageLines:
    (skew,) = options.expert_skews
    in_prompts = options.skew_of(skew, decode=False)
    verified = reach.sequences * reach.verified
    few = _octaves(1, verified, 2)
    rows = np.arange(verified + grain.prompts[-1] + 1)
    head = np.interp(rows, few, [direct.head(stage.index, n).time_s for n in few])
    launches = direct.body(stage.index, 1, True, skew).launches + direct.head(stage.index, 1).launches
    layers = sum(times for _, times in direct.attention_ops(stage.index, True))
    decodes = half_octaves(verified) if grain.halves else few
    decode = _body(direct, stage, (0, *decodes), reach, skew, decode=True)
    engine = direct.setup.engine
    run = Body(*(padded(line, engine, reach) for line in (decode.time_s, decode.compute_s, decode.comm_s)))
    prompts = (0, 1, *_octaves(64, reach.tokens, grain.prompt_step))
    even = _body(direct, stage, prompts, reach, skew, decode=False) if uneven(direct, options) else None
    return StageLines(
        stage.index, stage.times, run, _body(direct, stage, prompts, reach, in_prompts, decode=False), head,
        _plane(direct, stage, reach), _box(direct, stage, reach, grain), launches, max(1, layers), even,
    )  # fmt: skip


def _octaves(first: int, top: int, step: int) -> tuple[int, ...]:
    """first, doubled up to 128, then by `step`, and `top`.

    >>> _octaves(64, 5000, 4)
    (64, 128, 512, 2048, 5000)
    """
    found = [first]
    while found[-1] < top:
        found.append(min(top, found[-1] * (2 if found[-1] < 128 else step)))
    return tuple(found)


def _body(
    direct: DirectPricer, stage: Stage, points: tuple[int, ...], reach: Reach, skew: float, *, decode: bool
) -> Body:
    parts = [direct.body(stage.index, n, decode, skew) for n in points]
    tokens = np.arange(reach.tokens + 1)

    def drawn(name: str) -> NDArray[np.float64]:
        return np.asarray(np.interp(tokens, points, [getattr(p, name) for p in parts])[None, :])

    return Body(drawn("time_s"), drawn("compute_s"), drawn("comm_s"))


def _plane(direct: DirectPricer, stage: Stage, reach: Reach) -> Plane:
    """Half octaves of sequences are what a plane indexes; those between octaves are drawn, not priced."""
    sequences, context = half_octaves(reach.sequences), octaves(CONTEXT_START, reach.context)
    priced = [s for s in sequences if s & (s - 1) == 0 or s == sequences[-1]]
    rows = np.array(
        [
            [direct.decode_attention(stage.index, s, s * length, reach.verified).time_s for length in context]
            for s in priced
        ]
    )
    columns = [np.interp(sequences, priced, rows[:, j]) for j in range(len(context))]
    return Plane(sequences, context, np.array(columns).T)


def _box(direct: DirectPricer, stage: Stage, reach: Reach, grain: Grain) -> Box:
    """New tokens are priced at every other octave, and follow a power law between."""
    new, cached = half_octaves(reach.tokens), octaves(CONTEXT_START * 8, reach.context)
    priced = [n for n in new if n & (n - 1) == 0 and n >= 64 and n.bit_length() % 2] + [1, new[-1]]
    priced = sorted(set(priced))

    def column(count: int, past: int) -> NDArray[np.float64]:
        few = [n for n in priced if n * count <= 2 * reach.tokens]
        times = [direct.prefill_attention(stage.index, n, past, count).time_s for n in few]
        drawn = np.exp(np.interp(np.log(new), np.log(few), np.log(np.maximum(times, 1e-12))))
        # Beyond what a step can hold nothing is asked for; the corner of a cell may be.
        beyond = np.asarray(new) > few[-1]
        return np.asarray(np.where(beyond, drawn * (np.asarray(new) / few[-1]) ** 2, drawn))

    values = [[column(count, past) for past in cached] for count in grain.prompts]
    return Box(grain.prompts, new, cached, np.array(values).transpose(0, 2, 1))
