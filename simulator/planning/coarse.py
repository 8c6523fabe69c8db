"""A step-time table of few points, for searching hundreds of layouts: the same parts as `build_table`, priced at powers
of two where that has every graph size and tile."""

import numpy as np
from numpy.typing import NDArray

from simulator.cost.table import StepTable, TableOptions
from simulator.cost.table.direct import DirectPricer, Stage
from simulator.cost.table.grids import Box, Plane, half_octaves, octaves
from simulator.cost.table.lines import Body, StageLines
from simulator.cost.table.table import Reach

CONTEXT_START = 256


def coarse_table(direct: DirectPricer, *, tokens: int, sequences: int, context: int, skew: float) -> StepTable:
    """Steps of up to `tokens` new tokens and `sequences` decodes over `context` cached tokens each."""
    reach = Reach(tokens + sequences, sequences, context, 1)
    options = TableOptions(reach.tokens, sequences, context, (skew,), prefill_counts=(1,))
    return StepTable(direct, options, reach, tuple(_stage(direct, stage, reach, skew) for stage in direct.stages))


def _stage(direct: DirectPricer, stage: Stage, reach: Reach, skew: float) -> StageLines:
    few = _points(1, reach.sequences)
    head = np.interp(np.arange(reach.sequences + 2), few, [direct.head(stage.index, n).time_s for n in few])
    launches = direct.body(stage.index, 1, True, skew).launches + direct.head(stage.index, 1).launches
    layers = sum(times for _, times in direct.attention_ops(stage.index, True))
    return StageLines(
        stage.index, stage.times, _body(direct, stage, (0, *few), reach, skew, decode=True),
        _body(direct, stage, (0, 1, *_points(64, reach.tokens)), reach, skew, decode=False), head,
        _plane(direct, stage, reach), _box(direct, stage, reach), launches, max(1, layers),
    )  # fmt: skip


def _points(first: int, top: int) -> tuple[int, ...]:
    found = [first]
    while found[-1] < top:
        found.append(min(top, found[-1] * (2 if found[-1] < 128 or first == 1 else 4)))
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
        [[direct.decode_attention(stage.index, s, s * length, 1).time_s for length in context] for s in priced]
    )
    columns = [np.interp(sequences, priced, rows[:, j]) for j in range(len(context))]
    return Plane(sequences, context, np.array(columns).T)


def _box(direct: DirectPricer, stage: Stage, reach: Reach) -> Box:
    """Prompts of one sequence a step; several together are priced as that many."""
    new = half_octaves(reach.tokens)
    cached = octaves(CONTEXT_START * 8, reach.context)
    priced = [n for n in new if (n >= 64 and n.bit_length() % 2) or n in (1, new[-1])]
    rows = np.array([[direct.prefill_attention(stage.index, n, c, 1).time_s for c in cached] for n in priced])
    safe = np.log(np.maximum(rows, 1e-12))
    columns = [np.exp(np.interp(np.log(new), np.log(priced), safe[:, j])) for j in range(len(cached))]
    return Box((1,), new, cached, np.array(columns).T[None, :, :])
