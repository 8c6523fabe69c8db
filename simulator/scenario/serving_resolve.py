"""From a scenario with traffic to what runs: servers with step-time tables, a fleet, its faults and its requests."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from simulator.cost.collective.transfer import Engine as TransferEngine
from simulator.cost.engine_profile import EngineProfile, find_engine
from simulator.cost.table import Setup, Speculation, TableOptions, build_table
from simulator.engine.fleet_spec import FirstToken, Fleet, MasterSpec, ReplicaSpec, TransferSpec
from simulator.engine.pipelined import Pipelined
from simulator.engine.server import (
    PROMPT_OP_S,
    REQUEST_S,
    ROUTING_SKEW,
    TOKEN_S,
    Server,
    kv_memory_bytes,
    memory_for,
    prompt_skew,
)
from simulator.errors import LayoutError, ScenarioError, ShardsimError
from simulator.metrics.prices import price_of
from simulator.metrics.serving_case import PoolFacts, ServingCase, Slo
from simulator.model.architecture import Architecture
from simulator.parallel.layout import Layout
from simulator.program.frame import Options
from simulator.program.memory import kv_cache_bytes
from simulator.scenario.load import Entry
from simulator.scenario.resolve import check_pool_layout, engine_of, pool_specs, resolve_cluster, resolve_model
from simulator.scenario.schema import PoolSpec
from simulator.scenario.serving_exchange import exchange_share
from simulator.scenario.serving_facts import serving_facts
from simulator.scenario.serving_faults import faults_of
from simulator.scenario.serving_place import Standing, stand
from simulator.scenario.serving_tiers import swap_of, tiers_of
from simulator.scenario.traffic import Traffic, traffic_of
from simulator.serving.policy import Policy, find_policy
from simulator.serving.router import POLICIES
from simulator.topology.cluster import Cluster
from simulator.topology.facts import group_links
from simulator.topology.group import GroupLinks
from simulator.units import parse_time
from simulator.workload.closed_loop import ClosedLoop
from simulator.workload.requests import Requests

PROMPTS_TOGETHER = (1, 4, 16, 64)
"""Numbers of prompts in one step that are tabulated."""
TRANSFER_ENGINE: dict[str, TransferEngine] = {"vllm": "nixl", "sglang": "mooncake-sglang", "tensorrt-llm": "nixl"}
"""What moves KV by default. vLLM's NIXL connector, SGLang's Mooncake backend, TensorRT-LLM's NIXL or UCX (docs of the
three on disaggregated serving, 2025-12)."""
FIRST_TOKEN: dict[str, FirstToken] = {"vllm": "decode", "sglang": "transfer", "tensorrt-llm": "prefill"}
"""Which side answers first, as fleet_spec.FirstToken explains."""


Tables = dict[Hashable, Server]


@dataclass(frozen=True, slots=True)
class _Pool:
    spec: PoolSpec
    standing: Standing
    server: Server
    policy: Policy
    kv_blocks: int


def resolve_serving(entry: Entry, known: Tables | None = None) -> ServingCase:
    """The case that `traffic:` describes, its step-time tables built, or taken from `known`, which gains the new ones:
    variants of a comparison mostly have the same servers. Keep it for one set of measured kernels only.

    Raises ShardsimErrors that name the file, line and field.
    """
    spec = entry.spec
    architecture = resolve_model(entry)
    cluster = resolve_cluster(entry) if spec.nodes is not None else None
    workload = _behind_front_end(traffic_of(entry, architecture))
    requests = workload.requests if isinstance(workload, ClosedLoop) else workload
    specs, prefix = pool_specs(entry)
    _check_pools(entry, specs)
    standings = stand(entry, specs, prefix, cluster)
    engine, policy = _engine(entry)
    clients = workload.concurrency if isinstance(workload, ClosedLoop) else len(requests)
    tables = {} if known is None else known
    pools = tuple(
        _pool(entry, (prefix, i), pool, standing, architecture, engine, policy, requests, clients, tables)
        for i, (pool, standing) in enumerate(zip(specs, standings, strict=True))
    )
    fleet = _fleet(entry, architecture, pools, policy.name, requests)
    limits, window, traffic = spec.slo, spec.trace_window, spec.traffic
    assert traffic is not None
    start_s = parse_time(window.start)
    placed = [(pool.spec, pool.standing, pool.server.setup.layout) for pool in pools]
    return ServingCase(
        name=spec.name, description=spec.description.strip(), fleet=fleet, workload=workload,
        pools=tuple(_facts(entry, pool) for pool in pools),
        slo=Slo(_seconds(limits.ttft), _seconds(limits.tpot), _seconds(limits.e2el), limits.share) if limits else None,
        window_s=(start_s, start_s + parse_time(window.length)), seed=traffic.seed, engine=engine.label,
        rate_per_s=traffic.rate if traffic.arrivals in ("poisson", "gamma", "constant") else None,
        burstiness=traffic.burstiness if traffic.arrivals == "gamma" else 1.0,
        classes=tuple(each.name for each in traffic.classes),
        facts=serving_facts(entry, architecture, placed, requests, engine.label),
    )  # fmt: skip


def _behind_front_end(workload: Traffic) -> Traffic:
    """Requests pass HTTP and the tokeniser before they reach a master; in a closed loop, from when a client sends."""
    if isinstance(workload, ClosedLoop):
        loop = workload.requests
        passed = loop.after_waiting(REQUEST_S + TOKEN_S * loop.input_tokens.astype(np.float64))
        return replace(workload, requests=passed)
    return workload.behind(REQUEST_S + TOKEN_S * workload.input_tokens.astype(np.float64))


def _seconds(text: str | None) -> float | None:
    return None if text is None else parse_time(text)


def _check_pools(entry: Entry, specs: list[PoolSpec]) -> None:
    names = [spec.name for spec in specs]
    for index, name in enumerate(names):
        if name in names[:index]:
            where = entry.document.where(("pools", index, "name"))
            raise ScenarioError(where=where, given=repr(name), rule="is the name of two pools", way_out="rename one")
    roles = {spec.role for spec in specs}
    if ("prefill" in roles) != ("decode" in roles):
        missing = "decode" if "prefill" in roles else "prefill"
        raise ScenarioError(
            where=entry.document.where(("pools",)), given=f"roles {', '.join(sorted(roles))}",
            rule="prefill and decode pools need each other", way_out=f"add a pool of role {missing}",
        )  # fmt: skip


# ---- servers ----------------------------------------------------------------------------------------------------


def _engine(entry: Entry) -> tuple[EngineProfile, Policy]:
    """Profile and scheduler with what `serving:` says laid over."""
    found = engine_of(entry) or find_engine("vLLM")
    key = {"vllm": "vllm", "sglang": "sglang"}.get(found.name.lower(), "tensorrt-llm")
    told, own = entry.spec.serving, find_policy(key)
    drafted = _speculation(entry)
    try:
        policy = replace(
            own, max_batched_tokens=told.max_batched_tokens or own.max_batched_tokens,
            max_sequences=told.max_sequences or own.max_sequences,
            chunked=own.chunked if told.chunked is None else told.chunked,
            poll_steps=told.poll_steps or own.poll_steps, preempt=told.preempt or own.preempt,
            together_steps=own.together_steps if told.together_steps is None else told.together_steps,
            draft_tokens=drafted.tokens if drafted else 0,
            tokens_per_step=drafted.tokens_per_step if drafted else 1.0,
        )  # fmt: skip
    except ScenarioError as error:
        raise error.at(f"{entry.document.where(('serving',))}") from None
    profile = replace(found, launch_s=PROMPT_OP_S[key], memory_share=told.memory_share or found.memory_share)
    return profile, policy


def _speculation(entry: Entry) -> Speculation | None:
    told = entry.spec.serving.speculation
    return Speculation(told.tokens, told.acceptance, told.draft_share) if told else None


def _pool(
    entry: Entry, place: tuple[str, int], spec: PoolSpec, standing: Standing, architecture: Architecture,
    engine: EngineProfile, policy: Policy, requests: Requests, clients: int, tables: Tables,
) -> _Pool:  # fmt: skip
    keys = ("pools", place[1], "layout") if place[0] == "pools" else ("layout",)
    layout = replace(check_pool_layout(entry, spec, keys, architecture), dp=1)
    asked = "skew" in entry.spec.experts.model_fields_set
    skew = entry.spec.experts.skew if asked else ROUTING_SKEW
    told = entry.spec.experts
    setup = Setup(
        architecture, layout, standing.cluster.device(standing.gpus[0][0]), _links(standing, layout), engine,
        Options(told.dispatch, told.combine, skew, told.kernel),
    )  # fmt: skip
    longest = int((requests.input_tokens + requests.output_tokens).max())
    sequences = min(policy.max_sequences, clients)
    chunk = min(policy.max_batched_tokens, int(requests.input_tokens.max()) * clients)
    options = TableOptions(
        chunk + sequences, sequences, longest, prefill_counts=PROMPTS_TOGETHER, expert_skews=(skew,),
        speculation=_speculation(entry), prompt_skew=0.0 if asked else prompt_skew(setup.layout.ep),
    )  # fmt: skip
    try:
        server = _server(setup, options, tables)
        blocks = memory_for(server, policy, longest).capacity
        if blocks * policy.block_tokens < longest:
            raise LayoutError(
                given=f"{blocks * policy.block_tokens} tokens of KV a rank",
                rule=f"the longest request has {longest}", way_out="use more GPUs, or kv_cache: fp8",
            )  # fmt: skip
    except ShardsimError as error:
        raise error.at(f"{entry.document.where(keys)}: ") from None
    return _Pool(spec, standing, server, policy, blocks)


def _server(setup: Setup, options: TableOptions, tables: Tables) -> Server:
    """Built once for all pools that are alike in whatever a step's time depends on."""
    axes = ("tp", "ep", "pp", "cp", "dp_attention", "moe_tp")
    links = tuple(setup.links((axis,)) for axis in axes)
    engine = (setup.engine.label, setup.engine.memory_share)
    key = (setup.architecture, setup.layout, setup.device.name, links, engine, setup.program, options)
    if key not in tables:
        tables[key] = Server(setup, build_table(setup, options), kv_memory_bytes(setup))
    return tables[key]


