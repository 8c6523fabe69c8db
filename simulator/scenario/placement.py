"""Which GPUs a pool gets."""

import re

from simulator.errors import LayoutError, ScenarioError
from simulator.scenario.document import Document
from simulator.scenario.schema import PoolSpec
from simulator.topology.cluster import Cluster

_RANGE = re.compile(r"^\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?$")


def parse_gpus(given: list[int | str] | str, where: str, limit: int) -> tuple[int, ...]:
    """GPU indices from "0-3, 8", or a list of numbers and ranges; ScenarioError for anything else.

    >>> parse_gpus(["0-2", 5], "", 8)
    (0, 1, 2, 5)
    """
    parts = given.split(",") if isinstance(given, str) else given
    found: list[int] = []
    for part in parts:
        match = _RANGE.match(str(part))
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if first > last:
            raise ScenarioError(
                where=where,
                given=repr(part),
                rule="is no GPU and no range of GPUs",
                way_out='write e.g. "0-7" or [0, 1]',
            )
        if last >= limit:
            raise ScenarioError(
                where=where,
                given=str(part),
                rule=f"the cluster has GPUs 0 to {limit - 1}",
                way_out="use other GPUs, or more nodes",
            )
        found += range(first, last + 1)
    return tuple(found)


def place_pools(
    pools: list[PoolSpec], cluster: Cluster, document: Document, prefix: str = "pools"
) -> list[tuple[int, ...]]:
    """GPUs of each pool, rank by rank: as named, or the next free ones. Refuses overlaps and too few GPUs."""
    owner: dict[int, str] = {}
    placed: list[tuple[int, ...] | None] = []
    for index, pool in enumerate(pools):
        gpus = None if pool.gpus is None else _named(pool, cluster, document.where((prefix, index, "gpus")), owner)
        placed.append(gpus)
    free = iter([gpu for gpu in range(cluster.gpus) if gpu not in owner])
    left = cluster.gpus - len(owner)
    result = []
    for index, (pool, gpus) in enumerate(zip(pools, placed, strict=True)):
        if gpus is None:
            keys = (prefix, index, "layout") if prefix == "pools" else ("layout",)
            _check_enough(pool, left, cluster, document.where(keys))
            left -= pool.layout.ranks
            gpus = tuple(next(free) for _ in range(pool.layout.ranks))
        result.append(gpus)
    return result


def _named(pool: PoolSpec, cluster: Cluster, where: str, owner: dict[int, str]) -> tuple[int, ...]:
    assert pool.gpus is not None
    gpus = parse_gpus(pool.gpus, where, cluster.gpus)
    if len(gpus) != pool.layout.ranks:
        raise LayoutError(
            where=where,
            given=f"{len(gpus)} GPUs",
            rule=f"the layout of pool {pool.name!r} has {pool.layout.ranks} ranks",
            way_out=f"name {pool.layout.ranks} GPUs, or leave `gpus` out",
        )
    for gpu in gpus:
        if gpu in owner:
            raise ScenarioError(
                where=where,
                given=f"GPU {gpu}",
                rule=f"is named twice (pool {owner[gpu]!r})",
                way_out="pools must not share GPUs",
            )
        owner[gpu] = pool.name
    return gpus


def _check_enough(pool: PoolSpec, left: int, cluster: Cluster, where: str) -> None:
    if pool.layout.ranks <= left:
        return
    per_node = cluster.gpus // cluster.nodes
    needed = -(-(cluster.gpus - left + pool.layout.ranks) // per_node)
    raise LayoutError(
        where=where,
        given=f"{pool.layout.ranks} ranks",
        rule=f"{left} of the {cluster.gpus} GPUs of {cluster.name} (nodes: {cluster.nodes}) are free",
        way_out=f"set nodes: {needed}, or use a smaller layout",
    )
