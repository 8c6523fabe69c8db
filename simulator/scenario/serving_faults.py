"""From `faults:` to what fails in the fleet; parts are named by replica, node, GPU or master."""

from collections.abc import Sequence
from difflib import get_close_matches
from math import inf

from simulator.engine.fleet_spec import FaultKind, FaultRate, FaultSpec
from simulator.errors import ScenarioError
from simulator.scenario.load import Entry
from simulator.scenario.schema import FaultSpec as LinkFaultSpec
from simulator.scenario.schema import PoolSpec
from simulator.scenario.serving_place import Standing
from simulator.scenario.serving_schema import ServingFaultSpec
from simulator.units import parse_time


def faults_of(
    entry: Entry, pools: Sequence[tuple[PoolSpec, Standing]], masters: int
) -> tuple[tuple[FaultSpec, ...], tuple[FaultRate, ...]]:
    """Faults at given times, and faults by chance. Raises ScenarioError for what is not in the fleet."""
    at: list[FaultSpec] = []
    rates: list[FaultRate] = []
    for index, told in enumerate(entry.spec.faults):
        where = entry.document.where(("faults", index))
        if isinstance(told, LinkFaultSpec):
            if entry.spec.workload is None:
                raise ScenarioError(
                    where=where, given=f"{told.source} to {told.destination}", rule="links with traffic are named by "
                    "replicas", way_out="write kind: nic, target: prefill0, or kind: link, target: prefill0->decode0",
                )  # fmt: skip
            continue
        kind: FaultKind = "replica" if told.kind == "gpu" else told.kind
        given = [told.target] if isinstance(told.target, str) else told.target
        targets = tuple(_target(told, name, pools, masters, where) for name in given)
        repair_s = parse_time(told.repair) if told.repair else inf
        if told.every is not None:
            rates.append(FaultRate(kind, targets, parse_time(told.every), repair_s, told.speed))
        else:
            at += [FaultSpec(kind, target, parse_time(told.at or "0 s"), repair_s, told.speed) for target in targets]
    return tuple(at), tuple(rates)


def _target(
    told: ServingFaultSpec, name: str, pools: Sequence[tuple[PoolSpec, Standing]], masters: int, where: str
) -> str:
    """The fleet's name of a target; a GPU takes down the replica that it belongs to."""
    replicas = [each for _, standing in pools for each in standing.names]
    owners = {
        f"{standing.prefix}{gpu}": each
        for _, standing in pools
        for each, gpus in zip(standing.names, standing.gpus, strict=True)
        for gpu in gpus
    }
    nodes = {node for _, standing in pools for gpus in standing.gpus for node in standing.nodes(gpus)}
    known = {
        "gpu": list(owners), "node": sorted(nodes), "master": [f"master{i}" for i in range(masters)],
    }.get(told.kind, replicas)  # fmt: skip
    parts = [part.strip() for part in name.split("->")] if told.kind == "link" else [name.strip()]
    wrong = next((part for part in parts if part not in known), None)
    if wrong is not None or (told.kind == "link") != (len(parts) == 2):
        near = get_close_matches(wrong or name, known, n=1)
        raise ScenarioError(
            where=where, given=repr(name), rule=f"is no {told.kind} of the fleet",
            way_out=f"did you mean {near[0]}?" if near else f"there are {', '.join(known[:6])}",
        )  # fmt: skip
    return owners[parts[0]] if told.kind == "gpu" else "->".join(parts)
