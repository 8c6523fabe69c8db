"""Filling a table: a few hundred parts priced op by op, the lines between them drawn."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from simulator.cost.engine_profile import EngineProfile
from simulator.cost.table.direct import DirectPricer, Part, Stage
from simulator.cost.table.grids import Box, Plane, half_octaves, octaves
from simulator.cost.table.lines import Body, StageLines
from simulator.cost.table.options import Setup, TableOptions
from simulator.cost.table.table import Reach, StepTable
from simulator.errors import WorkloadError

Array = NDArray[np.float64]
CONTEXT_START = 64
"""Cached tokens of the first point after none; from there on by octaves."""
LARGEST_CONTEXT = 262_144


def reach_of(setup: Setup, options: TableOptions) -> Reach:
    """How far the table goes. Raises WorkloadError for skews that do not ascend."""
    skews = options.expert_skews
    if not skews or list(skews) != sorted(set(skews)) or skews[0] < 0:
        raise WorkloadError(where="expert_skews", given=str(skews), rule="must ascend from 0 or more")
    counts = options.prefill_counts
    if counts[:1] != (1,) or list(counts) != sorted(set(counts)):
        raise WorkloadError(where="prefill_counts", given=str(counts), rule="must ascend from 1")
    verified = 1 + options.speculation.tokens if options.speculation else 1
    sequences = options.max_sequences or setup.engine.max_sequences
    tokens = max(options.max_tokens or setup.engine.max_batched_tokens, sequences * verified)
    context = options.max_context or min(LARGEST_CONTEXT, setup.architecture.max_position)
    return Reach(tokens, sequences, context, verified)


def token_points(top: int, graphs: tuple[int, ...]) -> tuple[int, ...]:
    """Token counts that are priced: every graph size, tiles of 64, then eight an octave."""
    found = {0, 1, 2, 4, 8, 16, 32, 64, top, *(size for size in graphs if size <= top)}
    step, at = 64, 64
    while at < top:
        at += step
        found.add(min(at, top))
        if at >= step * 16:
            step *= 2
    return tuple(sorted(found))


def build_table(setup: Setup, options: TableOptions | None = None) -> StepTable:
    """The step-time table of a setup; raises what its programs raise (LayoutError, KernelError, ScheduleError)."""
    wanted = options or TableOptions()
    direct, reach = DirectPricer(setup), reach_of(setup, wanted)
    stages = tuple(_stage(direct, stage, wanted, reach) for stage in direct.stages)
    return StepTable(direct, wanted, reach, stages)


def _stage(direct: DirectPricer, stage: Stage, options: TableOptions, reach: Reach) -> StageLines:
    engine = direct.setup.engine
    graphs = tuple(size * reach.verified for size in engine.graph_sizes)
    points = token_points(reach.tokens, graphs if len(graphs) < 24 else graphs[:8] + graphs[8::4])
    decode = _body(direct, stage, points, options, decode=True)
    prefill = _body(direct, stage, points, options, decode=False)
    even = (
        _body(direct, stage, points, replace(options, prompt_skew=0.0), decode=False) if uneven(direct, options) else ()
    )
    rows = reach.sequences * reach.verified + options.prefill_counts[-1]
    heads = token_points(rows, ())
    head = np.interp(np.arange(rows + 1), heads, [direct.head(stage.index, n).time_s for n in heads])
    launches = (
        direct.body(stage.index, 1, True, options.expert_skews[0]).launches + direct.head(stage.index, 1).launches
    )
    mine = sum(times for _, times in direct.attention_ops(stage.index, True))
    return StageLines(
        stage.index, stage.times, Body(*(padded(line, engine, reach) for line in decode)), Body(*prefill), head,
        _plane(direct, stage, reach), _box(direct, stage, options, reach), launches, max(1, mine),
        Body(*even) if even else None,
    )  # fmt: skip


def uneven(direct: DirectPricer, options: TableOptions) -> bool:
    """Whether one prompt's routing makes its step slower than many prompts' does."""
    return direct.setup.layout.ep > 1 and options.prompt_skew > options.expert_skews[0] > 0.0


def padded(lines: Array, engine: EngineProfile, reach: Reach) -> Array:
    """Decode lines [skew, token] as graphs run them: each token count takes the time of its captured size."""
    tokens = np.arange(lines.shape[1])
    sequences = -(-tokens // reach.verified)
    sizes = np.asarray(engine.graph_sizes or (0,))
    place = np.searchsorted(sizes, sequences)
    captured = sizes[np.minimum(place, len(sizes) - 1)] * reach.verified
    runs = np.where((place < len(sizes)) & (captured < lines.shape[1]) & (tokens > 0), captured, tokens)
    return np.ascontiguousarray(lines[:, runs])


def _body(
    direct: DirectPricer, stage: Stage, points: tuple[int, ...], options: TableOptions, *, decode: bool
) -> tuple[Array, Array, Array, Array]:
    tokens = np.arange(points[-1] + 1)

    def drawn(parts: list[list[Part]], name: str) -> Array:
        return np.stack([np.interp(tokens, points, [getattr(p, name) for p in row]) for row in parts])

    skews = [options.skew_of(skew, decode=decode) for skew in options.expert_skews]
    priced = [[direct.body(stage.index, n, decode, skew) for n in points] for skew in skews]
    shared = np.maximum.accumulate(drawn(priced, "shared_s"), axis=1)
    return drawn(priced, "time_s"), drawn(priced, "compute_s"), drawn(priced, "comm_s"), shared


def _plane(direct: DirectPricer, stage: Stage, reach: Reach) -> Plane:
    sequences, context = half_octaves(reach.sequences), octaves(CONTEXT_START, reach.context)
    values = [
        [direct.decode_attention(stage.index, s, s * length, reach.verified).time_s for length in context]
        for s in sequences
    ]
    return Plane(sequences, context, np.array(values))


def _box(direct: DirectPricer, stage: Stage, options: TableOptions, reach: Reach) -> Box:
    new = half_octaves(reach.tokens)
    cached, counts = octaves(CONTEXT_START * 4, reach.context), options.prefill_counts
    values = np.empty((len(counts), len(new), len(cached)))
    for b, count in enumerate(counts):
        for i, n in enumerate(new):
            # Prompts that do not fit into one step together are never asked for: as one point, for the corner.
            few = count if n * count <= 2 * reach.tokens else 0
            for j, c in enumerate(cached):
                values[b, i, j] = direct.prefill_attention(stage.index, n, c, few).time_s if few else 0.0
        _carry(values, b, counts)
    return Box(counts, new, cached, values)


def _carry(values: Array, b: int, counts: tuple[int, ...]) -> None:
    """Corners that were not priced, for larger counts: in proportion to the count before."""
    blank = values[b] == 0.0
    if b and blank.any():
        values[b][blank] = values[b - 1][blank] * counts[b] / counts[b - 1]
