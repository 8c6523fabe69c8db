"""What a run leaves behind: data frames with documented columns, and the answers drawn from them.

ops            one row per op that a rank ran
    step (int, 0 is prefill), phase ("prefill" or "decode"), pool, rank, gpu, stream ("compute" or "comm"), layer
    (-1 before the layers, -2 after), micro_batch, op, kind (class of op, or the collective's kind), start_s, end_s,
    bytes (of a collective's message; 0 otherwise), provenance ("measured", "fitted", "roofline"), bound
transfers      one row per message that occupied a link (only where links were simulated)
    link, start_s, end_s, bytes, label
links          one row per link that carried anything
    link, source, destination, link_class, bandwidth_bytes_per_s, bytes, busy_s
steps          one row per step and pool
    step, phase, pool, start_s, end_s, time_s, tokens, compute_s, comm_s (of the average rank, its waits for
    others in a collective included), exposed_comm_s (not hidden behind compute), idle_s (pipeline bubbles),
    comm_share (exposed over time_s), floor_s (least time to read and compute what the step must)
memory         one row per rank
    pool, rank, gpu, weights_bytes, kv_cache_bytes, activations_bytes, total_bytes, capacity_bytes
numerics       one row per dtype, pool, layer and probe
    dtype, pool, layer, probe, max_relative_error
expert_load    one row per MoE layer and expert
    layer, expert, expected_share, routed_tokens (by the miniature's real router), routed_share
handover       one row per KV transfer between pools
    source_rank, destination_rank, layers, tokens, bytes, miniature_bytes, duplicate_bytes, start_s, end_s
"""

from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True, slots=True)
class Correctness:
    """Whether the sharded miniature said the same as the unsharded one."""

    checked: bool
    tokens_equal: bool
    prompts: int
    tokens_per_prompt: int
    sharded: tuple[tuple[int, ...], ...]
    reference: tuple[tuple[int, ...], ...]
    largest_error: float
    """Largest relative error of any probe in float64."""
    reason: str = ""
    """Why nothing was checked."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """Everything the report shows. Frames' columns are in the module's docstring; empty frames have them too."""

    name: str
    description: str
    facts: dict[str, object]
    """What was asked: model, parameters, cluster, layouts, precision, workload; printed as given."""
    fits: bool
    correctness: Correctness
    prefill_s: float
    """Time of the prefill step at full size; NaN where there is none."""
    decode_s: float
    """Mean time of one decode step at full size; NaN where there is none."""
    binds: str
    """What binds, in one sentence."""
    ops: pd.DataFrame
    transfers: pd.DataFrame
    links: pd.DataFrame
    steps: pd.DataFrame
    memory: pd.DataFrame
    numerics: pd.DataFrame
    expert_load: pd.DataFrame
    handover: pd.DataFrame
    events: int
    """Discrete events the simulation processed."""
    warnings: tuple[str, ...] = field(default=())
