"""Which tokens each rank works on in a step."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from simulator.model.architecture import Architecture
from simulator.parallel.layout import Layout
from simulator.program.build import DEFAULTS, Program, build
from simulator.program.frame import Options
from simulator.program.sharding import coordinate
from simulator.program.work import Sequence as WorkSequence
from simulator.program.work import Work, local_positions, share_out

Tokens = Mapping[int, Sequence[int]]
"""Sequence id -> all its tokens so far, prompt and generated."""


def data_coordinate(layout: Layout, rank: int) -> int:
    """Index of a rank among the data-parallel coordinates (replica, then data-parallel attention)."""
    return coordinate(layout, rank, ("dp",)) * layout.dp_attention + coordinate(layout, rank, ("dp_attention",))


def works_of(sequences: Sequence[WorkSequence], layout: Layout) -> tuple[tuple[Work, ...], ...]:
    """Sequences dealt to data-parallel coordinates, then to micro-batches: [coordinate][micro-batch]."""
    dealt = share_out(tuple(sequences), layout.dp * layout.dp_attention)
    return tuple(share_out(work.sequences, layout.micro_batches, empty_decodes=work.decode) for work in dealt)


def programs_of(
    architecture: Architecture,
    layout: Layout,
    works: tuple[tuple[Work, ...], ...],
    options: Options = DEFAULTS,
) -> tuple[Program, ...]:
    """The program of every rank; ranks that do the same share one."""
    usual = tuple(
        sum(row[batch].local_tokens(layout.cp) for row in works) / len(works) for batch in range(layout.micro_batches)
    )
    uneven = len({work.local_tokens(layout.cp) for row in works for work in row}) > 1
    built: dict[tuple[int, tuple[Work, ...]], Program] = {}
    found = []
    for rank in range(layout.ranks):
        stage, mine = coordinate(layout, rank, ("pp",)), works[data_coordinate(layout, rank)]
        key = (stage, mine)
        if key not in built:
            built[key] = build(architecture, layout, stage, mine, options, usual if uneven else ())
        found.append(built[key])
    return tuple(found)


def ids_of(work: Work, layout: Layout, rank: int, tokens: Tokens) -> NDArray[np.int64]:
    """New token ids of one micro-batch on one rank, in the order of its rows."""
    index = coordinate(layout, rank, ("cp",))
    rows = [np.asarray(tokens[s.id])[local_positions(s, index, layout.cp)] for s in work.sequences]
    return np.concatenate(rows).astype(np.int64) if rows else np.zeros(0, np.int64)
