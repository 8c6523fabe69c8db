"""Predictions of serving_offline.csv: first tokens, static batches and runs at maximum load, replayed step by step."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simulator.cost.collective import collective_price
from simulator.cost.engine_profile import EngineProfile, find_engine
from simulator.cost.price import Price
from simulator.cost.table import Setup, StepTable, TableOptions, build_table
from simulator.cost.table.table import StepLoad
from simulator.errors import ShardsimError
from simulator.hardware.catalogue import find_device
from simulator.model.architecture import Architecture
from simulator.model.quantization import override
from simulator.parallel.layout import Layout
from simulator.program.build import build
from simulator.program.memory import activations_bytes, kv_cache_bytes, weights_bytes
from simulator.program.ops import Collective, CommOp
from simulator.program.work import Sequence, Work
from simulator.topology.group import GroupLinks
from simulator.validation.answer import empty_answer, refuse
from simulator.validation.context import Context
from simulator.validation.links import group_links, text
from simulator.validation.mlperf_offline import offline_rate
from simulator.validation.offline_replay import Steps, max_load, static_batch

Array = NDArray[np.float64]
OUTCOMES = ("output_tokens_per_s", "output_tokens_per_s_per_gpu", "first_token_s")
REPLAYED = ("first_token_latency", "output_tokens_per_s_static_batch", "output_tokens_per_s_max_load")
# Weights and experts, KV cache. TensorRT-LLM's FP8 and FP4 checkpoints keep the cache in fp8
# (perf-overview.md: quantised with ModelOpt, --kv_cache_dtype fp8).
PRECISION: dict[str, tuple[str, str]] = {"fp16": ("bf16", "bf16"), "fp8": ("fp8", "fp8"), "fp4": ("nvfp4", "fp8")}
REQUESTS: dict[tuple[int, int], int] = {
    (128, 128): 30000, (128, 2048): 3000, (128, 4096): 1500, (1000, 2000): 1500, (2048, 128): 3000,
    (2048, 2048): 1500, (5000, 500): 1500, (1000, 1000): 3000, (500, 2000): 3000, (20000, 2000): 1000,
}  # fmt: skip
"""Requests of a run by (input, output) length: TensorRT-LLM docs, perf-overview.md of v1.0 (2025-09)."""
OTHER_REQUESTS = 1500
LONGEST = 32_768
PER_NODE = 8


@dataclass(frozen=True, slots=True)
class Case:
    """One measured deployment."""

    model: Architecture
    gpu: str
    layout: Layout
    engine: EngineProfile


@dataclass(frozen=True, slots=True)
class PeerRing:
    """Collectives of PCIe cards that reach each other through PCIe switches.

    The only hosts whose larger PCIe groups were measured go through the processors, and reach a tenth of the rate of
    their pairs. The tables of serving do not describe their hosts, but are a vendor's, on certified servers: each card
    is taken to reach every other at the rate a measured pair has. A ring of n then takes a pair's time for the bytes
    that cross its slowest link, 2 (n - 1) / n of the message, and `_HOP_S` for each further step.
    """

    gpu: str
    layout: Layout
    library: str

    def __call__(self, op: CommOp) -> Price:
        """Price of one op."""
        pair = group_links(self.gpu, 2, PER_NODE, intra="PCIe")
        if not isinstance(op, Collective):
            return collective_price(pair, "send_recv", op.bytes)
        ranks = self.layout.size(op.over)
        steps = 2 if op.kind == "all_reduce" else 1
        # A pair of ranks moves half of what its message holds, per step of the ring and in all.
        price = collective_price(pair, op.kind, op.bytes * 2.0 * (ranks - 1) / ranks, library=self.library)
        time_s = price.time_s + steps * (ranks - 2) * _HOP_S
        return Price(time_s, "roofline", max(price.error, 0.3), price.bound)


_HOP_S = 2.0e-6
"""One further step of a small message over a PCIe switch (NCCL 2.30 tuning.cc: PCIe hops of 1 to 5.7 us)."""


def case_of(row: Any, context: Context) -> Case | str:
    """The deployment of a row, or why it cannot be described."""
    precision = text(row.precision)
    if precision not in PRECISION:
        return "precision is not stated" if not precision else f"precision {precision} is not described"
    if pd.isna(row.tp) or pd.isna(row.pp):
        return "the layout is not stated"
    try:
        engine = find_engine(text(row.framework), text(row.release))
        model = context.model(text(row.model))
        weights, cache = PRECISION[precision]
        stored = override(model.quantization, weights=weights, experts=weights, attention="", kv_cache=cache)
        layout = Layout(tp=int(row.tp), pp=int(row.pp), micro_batches=int(row.pp))
        find_device(text(row.gpu))
    except ShardsimError as error:
        return str(error)
    return Case(replace(model, quantization=stored), text(row.gpu), layout, engine)


def over_pcie(gpu: str) -> bool:
    """Cards without NVLink, or with bridges, which join pairs only: a larger group goes over PCIe."""
    device = find_device(gpu)
    return not device.nvlink_bytes_per_s or "-PCIe" in device.name or device.name.endswith("-NVL")


def setup_of(case: Case) -> Setup:
    """The case on a host of its GPUs, eight to a host."""
    known: dict[tuple[str, ...], GroupLinks] = {}
    pcie = over_pcie(case.gpu)

    def links(axes: tuple[str, ...]) -> GroupLinks:
        if axes not in known:
            ranks = 2 if axes == ("pp",) else case.layout.size(axes)
            known[axes] = group_links(case.gpu, ranks, PER_NODE, intra="PCIe" if pcie else "")
        return known[axes]

    comm = PeerRing(case.gpu, case.layout, case.engine.all_reduce) if pcie else None
    return Setup(case.model, case.layout, find_device(case.gpu), links, case.engine, comm=comm)


@lru_cache(maxsize=64)
def table_of(case: Case) -> StepTable:
    """The step-time table of a case."""
    options = TableOptions(max_tokens=8192, max_context=LONGEST, prefill_counts=(1, 4, 16, 64))
    return build_table(setup_of(case), options)


def slots_of(case: Case, tokens: int) -> int:
    """Sequences of `tokens` whose cache fits beside weights and activations, on the fullest stage."""
    device, engine, layout = find_device(case.gpu), case.engine, case.layout
    fitting = []
    for stage in range(layout.pp):
        work = Work((Sequence(0, min(engine.max_batched_tokens, 8192), 0),))
        activations = activations_bytes(build(case.model, layout, stage, (work,)))
        weights = weights_bytes(case.model, layout, stage)
        room = engine.cache_bytes(device.hbm_bytes, weights, activations)
        fitting.append(room / kv_cache_bytes(case.model, layout, stage, (tokens,)))
    return min(int(min(fitting)), engine.max_sequences * layout.pp)


def steps_of(row: Any, case: Case) -> Steps | str:
    """The steps of a row's run, or why it cannot be replayed."""
    metric = text(row.metric)
    if pd.isna(row.isl):
        return "prompt lengths are not stated"
    isl = int(row.isl)
    if metric == "first_token_latency":
        return static_batch(int(row.batch_size) if pd.notna(row.batch_size) else 1, isl, 1)
    if pd.isna(row.osl):
        return "output lengths are not stated"
    osl = int(row.osl)
    if metric == "output_tokens_per_s_static_batch":
        return "the batch is not stated" if pd.isna(row.batch_size) else static_batch(int(row.batch_size), isl, osl)
    slots = slots_of(case, isl + osl)
    if slots < 1:
        return "weights and one sequence do not fit into memory"
    requests = REQUESTS.get((isl, osl), OTHER_REQUESTS)
    # A decode step of one sequence costs a share of each micro-batch's budget.
    return max_load(requests, isl, osl, slots, case.engine.max_batched_tokens * case.layout.pp)


