"""What stands beside a serving score: the least time a decode step can take, and how loaded the run was."""

from typing import Any

import numpy as np

from simulator.cost.floor import read_bytes
from simulator.engine.replica import Served
from simulator.engine.server import Server
from simulator.program.work import Sequence, Work
from simulator.validation.launch_settings import lengths

BUSY_SHARE = 0.2
"""Share of the run's middle half with requests waiting from which it is backlogged."""
FULL_SHARE = 0.9
"""The same from which it is overloaded."""


def floor_tpot_s(found: Server, row: Any) -> float:
    """Seconds to read weights and KV once for a decode step of all of a row's clients, at half of their answers."""
    layout, direct = found.setup.layout, found.table.direct
    given, asked, ratio = lengths(row)
    context = round(0.5 * (1.0 + ratio) * (given + 0.5 * asked))
    clients = max(1, -(-int(row.concurrency) // layout.dp_attention))
    work = Work(tuple(Sequence(i, 1, context) for i in range(clients)))
    read = sum(read_bytes(direct.program(stage.index, work, 0.0)) * stage.times for stage in direct.stages)
    return read / found.setup.device.hbm_bytes_per_s


def load_of(served: Served) -> str:
    """ "stable", "backlogged" or "overloaded": how much of the run's middle half some request waited for room.

    A mean of an overloaded run says how long the run was, not how fast the server is.
    """
    steps = np.array([(start, start + time, waiting) for _, start, time, *_, waiting, _ in served.steps])
    first, last = 0.25 * served.finish_s.max(), 0.75 * served.finish_s.max()
    inside = np.clip(np.minimum(steps[:, 1], last) - np.maximum(steps[:, 0], first), 0.0, None)
    total = float(inside.sum())
    share = float(inside[steps[:, 2] > 0].sum()) / total if total else 0.0
    return "stable" if share < BUSY_SHARE else "backlogged" if share < FULL_SHARE else "overloaded"