def _links(standing: Standing, layout: Layout) -> Callable[[tuple[str, ...]], GroupLinks]:
    """Link facts along mesh axes: of the group that is spread over most nodes, as all wait for it."""
    gpus = standing.gpus[0]

    def links(axes: tuple[str, ...]) -> GroupLinks:
        groups = {tuple(gpus[rank] for rank in group) for group in layout.groups(axes)}
        return max((group_links(standing.cluster, group) for group in sorted(groups)), key=lambda found: found.nodes)

    return links


# ---- the fleet ----------------------------------------------------------------------------------------------------


def _fleet(entry: Entry, architecture: Architecture, pools: tuple[_Pool, ...], key: str, requests: Requests) -> Fleet:
    told, moved = entry.spec.masters, entry.spec.transfer
    if told.policy not in POLICIES:
        raise ScenarioError(
            where=entry.document.where(("masters", "policy")), given=repr(told.policy),
            rule=f"is none of {', '.join(POLICIES)}", way_out="use one of these",
        )  # fmt: skip
    masters = tuple(
        MasterSpec(f"master{i}", told.policy, parse_time(told.dispatch), parse_time(told.refresh), told.max_waiting)
        for i in range(told.count)
    )
    replicas = tuple(spec for pool in pools for spec in _replicas(entry, pool, requests))
    faults, rates = faults_of(entry, [(pool.spec, pool.standing) for pool in pools], len(masters))
    return Fleet(
        replicas, masters, _transfer(entry, architecture, pools, key), faults, rates, parse_time(told.heartbeat),
        moved.local_below,
    )  # fmt: skip


