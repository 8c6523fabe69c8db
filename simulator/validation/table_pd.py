"""Predictions of serving_pd.csv: prefill and decode pools apart, each row's closed loop replayed on its fleet.

Layouts of both pools are in the columns. How KV moves and who shows the first token follows the engine; nothing here is
fitted on this table but what `docs/fleet.md` lists.
"""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pandas as pd

from simulator.cost.engine_profile import find_engine
from simulator.cost.table import Setup, Speculation, StepTable, TableOptions, build_table
from simulator.engine.expert_exchange import with_exchange
from simulator.engine.fleet import FleetServed, serve_fleet
from simulator.engine.fleet_spec import Fleet, MasterSpec, ReplicaSpec, Role, TransferSpec
from simulator.engine.server import PROMPT_OP_S, ROUTING_SKEW, Server, kv_memory_bytes, memory_for, prompt_skew
from simulator.errors import DataError, DoesNotFitError, ShardsimError
from simulator.hardware.catalogue import find_device
from simulator.metrics.serving import request_frame
from simulator.model.architecture import Architecture, MixtureOfExperts
from simulator.parallel.layout import Layout
from simulator.planning.handover import FIRST_TOKEN, HANDOVER_S, MOVER
from simulator.program.memory import kv_cache_bytes
from simulator.serving.policy import Policy
from simulator.validation.answer import empty_answer, refuse
from simulator.validation.context import Context
from simulator.validation.launch_settings import speculation_of
from simulator.validation.links import RACK_DOMAIN, text
from simulator.validation.pd_recipes import decode_sequences
from simulator.validation.serving_setup import (
    PROMPTS_TOGETHER,
    links_of,
    policy_for,
    policy_name,
    same_server,
    stored,
    whole_number,
    with_cache,
)
from simulator.workload import closed_loop

OUTCOMES = (
    "mean_ttft_s", "median_ttft_s", "p90_ttft_s", "p99_ttft_s", "mean_tpot_s", "median_tpot_s", "p90_tpot_s",
    "p99_tpot_s", "mean_e2el_s", "output_tokens_per_s_per_decode_gpu", "input_tokens_per_s_per_prefill_gpu",
    "total_tokens_per_s_per_gpu",
)  # fmt: skip
INPUTS = [
    "gpu", "prefill_gpus", "decode_gpus", "framework", "framework_version", "model", "precision", "prefill_workers",
    "prefill_tp", "prefill_pp", "prefill_ep", "prefill_dp_attention", "decode_workers", "decode_tp", "decode_pp",
    "decode_ep", "decode_dp_attention", "isl_nominal", "osl_nominal", "range_ratio", "concurrency", "num_prompts",
    "spec_decoding", "protocol", "date",
]  # fmt: skip
LOAD = ["isl_nominal", "osl_nominal", "range_ratio", "concurrency", "num_prompts"]
HOST_GPUS = 8
LOW_LATENCY_GPUS = 4
"""GPUs of a decode worker of SGLang's low-latency recipes on GB200."""
FULL_SHARE = 0.97
"""Share of memory that an engine is given where weights leave nothing of its default; GB200 hosts run fp8 DeepSeek on
four GPUs of 185 GiB, 170 of them weights."""


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool of a row: a worker's setup, and how many of them there are."""

    setup: Setup
    policy: Policy
    workers: int
    role: Role
    speculation: Speculation | None


@dataclass(slots=True)
class _Need:
    """How far the table of one kind of worker must reach."""

    setup: Setup
    speculation: Speculation | None
    tokens: int = 1
    sequences: int = 1
    longest: int = 1
    table: StepTable | None = None


def predict(frame: pd.DataFrame, context: Context) -> pd.DataFrame:
    """All outcomes of each row from its pools, lengths and concurrency."""
    answer = empty_answer(frame, OUTCOMES, _labels(frame))
    inputs = frame[INPUTS]
    plain = inputs.astype(object).where(inputs.notna(), "")
    needs: dict[Hashable, _Need] = {}
    alike: dict[Hashable, list[int]] = {}
    fleets: dict[Hashable, tuple[Pool, Pool]] = {}
    for _, same in plain.groupby(INPUTS, sort=False):
        row = frame.loc[same.index[0]]
        try:
            pools = pools_of(row, context)
        except ShardsimError as error:
            refuse(answer, same.index, str(error))
            continue
        for pool in pools:
            _reach(needs, pool, row)
        described = tuple((_key(pool), pool.policy, pool.workers) for pool in pools)
        key: Hashable = (described, tuple(same[LOAD].iloc[0]))
        alike.setdefault(key, []).extend(same.index)
        fleets[key] = pools
    for key, index in alike.items():
        try:
            outcomes = replay(frame.loc[index[0]], fleets[key], needs)
        except ShardsimError as error:
            refuse(answer, pd.Index(index), str(error))
            continue
        for name, value in outcomes.items():
            answer.loc[index, f"predicted_{name}"] = value
        answer.loc[index, "provenance"] = "replayed"
    return answer


