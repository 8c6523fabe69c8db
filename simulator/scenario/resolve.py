"""From a checked scenario to the deployment it stands for: model, cluster, pools, workload."""

from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from simulator.cost.engine_profile import EngineProfile, find_engine
from simulator.engine.deployment import Deployment, LinkFault, Numbers, Pool, StepWorkload
from simulator.errors import LayoutError, ScenarioError, ShardsimError
from simulator.model.architecture import Architecture, Quantization
from simulator.model.catalogue import find_model
from simulator.model.from_config import load_config
from simulator.model.quantization import override, with_precision
from simulator.parallel.layout import Layout
from simulator.program.frame import Options
from simulator.program.legality import check_layout
from simulator.scenario.document import Keys
from simulator.scenario.facts import describe
from simulator.scenario.load import Entry
from simulator.scenario.placement import place_pools
from simulator.scenario.schema import FaultSpec as LinkFaultSpec
from simulator.scenario.schema import LayoutSpec, PoolSpec
from simulator.scenario.topology_file import load_topology
from simulator.topology.cluster import Cluster
from simulator.units import parse_time


def resolve(entry: Entry) -> Deployment:
    """The deployment a scenario describes.

    Raises ModelError, TopologyError, LayoutError or ScenarioError that name the file, line and field.
    """
    spec = entry.spec
    architecture = resolve_model(entry)
    cluster = resolve_cluster(entry)
    pools = _pools(entry, architecture, cluster)
    workload, engine = _workload(entry, architecture), engine_of(entry)
    return Deployment(
        name=spec.name,
        description=spec.description.strip(),
        architecture=architecture,
        cluster=cluster,
        pools=pools,
        workload=workload,
        numbers=_numbers(entry, architecture),
        options=Options(spec.experts.dispatch, spec.experts.combine, spec.experts.skew, spec.experts.kernel),
        algorithms={str(kind): name for kind, name in spec.collectives.algorithms.items()},
        fidelity=spec.collectives.fidelity,
        faults=_faults(entry, cluster),
        memory_margin=spec.memory_margin,
        engine=engine,
        facts=describe(spec, architecture, cluster, pools, workload) | ({"Engine": engine.label} if engine else {}),
    )


def engine_of(entry: Entry) -> EngineProfile | None:
    """The profile that `engine:` names; None where it is left out. Raises ScenarioError with the field's place."""
    told = entry.spec.engine
    if told is None:
        return None
    try:
        return find_engine(told.name, told.version)
    except ShardsimError as error:
        raise ScenarioError(
            where=entry.document.where(("engine",)), given=error.given, rule=error.rule, way_out=error.way_out
        ) from None


def resolve_model(entry: Entry) -> Architecture:
    """The model by its name in the catalogue or its config.json, in the precision asked for."""
    given, where = entry.spec.model, entry.document.where(("model",))
    path = _beside(entry, given)
    is_file = path.exists() or Path(given).suffix == ".json"
    try:
        architecture = load_config(path) if is_file else find_model(given)
    except ShardsimError as error:
        raise _within(error, where) from None
    return replace(architecture, quantization=_quantization(entry, architecture.quantization))


def _beside(entry: Entry, given: str) -> Path:
    """A path in a scenario is told from its file; one that is only found from here came with --set."""
    path, here = entry.folder / given, Path(given)
    return here if given and not path.exists() and here.exists() else path


def _within(error: ShardsimError, where: str) -> ShardsimError:
    """The error, told from the scenario's field; a bare field name inside it would repeat that."""
    if error.where and error.where not in ("model", "topology"):
        return error.at(f"{where}: ")
    return type(error)(given=error.given, rule=error.rule, way_out=error.way_out, where=where)


def _quantization(entry: Entry, own: Quantization) -> Quantization:
    precision = entry.spec.precision
    match precision:
        case None:
            return own
        case str():
            return with_precision(own, precision)
        case _:
            return override(own, **{k: v for k, v in precision.model_dump().items() if v is not None})


def resolve_cluster(entry: Entry) -> Cluster:
    """The cluster by the name of a shipped topology or the path of one."""
    return load_beside(entry, entry.spec.topology, ("topology",), entry.spec.nodes)


def load_beside(entry: Entry, given: str, keys: Keys, nodes: int | None) -> Cluster:
    """A topology by its name or its path from the scenario, with so many nodes; told from the field `keys`."""
    where, path = entry.document.where(keys), _beside(entry, given)
    try:
        return load_topology(path if path.is_file() else given, nodes)
    except ShardsimError as error:
        raise _within(error, where) from None


def pool_specs(entry: Entry) -> tuple[list[PoolSpec], str]:
    """The pools, and whether they stand under `pools` or are the one of `layout`."""
    spec = entry.spec
    if spec.layout is not None and spec.pools:
        raise ScenarioError(
            where=entry.document.where(("layout",)),
            given="",
            rule="a scenario has either `layout` or `pools`",
            way_out="`layout` is short for one pool of role mixed",
        )
    return (
        (spec.pools, "pools")
        if spec.pools
        else ([PoolSpec(name="pool", role="mixed", layout=spec.layout or LayoutSpec(), gpus=None)], "layout")
    )


