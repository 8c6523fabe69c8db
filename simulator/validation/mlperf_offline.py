"""MLPerf's offline scenario: all samples at once, the system's rate of output tokens.

The rows state a system, a model and the mean output; prompts' mean lengths are the data sets' (`open_load.MLPERF`).
Where the layout is not stated, each of the smallest ones that hold the model is replayed, and the fastest stands, as a
submitter tunes: every replica takes its share of the samples.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simulator.cost.table import Setup, StepTable, TableOptions, build_table
from simulator.engine.server import ROUTING_SKEW, kv_memory_bytes, prompt_skew
from simulator.errors import DataError
from simulator.program.memory import kv_cache_bytes
from simulator.validation.context import Context
from simulator.validation.described import Described, setup_from
from simulator.validation.links import text
from simulator.validation.offline_replay import Steps, max_load
from simulator.validation.open_load import data_set
from simulator.validation.open_servers import gpus_of, mlperf_servers

SAMPLES = 24_576
"""Least number of samples of an offline run (MLPerf inference rules, v4.1 to v5.1)."""
FILLS = 6
"""How often a replica's slots are filled in the replay; later fills repeat the earlier ones."""


def offline_rate(row: Any, context: Context) -> tuple[float, int]:
    """(output tokens/s of the system, its GPUs). Raises a ShardsimError for what cannot be described or held."""
    gpus, lengths = gpus_of(row), data_set(text(row.model))
    if gpus < 1 or lengths is None:
        given = f"{gpus} GPUs, {text(row.model)}"
        raise DataError(where="mlperf_offline", given=given, rule="states no GPUs, or no benchmark that is described")
    derived = row.mean_output_tokens_derived
    isl, osl = round(lengths.input_tokens), max(2, round(lengths.output_tokens if pd.isna(derived) else derived))
    rates = []
    for told in mlperf_servers(row, context):
        replicas = max(1, gpus // told.layout.ranks)
        rates.append(replicas * _replica_rate(told, context, isl, osl, -(-SAMPLES // replicas)))
    return max(rates), gpus


@lru_cache(maxsize=256)
def _replica_rate(told: Described, context: Context, isl: int, osl: int, samples: int) -> float:
    """Output tokens/s of one replica."""
    setup = setup_from(told, context)
    engine, layout = setup.engine, setup.layout
    held = max(kv_cache_bytes(setup.architecture, layout, stage, (isl + osl,)) for stage in range(layout.pp))
    slots = max(1, min(int(kv_memory_bytes(setup) / held), engine.max_sequences))
    ranks = layout.dp_attention
    requests = min(-(-samples // ranks), FILLS * slots)
    steps = max_load(requests, isl, osl, slots, engine.max_batched_tokens)
    seconds = float((_times(_table(setup, slots, isl + osl), steps) * steps.times).sum())
    return ranks * requests * osl / seconds


def _table(setup: Setup, slots: int, longest: int) -> StepTable:
    tokens = setup.engine.max_batched_tokens + slots
    return build_table(
        setup,
        TableOptions(tokens, slots, longest, expert_skews=(ROUTING_SKEW,), prompt_skew=prompt_skew(setup.layout.ep)),
    )


def _times(table: StepTable, steps: Steps) -> NDArray[np.float64]:
    return table.step_times_s(
        steps.prefill_tokens, steps.prefill_context, steps.decode_sequences, steps.decode_kv_tokens,
        prefill_sequences=steps.prefill_sequences,
    )  # fmt: skip