def _labels(frame: pd.DataFrame) -> "pd.Series[str]":
    spec = frame["spec_decoding"].fillna("none").map(lambda kind: "" if kind == "none" else f", {kind}")
    return frame["gpu"].astype(str) + spec


# ---- the pools of a row -----------------------------------------------------------------------------------------


def engine_name(framework: str) -> str:
    """The scheduler of a framework's name, whatever transfer library follows it. Raises DataError for none."""
    name = policy_name(framework.split("-MoRI")[0])
    if not name:
        raise DataError(where="framework", given=framework, rule="has no scheduler here")
    return name


def pools_of(row: Any, context: Context) -> tuple[Pool, Pool]:
    """(prefill, decode) as a row's inputs describe them. Raises a ShardsimError for what cannot be described."""
    engine = engine_name(text(row.framework))
    device = find_device(text(row.gpu))
    model = stored(context.model(text(row.model)), text(row.precision))
    model = replace(model, quantization=with_cache(model.quantization, engine, device))
    version = text(row.framework_version)
    profile = find_engine(engine, "" if "ai-dynamo" in version else version)
    profile = replace(profile, launch_s=PROMPT_OP_S[engine])
    found = []
    roles: tuple[Role, Role] = ("prefill", "decode")
    for role in roles:
        layout = layout_of(row, role, model)
        gpus = layout.ranks
        links = links_of(text(row.gpu), gpus, -(-gpus // HOST_GPUS), layout)
        setup = with_exchange(Setup(model, layout, device, links, profile))
        told = _told(engine, layout, row, role)
        policy = replace(policy_for(setup, told), poll_steps=1)
        if role == "decode" and engine == "tensorrt-llm" and (most := decode_sequences(row)) is not None:
            policy = replace(policy, max_sequences=most)
        speculation = speculation_of(told, engine, model)
        found.append(Pool(setup, policy, whole_number(row, f"{role}_workers"), role, speculation))
    return found[0], found[1]


def layout_of(row: Any, role: str, model: Architecture) -> Layout:
    """A worker's layout; where the experts do not divide by ep, busy ones are copied until they do.

    SGLang's recipes with data-parallel attention exchange tokens by DeepEP, which sets ep to all ranks of the server
    (server_args.py, _handle_a2a_moe, v0.5) whatever the entry that names the recipe says; those of one small host are
    the low-latency ones, which are plain tensor parallelism (nvidia-master.yaml, see `pd_recipes`: tp 4, dp-attn false;
    entries of 2025-12 say true of the same recipes).
    """
    tp, pp, ep, dp = (whole_number(row, f"{role}_{axis}") for axis in ("tp", "pp", "ep", "dp_attention"))
    if ep == 1 and dp > 1 and engine_name(text(row.framework)) == "sglang":
        small = int(row.decode_dp_attention) * int(row.decode_tp) <= LOW_LATENCY_GPUS
        tp, dp, ep = (dp * tp, 1, 1) if small else (tp, dp, tp * dp)
    feeds = [layer.feed_forward for layer in model.layers]
    experts = max((feed.experts for feed in feeds if isinstance(feed, MixtureOfExperts)), default=0)
    return Layout(tp=tp, pp=pp, dp_attention=dp, ep=ep, redundant_experts=-experts % ep)


def _told(engine: str, layout: Layout, row: Any, role: str) -> SimpleNamespace:
    """One pool in the words of an aggregated row. Only the decode pool drafts tokens."""
    told = dict(row) | {
        "framework": engine, "framework_version": "", "protocol": "", "date": "", "tp": layout.tp, "pp": layout.pp,
        "dp_attention": layout.dp_attention, "ep": layout.ep, "gpus": layout.ranks, "nodes": 1,
        "spec_decoding": row.spec_decoding if role == "decode" else "none",
    }  # fmt: skip
    return SimpleNamespace(**told)


# ---- the run ----------------------------------------------------------------------------------------------------


def _key(pool: Pool) -> Hashable:
    return same_server(pool.setup), pool.speculation


def _reach(needs: dict[Hashable, _Need], pool: Pool, row: Any) -> None:
    need = needs.setdefault(_key(pool), _Need(pool.setup, pool.speculation))
    given, asked, clients = int(row.isl_nominal), int(row.osl_nominal), int(row.concurrency)
    ranks = pool.workers * pool.setup.layout.dp_attention
    busiest = min(clients, 2 * -(-clients // ranks) + 4)
    prefill = pool.role == "prefill"
    need.tokens = max(need.tokens, min(pool.policy.max_batched_tokens, given * busiest) if prefill else busiest)
    need.sequences = max(need.sequences, 1 if prefill else busiest)
    need.longest = max(need.longest, given + asked)


def _replica(pool: Pool, needs: dict[Hashable, _Need], longest: int) -> ReplicaSpec:
    need = needs[_key(pool)]
    if need.table is None:
        options = TableOptions(
            need.tokens + need.sequences, need.sequences, need.longest, prefill_counts=PROMPTS_TOGETHER,
            expert_skews=(ROUTING_SKEW,), speculation=need.speculation, prompt_skew=prompt_skew(need.setup.layout.ep),
        )  # fmt: skip
        need.table = build_table(need.setup, options)
    layout = pool.setup.layout
    blocks = memory_for(Server(pool.setup, need.table, _kv_bytes(pool.setup)), pool.policy, longest)
    return ReplicaSpec(
        pool.role, need.table, pool.policy, blocks.capacity, pool.role, pool.role, layout.dp_attention, layout.ranks,
        nic_bytes_per_s=layout.ranks * line_bytes_per_s(pool.setup),
    )  # fmt: skip


def _kv_bytes(setup: Setup) -> float:
    """Memory left for KV; where the default leaves none, with as much as can be given and short prompt steps."""
    try:
        return kv_memory_bytes(setup)
    except DoesNotFitError:
        tight = replace(setup.engine, memory_share=FULL_SHARE, max_batched_tokens=2048)
        return kv_memory_bytes(replace(setup, engine=tight))


def line_bytes_per_s(setup: Setup) -> float:
    """What KV leaves a GPU by: its NVLink inside a rack that is one NVLink domain, its NIC elsewhere."""
    device = setup.device
    return device.nvlink_bytes_per_s if device.name.endswith("NVL72") else device.nic_bytes_per_s


def fleet_of(row: Any, pools: tuple[Pool, Pool], needs: dict[Hashable, _Need]) -> Fleet:
    """The fleet of one row."""
    longest = int(row.isl_nominal) + int(row.osl_nominal)
    replicas: list[ReplicaSpec] = []
    for pool in pools:
        one = _replica(pool, needs, longest)
        replicas += [replace(one, name=f"{pool.role} {i}") for i in range(pool.workers)]
    engine = engine_name(text(row.framework))
    setup = pools[1].setup
    stages = range(setup.layout.pp)

    def kv_bytes(tokens: int) -> float:
        """Bytes of a prompt over the ranks that one attention rank's heads are split over."""
        return setup.layout.tp * sum(
            kv_cache_bytes(setup.architecture, setup.layout, stage, (tokens,)) for stage in stages
        )

    per_token = kv_bytes(longest) / longest
    transfer = TransferSpec(
        lambda tokens: per_token * tokens, len(setup.architecture.layers), MOVER[engine],
        "none" if setup.device.name.endswith("NVL72") and row.gpus <= RACK_DOMAIN else "infiniband",
        HANDOVER_S[engine],
        reserve="before_prefill" if engine == "sglang" else "before_transfer", first_token=FIRST_TOKEN[engine],
    )  # fmt: skip
    return Fleet(tuple(replicas), (MasterSpec("router", "round_robin"),), transfer)


def replay(row: Any, pools: tuple[Pool, Pool], needs: dict[Hashable, _Need]) -> dict[str, float]:
    """One row's run. Raises ShardsimError where its requests cannot be served."""
    fleet = fleet_of(row, pools, needs)
    loop = closed_loop(
        int(row.concurrency), input_tokens=int(row.isl_nominal), output_tokens=int(row.osl_nominal),
        range_ratio=float(row.range_ratio) if pd.notna(row.range_ratio) else 1.0,
        prompts=int(row.num_prompts) if pd.notna(row.num_prompts) else None,
    )  # fmt: skip
    return outcomes_of(serve_fleet(loop, fleet, log=False), row)


def outcomes_of(served: FleetServed, row: Any) -> dict[str, float]:
    """The table's outcome columns of one run."""
    frame = request_frame(served)
    seconds = float(served.finish_s.max())
    given, asked = int(served.input_tokens.sum()), int(served.output_tokens.sum())
    found: dict[str, Any] = {"mean_e2el_s": frame.e2el_s.mean()}
    for name in ("ttft", "tpot"):
        column = frame[f"{name}_s"]
        found |= {f"mean_{name}_s": column.mean(), f"median_{name}_s": column.median()}
        found |= {f"p90_{name}_s": column.quantile(0.9), f"p99_{name}_s": column.quantile(0.99)}
    found["output_tokens_per_s_per_decode_gpu"] = asked / seconds / row.decode_gpus
    found["input_tokens_per_s_per_prefill_gpu"] = given / seconds / row.prefill_gpus
    found["total_tokens_per_s_per_gpu"] = (given + asked) / seconds / (row.decode_gpus + row.prefill_gpus)
    return {name: float(value) for name, value in found.items()}
