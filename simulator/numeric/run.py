"""The numbers of one step on all ranks, in lockstep and without time.

The simulation with time (`engine`) runs the same kernels and the same schedules; this runner is for
property tests and for callers who ask about correctness only.
"""

from collections.abc import Callable, Iterator
from typing import Any

from simulator.collectives.build import build as build_schedule
from simulator.collectives.schedule import Schedule
from simulator.errors import PlacementError
from simulator.numeric.batch import Tokens, ids_of
from simulator.numeric.exchange import exchange
from simulator.numeric.kernels import run_op
from simulator.numeric.rank import OpContext, RankState
from simulator.parallel.layout import Layout
from simulator.program.build import Program, Segment
from simulator.program.ops import Collective, Op, Receive, Send

Probe = Callable[[int, Segment, Op, tuple[Any, ...]], None]
"""Called with (rank, segment, op, outputs) after each op."""

SCHEDULES = {"all_reduce": "ring", "all_gather": "ring", "reduce_scatter": "ring", "all_to_all": "pairwise"}

Pick = Callable[[Collective, tuple[int, ...]], Schedule]
"""The schedule of a collective over a group of ranks."""


def default_schedule(op: Collective, group: tuple[int, ...]) -> Schedule:
    """Ring algorithms, and pairwise all_to_all."""
    return build_schedule(op.kind, SCHEDULES[op.kind], len(group))


def run_step(
    programs: tuple[Program, ...],
    states: list[RankState],
    tokens: Tokens,
    *,
    pick: Pick = default_schedule,
    probe: Probe | None = None,
) -> dict[int, int]:
    """Runs every rank's program; returns sequence id -> sampled token (and extends the caches in `states`)."""
    layout = states[0].layout
    envs: list[list[dict[str, Any]]] = [[{} for _ in program.works] for program in programs]
    sizes: dict[tuple[int, int, str], tuple[int, ...]] = {}
    for ranks, micro_batch, segment_index, op_index in _order(programs, layout):
        segments = [programs[rank].segments[segment_index] for rank in ranks]
        ops = [segment.ops[op_index] for segment in segments]
        if isinstance(ops[0], Collective):
            _collective(ops, ranks, layout, states, envs, micro_batch, sizes, pick)
        else:
            for rank, segment, op in zip(ranks, segments, ops, strict=True):
                _local(op, rank, segment, states, envs, tokens, programs)
        if probe is not None:
            for rank, segment, op in zip(ranks, segments, ops, strict=True):
                probe(rank, segment, op, tuple(envs[rank][micro_batch][name] for name in op.outputs))
    return sampled(programs, envs)


def _order(programs: tuple[Program, ...], layout: Layout) -> Iterator[tuple[tuple[int, ...], int, int, int]]:
    """(ranks of a stage, micro-batch, segment, op): stages one after the other, ranks of a stage together."""
    stages = [tuple(r for r, p in enumerate(programs) if p.stage == stage) for stage in range(layout.pp)]
    for ranks in stages:
        first = programs[ranks[0]]
        for index, segment in enumerate(first.segments):
            for op_index, op in enumerate(segment.ops):
                for rank in ranks:
                    other = programs[rank].segments[index].ops[op_index]
                    if other.name != op.name:
                        raise PlacementError(
                            where=f"rank {rank}",
                            given=f"{other.name!r} beside {op.name!r}",
                            rule="ranks of one stage run the same ops",
                        )
                yield ranks, segment.micro_batch, index, op_index


def _local(
    op: Op,
    rank: int,
    segment: Segment,
    states: list[RankState],
    envs: list[list[dict[str, Any]]],
    tokens: Tokens,
    programs: tuple[Program, ...],
) -> None:
    state, env = states[rank], envs[rank][segment.micro_batch]
    match op:
        case Send():
            return
        case Receive(outputs=(name,)):
            stages = state.layout.group_of(("pp",))[rank]
            env[name] = envs[stages[stages.index(rank) + op.offset]][segment.micro_batch]["h"]
        case Collective() | Receive():
            raise PlacementError(given=op.name, rule="is not an op of one rank alone")
        case _:
            work = programs[rank].works[segment.micro_batch]
            ctx = OpContext(state, segment.layer, work, ids_of(work, state.layout, rank, tokens))
            outputs = run_op(op, tuple(env[name] for name in op.inputs if name != "ids"), ctx)
            env.update(zip(op.outputs, outputs, strict=True))


def _collective(
    ops: list[Any],
    ranks: tuple[int, ...],
    layout: Layout,
    states: list[RankState],
    envs: list[list[dict[str, Any]]],
    micro_batch: int,
    sizes: dict[tuple[int, int, str], tuple[int, ...]],
    pick: Pick,
) -> None:
    op: Collective = ops[0]
    done: set[int] = set()
    for rank in ranks:
        if rank in done:
            continue
        group = layout.group_of(op.over)[rank]
        done |= set(group)
        values = [envs[member][micro_batch][op.inputs[0]] for member in group]
        cut = sizes.get((group[0], micro_batch, op.split_like)) if op.split_like else None
        outputs, gathered = exchange(op, pick(op, group), values, cut, states[rank].round_)
        for member, output in zip(group, outputs, strict=True):
            envs[member][micro_batch][op.outputs[0]] = output
            if gathered is not None:
                sizes[member, micro_batch, op.outputs[0]] = gathered


def sampled(programs: tuple[Program, ...], envs: list[list[dict[str, Any]]]) -> dict[int, int]:
    """Sequence id -> sampled token, from the ranks that have one; they must agree."""
    found: dict[int, int] = {}
    for program, batches in zip(programs, envs, strict=True):
        for work, env in zip(program.works, batches, strict=True):
            if "sampled" not in env:
                continue
            for sequence, token in zip(work.sequences, env["sampled"], strict=True):
                if found.setdefault(sequence.id, int(token)) != int(token):
                    raise PlacementError(
                        given=f"sequence {sequence.id}: tokens {found[sequence.id]} and {int(token)}",
                        rule="ranks that hold the same logits must sample the same token",
                    )
    return found
