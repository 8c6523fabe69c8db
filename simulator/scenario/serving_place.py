"""Where the replicas of a scenario with traffic stand."""

from dataclasses import dataclass

from simulator.errors import LayoutError, ScenarioError, ShardsimError
from simulator.scenario.load import Entry
from simulator.scenario.placement import parse_gpus
from simulator.scenario.resolve import load_beside
from simulator.scenario.schema import PoolSpec
from simulator.topology.cluster import Cluster


@dataclass(frozen=True, slots=True)
class Standing:
    """A pool's replicas: their names, and their GPUs in `cluster`."""

    cluster: Cluster
    names: tuple[str, ...]
    gpus: tuple[tuple[int, ...], ...]
    prefix: str = ""
    """Of node names, where a pool stands on machines of its own."""

    def nodes(self, gpus: tuple[int, ...]) -> tuple[str, ...]:
        """Names of the nodes that these GPUs stand in: node0, node1, ..."""
        return tuple(f"{self.prefix}node{n}" for n in sorted({int(self.cluster.gpu_node[gpu]) for gpu in gpus}))


def stand(entry: Entry, specs: list[PoolSpec], prefix: str, cluster: Cluster | None) -> list[Standing]:
    """GPUs of every replica, pool by pool: as named, or the next free ones; a replica that fits a node gets one.

    Without `cluster` (the scenario says no number of nodes) it has as many nodes as its pools need. Raises
    ScenarioError or LayoutError with the field's place.
    """
    shared = [i for i, spec in enumerate(specs) if spec.topology is None]
    found: dict[int, Standing] = {}
    if shared:
        base = cluster or _sized(entry, ("topology",), entry.spec.topology, [specs[i] for i in shared])
        taken: set[int] = set()
        for i in shared:
            keys = ("pools", i) if prefix == "pools" else ()
            found[i] = Standing(base, _names(specs[i]), _gpus(entry, specs[i], keys, base, taken))
    for i, spec in enumerate(specs):
        if spec.topology is not None:
            own = _sized(entry, ("pools", i, "topology"), spec.topology, [spec], spec.nodes)
            gpus = _gpus(entry, spec, ("pools", i), own, set())
            found[i] = Standing(own, _names(spec), gpus, f"{spec.name}-")
    return [found[i] for i in range(len(specs))]


def _count(spec: PoolSpec) -> int:
    return spec.replicas * spec.layout.dp


def _size(spec: PoolSpec) -> int:
    return spec.layout.ranks // spec.layout.dp


def _names(spec: PoolSpec) -> tuple[str, ...]:
    return tuple(f"{spec.name}{i}" for i in range(_count(spec)))


def _sized(
    entry: Entry, keys: tuple[str | int, ...], topology: str, specs: list[PoolSpec], nodes: int | None = None
) -> Cluster:
    """The topology with so many nodes, or as many as these pools need."""
    one = load_beside(entry, topology, keys, nodes)
    if nodes is not None or any(spec.gpus is not None for spec in specs):
        return one
    per_node, free, count = one.gpus // one.nodes, 0, 0
    for spec in specs:
        for _ in range(_count(spec)):
            if _size(spec) > per_node or free < _size(spec):
                count += -(-_size(spec) // per_node)
                free = -_size(spec) % per_node
            else:
                free -= _size(spec)
    if count <= one.nodes:
        return one
    try:
        return load_beside(entry, topology, keys, count)
    except ShardsimError as error:
        raise LayoutError(
            where=entry.document.where(keys), given=f"{count} nodes of {topology}", rule=str(error),
            way_out="use fewer replicas, or another topology",
        ) from None  # fmt: skip


def _gpus(
    entry: Entry, spec: PoolSpec, keys: tuple[str | int, ...], cluster: Cluster, taken: set[int]
) -> tuple[tuple[int, ...], ...]:
    size, count = _size(spec), _count(spec)
    if spec.gpus is not None:
        where = entry.document.where((*keys, "gpus"))
        named = parse_gpus(spec.gpus, where, cluster.gpus)
        if len(named) != size * count:
            raise LayoutError(
                where=where, given=f"{len(named)} GPUs", rule=f"{count} replicas have {size} ranks each",
                way_out=f"name {size * count} GPUs, or leave `gpus` out",
            )  # fmt: skip
        twice = [gpu for gpu in named if gpu in taken] or [g for i, g in enumerate(named) if g in named[:i]]
        if twice:
            raise ScenarioError(
                where=where, given=f"GPU {twice[0]}", rule="is named twice", way_out="pools must not share GPUs"
            )
        taken.update(named)
        return tuple(tuple(named[i * size : (i + 1) * size]) for i in range(count))
    return tuple(_next(entry, spec, keys, cluster, taken) for _ in range(count))


def _next(
    entry: Entry, spec: PoolSpec, keys: tuple[str | int, ...], cluster: Cluster, taken: set[int]
) -> tuple[int, ...]:
    """The first free GPUs that stand together: in one node, or in nodes of their own."""
    size, per_node = _size(spec), cluster.gpus // cluster.nodes
    wanted = -(-size // per_node)
    for first in range(cluster.nodes - wanted + 1):
        free = [
            gpu for gpu in range(first * per_node, (first + wanted) * per_node) if gpu not in taken
        ]  # fmt: skip
        if len(free) >= size and (wanted == 1 or len(free) == wanted * per_node):
            gpus = tuple(free[:size])
            taken.update(gpus)
            return gpus
    raise LayoutError(
        where=entry.document.where((*keys, "replicas") if keys else ("layout",)),
        given=f"{_count(spec)} replicas of {size} GPUs",
        rule=f"{cluster.gpus - len(taken)} of the {cluster.gpus} GPUs of {cluster.name} (nodes: {cluster.nodes}) are "
        "free, and a replica that fits a node gets one", way_out="set more nodes, or leave `nodes` out",
    )  # fmt: skip