def output_tokens(row: Any, steps: Steps) -> float:
    """Tokens that the run puts out."""
    if text(row.metric) == "output_tokens_per_s_static_batch":
        return float(row.batch_size) * float(row.osl)
    sequences = np.where(steps.prefill_tokens > 0, steps.prefill_sequences, 0.0)
    return float(sequences.sum()) * float(row.osl)


def step_times(table: StepTable, steps: Steps) -> Array:
    """Seconds of each step. With pipeline stages, as many micro-batches are in flight, a stage apart."""
    if table.direct.setup.layout.pp == 1:
        return table.step_times_s(
            steps.prefill_tokens, steps.prefill_context, steps.decode_sequences, steps.decode_kv_tokens,
            prefill_sequences=steps.prefill_sequences,
        )  # fmt: skip
    micro = table.direct.setup.layout.micro_batches
    columns = (
        steps.prefill_tokens, steps.prefill_context, steps.decode_sequences, steps.decode_kv_tokens,
        steps.prefill_sequences,
    )  # fmt: skip
    return np.array([micro * table.stage_time_s(StepLoad(*map(int, load))) for load in zip(*columns, strict=True)])


def step_parts(table: StepTable, steps: Steps) -> tuple[Array, Array]:
    """Compute and communication seconds of each step of a single-stage table, as its profile has them."""
    times = step_times(table, steps)
    line = table.stages[0]
    tokens = (steps.prefill_tokens + steps.decode_sequences).astype(np.intp)
    known = np.minimum(tokens, table.reach.tokens)
    decode = steps.prefill_tokens == 0
    comm = np.where(decode, line.decode.comm_s[0][known], line.prefill.comm_s[0][known])
    # A step beyond the table communicates in proportion to its tokens: such messages are bound by bandwidth.
    comm_s = comm * np.maximum(1.0, tokens / table.reach.tokens)
    return times - comm_s, comm_s


