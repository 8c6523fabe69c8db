"""From a plan's file to its question."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from simulator.cost.table import Speculation
from simulator.errors import ScenarioError, ShardsimError
from simulator.model.architecture import Architecture
from simulator.model.catalogue import find_model
from simulator.model.from_config import load_config
from simulator.planning.platforms import platform_from_cluster, platform_from_device
from simulator.planning.prices import default_price
from simulator.planning.question import Platform, Question, Space, Traffic, repeated_share, trace_rate
from simulator.planning.result import Slo
from simulator.scenario.document import Document, Keys, read_document
from simulator.scenario.load import find_scenario
from simulator.scenario.overrides import apply_settings
from simulator.scenario.plan_schema import HardwareSpec, PlanSpec, PlanTrafficSpec, StoredSpec
from simulator.scenario.told import checked
from simulator.scenario.topology_file import load_topology
from simulator.units import parse_bandwidth, parse_time
from simulator.workload import Requests, read_azure_csv, read_burstgpt_csv, read_mooncake_jsonl

TRACES = {"azure": read_azure_csv, "mooncake": read_mooncake_jsonl, "burstgpt": read_burstgpt_csv}


@dataclass(frozen=True, slots=True)
class PlanEntry:
    """A plan's spec, and the document that error messages point into."""

    spec: PlanSpec
    document: Document

    def at(self, *keys: str | int) -> str:
        """Where a field stands, for messages."""
        path: Keys = keys
        return self.document.where(path)

    def beside(self, given: str) -> Path:
        """A path in the file is told from the file; one that is only found from here came with --set."""
        path, here = Path(self.document.file).parent / given, Path(given)
        return here if not path.exists() and here.exists() else path


def load_plan(path_or_name: str | Path, settings: Sequence[str] = ()) -> PlanEntry:
    """The checked content of a plan's file with `path=value` overrides laid over it. Raises ScenarioError."""
    path = find_scenario(path_or_name)
    document = read_document(path)
    apply_settings(document, list(settings))
    if "objective" not in document.values and "layout" in document.values:
        raise ScenarioError(
            where=str(path), given="", rule="is a scenario, not a plan", way_out=f"use shardsim run {path_or_name}"
        )
    spec = checked(PlanSpec, document)
    return PlanEntry(spec if spec.name else spec.model_copy(update={"name": path.stem}), document)


def plan_schema_json() -> dict[str, Any]:
    """JSON schema of plan files, for editors."""
    schema = TypeAdapter(PlanSpec).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "shardsim plan", **schema}


def resolve_plan(entry: PlanEntry) -> Question:
    """The question that a plan's file asks. Raises ShardsimErrors that name file, line and field."""
    spec = entry.spec
    model = _model(entry)
    platforms = tuple(_platform(entry, index, one) for index, one in enumerate(spec.hardware))
    _check_names(entry, platforms)
    traffic = _traffic(entry, model)
    if spec.objective == "min_gpus" and traffic.requests_per_s is None:
        raise ScenarioError(
            where=entry.at("traffic"), given="no requests_per_s", rule="min_gpus needs a load to serve",
            way_out="give traffic.requests_per_s, or use objective: max_load",
        )  # fmt: skip
    if spec.objective == "min_cost" and any(p.usd_per_gpu_hour is None for p in platforms):
        index = next(i for i, p in enumerate(platforms) if p.usd_per_gpu_hour is None)
        raise ScenarioError(
            where=entry.at("hardware", index), given=platforms[index].name, rule="has no price",
            way_out="give usd_per_gpu_hour",
        )  # fmt: skip
    slo = spec.slo
    return Question(
        spec.name, spec.description.strip(), spec.model, model, traffic,
        Slo(_seconds(slo.ttft), _seconds(slo.tpot), _seconds(slo.e2el), slo.percentile), platforms, spec.objective,
        _space(spec), spec.max_gpus or max(p.max_gpus for p in platforms), spec.confirm, spec.router,
        _speculation(spec, model), spec.two_batch_overlap,
    )  # fmt: skip


def _speculation(spec: PlanSpec, model: Architecture) -> Speculation | None:
    draft = spec.speculation
    if draft is None:
        return None
    share = 1.0 / len(model.layers) if draft.draft_share is None else draft.draft_share
    return Speculation(draft.tokens, draft.acceptance, share)


def _seconds(given: str | None) -> float | None:
    return None if given is None else parse_time(given)


def _told(error: ShardsimError, where: str) -> ShardsimError:
    return type(error)(given=error.given, rule=error.rule, way_out=error.way_out, where=where)


def _model(entry: PlanEntry) -> Architecture:
    given = entry.spec.model
    path = entry.beside(given)
    try:
        return load_config(path) if path.is_file() or Path(given).suffix == ".json" else find_model(given)
    except ShardsimError as error:
        raise _told(error, entry.at("model")) from None