def _replicas(entry: Entry, pool: _Pool, requests: Requests) -> list[ReplicaSpec]:
    wanted = entry.spec.serving.prefix_cache
    shares = bool(requests.prefixes) if wanted is None else wanted
    layout, standing = pool.server.setup.layout, pool.standing
    table = pool.server.table
    step_time = Pipelined(table) if layout.pp > 1 else table
    share = 0.0
    if pool.spec.role != "mixed":
        context = max(1, int(requests.input_tokens.mean()))
        over_nvlink = standing.cluster.nodes == 1
        prefill = pool.spec.role == "prefill"
        share = exchange_share(pool.server, pool.policy, context, prefill=prefill, shared_links=over_nvlink)
    prefix_tokens = requests.prefix_tokens if shares else 0
    # Prompts alone use a prefix cache; a decode replica's KV comes from elsewhere.
    tiers = tiers_of(entry, pool.server, prefix_tokens) if pool.spec.role != "decode" else ()
    return [
        ReplicaSpec(
            name, step_time, pool.policy, pool.kv_blocks, pool.spec.role, pool.spec.name, layout.dp_attention,
            layout.ranks, standing.nodes(gpus), _nic_bytes_per_s(pool) * layout.ranks,
            prefix_tokens, tiers, *swap_of(entry, pool.server, pool.policy.block_tokens), share,
        )
        for name, gpus in zip(standing.names, standing.gpus, strict=True)
    ]  # fmt: skip