def per_gpu(row: Any) -> bool:
    """Whether a rate is per GPU in whichever column: static batches from v0.7 on (the data's README)."""
    return text(row.metric) == "output_tokens_per_s_static_batch" and not text(row.release).startswith("v0.5")


def predict(frame: pd.DataFrame, context: Context) -> pd.DataFrame:
    """Rates and first-token times from model, GPU, layout, precision, lengths, batch and engine release."""
    answer = empty_answer(frame, OUTCOMES, _labels(frame))
    for index, row in zip(frame.index, frame.itertuples(), strict=True):
        reason = _fill(answer, index, row, context)
        if reason:
            refuse(answer, pd.Index([index]), reason)
    return answer


def _labels(frame: pd.DataFrame) -> "pd.Series[str]":
    short = frame["metric"].str.replace("output_tokens_per_s_", "")
    return short + " / " + frame["release"].fillna("?").astype(str)


def _fill(answer: pd.DataFrame, index: Any, row: Any, context: Context) -> str:
    """Predict one row; returns why not, or ""."""
    if text(row.metric) == "mlperf_offline":
        return _fill_mlperf(answer, index, row, context)
    if text(row.metric) not in REPLAYED:
        return f"{text(row.metric)}: no such measurement is described"
    case = case_of(row, context)
    if isinstance(case, str):
        return case
    try:
        steps = steps_of(row, case)
        if isinstance(steps, str):
            return steps
        seconds = float((step_times(table_of(case), steps) * steps.times).sum())
    except ShardsimError as error:
        return str(error)
    _write(answer, index, row, steps, seconds)
    return ""


def _fill_mlperf(answer: pd.DataFrame, index: Any, row: Any, context: Context) -> str:
    """Predict one MLPerf row, of whose layout and lengths the means are assumed; returns why not, or ""."""
    try:
        rate, gpus = offline_rate(row, context)
    except ShardsimError as error:
        return str(error)
    answer.loc[index, "provenance"] = "fitted"
    answer.loc[index, "predicted_output_tokens_per_s"] = rate
    answer.loc[index, "predicted_output_tokens_per_s_per_gpu"] = rate / gpus
    return ""


def _write(answer: pd.DataFrame, index: Any, row: Any, steps: Steps, seconds: float) -> None:
    answer.loc[index, "provenance"] = "fitted"
    if text(row.metric) == "first_token_latency":
        answer.loc[index, "predicted_first_token_s"] = seconds
        return
    rate = output_tokens(row, steps) / seconds
    gpus = float(row.tp) * float(row.pp)
    answer.loc[index, "predicted_output_tokens_per_s"] = rate / gpus if per_gpu(row) else rate
    answer.loc[index, "predicted_output_tokens_per_s_per_gpu"] = rate / gpus