def _pools(entry: Entry, architecture: Architecture, cluster: Cluster) -> tuple[Pool, ...]:
    specs, prefix = pool_specs(entry)
    _check_roles(entry, specs)
    placed = place_pools(specs, cluster, entry.document, prefix)
    pools = []
    for index, (spec, gpus) in enumerate(zip(specs, placed, strict=True)):
        keys: Keys = ("pools", index, "layout") if prefix == "pools" else ("layout",)
        pools.append(Pool(spec.name, spec.role, check_pool_layout(entry, spec, keys, architecture), gpus))
    return tuple(pools)


def check_pool_layout(entry: Entry, spec: PoolSpec, keys: Keys, architecture: Architecture) -> Layout:
    """A pool's layout, legal for the model; LayoutError names the field."""
    fields = spec.layout.model_dump()
    try:
        layout = Layout(**{**fields, "rank_order": tuple(fields["rank_order"])})
        check_layout(architecture, layout)
    except LayoutError as error:
        step = error.where.split(".", maxsplit=1)[0]
        named = (*keys, error.where) if step in fields else keys
        raise LayoutError(
            where=entry.document.where(named), given=error.given, rule=error.rule, way_out=error.way_out
        ) from None
    return layout


def _check_roles(entry: Entry, specs: list[PoolSpec]) -> None:
    roles = [spec.role for spec in specs]
    if roles != ["mixed"] and sorted(roles) != ["decode", "prefill"]:
        raise ScenarioError(
            where=entry.document.where(("pools",)),
            given=f"roles {', '.join(roles)}",
            rule="pools are one of role mixed, or one of role prefill and one of role decode",
            way_out="set pools[i].role",
        )
    names = [spec.name for spec in specs]
    if len(set(names)) < len(names):
        raise ScenarioError(
            where=entry.document.where(("pools",)),
            given=repr(names[0]),
            rule="is the name of two pools",
            way_out="set pools[i].name",
        )


def _workload(entry: Entry, architecture: Architecture) -> StepWorkload:
    spec = entry.spec.workload
    if spec is None:
        raise ScenarioError(
            where=entry.document.where(()) or entry.document.file, given="traffic only",
            rule="has no `workload`, so there is no step to look at",
            way_out="add workload: {sequences: ..., prompt_tokens: ..., decode_steps: ...}",
        )  # fmt: skip
    longest = spec.prompt_tokens + spec.decode_steps
    if longest > architecture.max_position:
        raise ScenarioError(
            where=entry.document.where(("workload", "prompt_tokens")),
            given=f"{spec.prompt_tokens} + {spec.decode_steps} tokens",
            rule=f"{architecture.name} has max_position_embeddings = {architecture.max_position}",
            way_out="use shorter prompts",
        )
    return StepWorkload(spec.sequences, spec.prompt_tokens, spec.decode_steps, spec.spread, spec.seed)


def _numbers(entry: Entry, architecture: Architecture) -> Numbers:
    spec = entry.spec.numbers
    wrong = [layer for layer in spec.layers if layer >= len(architecture.layers)]
    if wrong:
        raise ScenarioError(
            where=entry.document.where(("numbers", "layers")),
            given=str(wrong[0]),
            rule=f"{architecture.name} has layers 0 to {len(architecture.layers) - 1}",
            way_out="leave `layers` out to keep one of each kind",
        )
    return Numbers(
        enabled=spec.enabled,
        prompt_lengths=tuple(spec.prompt_lengths),
        decode_steps=spec.decode_steps,
        dtypes=tuple(spec.dtypes),
        layers=tuple(spec.layers),
        seed=spec.seed,
        checkpoint=_checkpoint(entry),
    )


def _checkpoint(entry: Entry) -> str:
    given = entry.spec.numbers.checkpoint
    path = _beside(entry, given)
    if given and not path.exists():
        where = entry.document.where(("numbers", "checkpoint"))
        raise ScenarioError(
            where=where, given=given, rule=f"no such file or folder ({path})", way_out="mind the folder"
        )
    return str(path) if given else ""


def _faults(entry: Entry, cluster: Cluster) -> tuple[LinkFault, ...]:
    """Links named by their ends, found in the cluster."""
    specs = [(i, spec) for i, spec in enumerate(entry.spec.faults) if isinstance(spec, LinkFaultSpec)]
    if specs and entry.spec.collectives.fidelity != "flow":
        raise ScenarioError(
            where=entry.document.where(("faults",)),
            given=f"fidelity {entry.spec.collectives.fidelity}",
            rule="faults are seen by fidelity flow only",
            way_out="set collectives.fidelity: flow",
        )
    links: dict[tuple[str, str], int] = {}
    if specs:
        ends = zip(cluster.link_source.tolist(), cluster.link_destination.tolist(), strict=True)
        links = {(cluster.vertex_name(a), cluster.vertex_name(b)): link for link, (a, b) in enumerate(ends)}
    found = []
    for index, spec in specs:
        link = links.get((spec.source, spec.destination))
        if link is None:
            near = get_close_matches(f"{spec.source} {spec.destination}", [" ".join(key) for key in links], n=1)
            raise ScenarioError(
                where=entry.document.where(("faults", index)),
                given=f"{spec.source} to {spec.destination}",
                rule=f"is no link of {cluster.name}",
                way_out=f"did you mean from: {near[0].replace(' ', ', to: ')}?" if near else "name its two ends",
            )
        found.append(LinkFault(link, parse_time(spec.at), spec.factor))
    return tuple(found)