def _platform(entry: PlanEntry, index: int, spec: HardwareSpec) -> Platform:
    where = entry.at("hardware", index)
    if (spec.topology is None) == (spec.gpu is None):
        raise ScenarioError(where=where, given="", rule="names either a topology or a gpu")
    if spec.topology is not None and (spec.gpus_per_node or spec.nic):
        raise ScenarioError(
            where=where, given="gpus_per_node, nic", rule="belong to `gpu`; a topology has its own",
            way_out="leave them out, or give a topology file",
        )  # fmt: skip
    try:
        platform = _facts(entry, spec)
    except ShardsimError as error:
        raise _told(error, where) from None
    if spec.usd_per_gpu_hour is not None:
        return replace(platform, usd_per_gpu_hour=spec.usd_per_gpu_hour, price_source="user")
    found = default_price(platform.device.name)
    return platform if found is None else replace(platform, usd_per_gpu_hour=found[0], price_source=found[1])


def _facts(entry: PlanEntry, spec: HardwareSpec) -> Platform:
    if spec.topology is not None:
        path = entry.beside(spec.topology)
        source = path if path.is_file() else spec.topology
        one = load_topology(source, None)
        # Two nodes show the network; a file of one explicit node has none.
        cluster = one if one.shape is None else load_topology(source, max(2, one.nodes))
        return platform_from_cluster(one.name, cluster, spec.max_gpus)
    nic = parse_bandwidth(spec.nic) if spec.nic else 0.0
    return platform_from_device(spec.gpu or "", spec.max_gpus, spec.gpus_per_node or 0, nic)


def _check_names(entry: PlanEntry, platforms: tuple[Platform, ...]) -> None:
    names = [platform.name for platform in platforms]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ScenarioError(where=entry.at("hardware", index), given=name, rule="is named twice")


def _traffic(entry: PlanEntry, model: Architecture) -> Traffic:
    spec = entry.spec.traffic
    trace = None if spec.trace is None else _trace(entry, spec)
    given, asked = spec.input_tokens, spec.output_tokens
    if trace is not None:
        given, asked = int(trace.input_tokens.max()), int(trace.output_tokens.max())
    if given is None or asked is None:
        missing = "input_tokens" if given is None else "output_tokens"
        raise ScenarioError(
            where=entry.at("traffic"), given=f"no {missing}", rule="is needed", way_out="give it, or a trace"
        )
    if given + asked > model.max_position:
        raise ScenarioError(
            where=entry.at("traffic", "input_tokens"), given=f"{given} + {asked} tokens",
            rule=f"{model.name} has max_position_embeddings = {model.max_position}", way_out="use shorter requests",
        )  # fmt: skip
    rate = spec.requests_per_s
    if rate is None and trace is not None and entry.spec.objective in ("min_gpus", "min_cost"):
        rate = trace_rate(trace)
    if spec.cached_share and trace is not None and trace.prefixes:
        raise ScenarioError(
            where=entry.at("traffic", "cached_share"), given=str(spec.cached_share), rule="is the trace's own to say",
            way_out="leave it out: the trace names the blocks that its prompts share",
        )  # fmt: skip
    share = spec.cached_share if trace is None else spec.cached_share or repeated_share(trace)
    return Traffic(rate, given, asked, spec.range_ratio, spec.burstiness, trace, spec.seed, share, spec.trace or "")


def _trace(entry: PlanEntry, spec: PlanTrafficSpec) -> Requests:
    where = entry.at("traffic", "trace")
    for name in ("input_tokens", "output_tokens"):
        if getattr(spec, name) is not None:
            raise ScenarioError(where=entry.at("traffic", name), given=name, rule="is the trace's own")
    path = entry.beside(spec.trace or "")
    try:
        trace = TRACES[spec.trace_format](path, longest=spec.longest_tokens, drop=spec.longest_tokens > 0)
        trace_rate(trace)
    except ShardsimError as error:
        raise _told(error, where) from None
    return trace


def _space(spec: PlanSpec) -> Space:
    s = spec.space
    return Space(
        tuple(_pair(stored) for stored in spec.precisions), tuple(spec.engines), tuple(s.modes), tuple(s.tp),
        tuple(s.pp), tuple(s.dp_attention), tuple(s.ep), tuple(s.cp), s.tp_across_nodes, tuple(s.max_sequences),
        tuple(s.max_batched_tokens), s.most_replica_gpus,
    )  # fmt: skip


def _pair(stored: StoredSpec) -> tuple[str, str]:
    return stored.weights, "" if stored.kv_cache == "checkpoint" else stored.kv_cache