def _nic_bytes_per_s(pool: _Pool) -> float:
    """One GPU's way to other replicas: its NICs, or its NVLinks where the cluster is a single scale-up domain."""
    device, cluster = pool.server.setup.device, pool.standing.cluster
    if cluster.nodes == 1 and device.nvlink_bytes_per_s:
        return device.nvlink_bytes_per_s
    return device.nic_bytes_per_s or device.pcie_bytes_per_s


def _transfer(entry: Entry, architecture: Architecture, pools: tuple[_Pool, ...], key: str) -> TransferSpec | None:
    senders = [pool for pool in pools if pool.spec.role == "prefill"]
    if not senders:
        return None
    told, layout, cluster = entry.spec.transfer, senders[0].server.setup.layout, senders[0].standing.cluster

    @lru_cache(maxsize=1 << 16)
    def kv_bytes(tokens: int) -> float:
        return sum(
            kv_cache_bytes(architecture, layout, stage, (tokens,)) * layout.tp * layout.cp for stage in range(layout.pp)
        )

    usual = "before_prefill" if key == "sglang" else "before_transfer"
    return TransferSpec(
        kv_bytes, len(architecture.layers), told.engine or TRANSFER_ENGINE[key],
        cluster.network if cluster.nodes > 1 else "none", _latency_s(senders[0], cluster), told.when == "layerwise",
        told.reserve or usual, entry.spec.serving.first_token or FIRST_TOKEN[key],  # type: ignore[arg-type]
    )  # fmt: skip


def _latency_s(pool: _Pool, cluster: Cluster) -> float:
    """One message from a GPU of the pool to one of another node; within a node where there is only one."""
    first = pool.standing.gpus[0][0]
    others = [gpu for gpu in range(cluster.gpus) if cluster.gpu_node[gpu] != cluster.gpu_node[first]]
    if others:
        return group_links(cluster, (first, others[0])).network_latency_s
    other = next((gpu for gpu in range(cluster.gpus) if gpu != first), None)
    return 0.0 if other is None else group_links(cluster, (first, other)).scale_up_latency_s


def _facts(entry: Entry, pool: _Pool) -> PoolFacts:
    setup, told = pool.server.setup, entry.spec.prices
    try:
        usd, source = price_of(setup.device, told.kind, told.usd_per_gpu_hour)
    except ShardsimError as error:
        raise error.at(f"{entry.document.where(('prices',))}: ") from None
    return PoolFacts(
        pool.spec.name, pool.spec.role, setup, len(pool.standing.gpus), setup.layout.ranks, pool.kv_blocks,
        pool.policy.block_tokens, usd, source,
    )  # fmt: skip
