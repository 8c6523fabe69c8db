"""`shardsim schema`, `list` and `show`: what a user may write, what ships, what a rank will do."""

import json
import sys
from collections.abc import Callable, Sequence

from simulator.engine.deployment import Deployment, Pool
from simulator.engine.session import prompt_lengths
from simulator.errors import ScenarioError
from simulator.hardware.catalogue import list_devices
from simulator.model.catalogue import find_model, list_models
from simulator.model.counts import parameter_counts
from simulator.numeric.batch import data_coordinate, works_of
from simulator.program.build import build
from simulator.program.listing import listing
from simulator.program.sharding import coordinate
from simulator.program.work import Sequence as WorkSequence
from simulator.scenario.load import find_scenario, list_plans, list_scenarios, load_scenario, schema_json
from simulator.scenario.plan_resolve import load_plan, plan_schema_json
from simulator.scenario.resolve import resolve
from simulator.scenario.topology_file import list_topologies, load_topology, topology_schema
from simulator.units import format_bandwidth, format_bytes

Row = dict[str, object]


def schema_command(topology: bool, plan: bool = False) -> None:
    """Print a JSON schema."""
    if topology and plan:
        raise ScenarioError(where="schema", given="--topology --plan", rule="are two schemas", way_out="ask for one")
    print(json.dumps(topology_schema() if topology else plan_schema_json() if plan else schema_json(), indent=2))


def list_command(what: str, as_json: bool) -> None:
    """Print what ships, as a table or as JSON."""
    if what not in LISTS:
        raise ScenarioError(given=repr(what), rule="cannot be listed", way_out=f"use one of {', '.join(LISTS)}")
    rows = LISTS[what]()
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        print_table(rows)


def print_table(rows: Sequence[Row]) -> None:
    """Rows of equal keys, in columns; numbers to the right."""
    if not rows:
        return
    cells = [list(rows[0]), *[[str(value) for value in row.values()] for row in rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [isinstance(value, int | float) for value in rows[0].values()]
    for line in cells:
        shown = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        sys.stdout.write("  ".join(shown).rstrip() + "\n")


def _topologies() -> list[Row]:
    rows: list[Row] = []
    for name in list_topologies():
        cluster = load_topology(name)
        device = cluster.device()
        rows.append({"topology": name, "GPUs a node": cluster.gpus, "GPU": device.name, "network": cluster.network,
                     "description": cluster.spec.description})  # fmt: skip
    return rows


def _models() -> list[Row]:
    rows: list[Row] = []
    for name in list_models():
        model = find_model(name)
        counts = parameter_counts(model)
        rows.append({"model": name, "family": model.family, "parameters B": round(counts.total / 1e9, 2),
                     "active B": round(counts.active / 1e9, 2), "layers": len(model.layers),
                     "numbers": "refused" if model.numbers_refused else "yes"})  # fmt: skip
    return rows


def _gpus() -> list[Row]:
    return [
        {"GPU": d.name, "memory": format_bytes(d.hbm_bytes), "bandwidth": format_bandwidth(d.hbm_bytes_per_s),
         "bf16 TFLOPS": round(d.peak_flops_per_s.get("bf16", 0.0) / 1e12),
         "fp8 TFLOPS": round(d.peak_flops_per_s.get("fp8", 0.0) / 1e12),
         "scale-up": format_bandwidth(d.nvlink_bytes_per_s) if d.nvlink_bytes_per_s else "-"}
        for d in list_devices()
    ]  # fmt: skip


def _scenarios() -> list[Row]:
    rows: list[Row] = []
    for name in list_scenarios():
        words = load_scenario(find_scenario(name)).description.split()
        rows.append({"scenario": name, "description": " ".join(words)})
    return rows


def _plans() -> list[Row]:
    found = [(name, load_plan(name).spec) for name in list_plans()]
    return [{"plan": n, "asks for": s.objective, "description": " ".join(s.description.split())} for n, s in found]


LISTS: dict[str, Callable[[], list[Row]]] = {
    "topologies": _topologies,
    "models": _models,
    "gpus": _gpus,
    "scenarios": _scenarios,
    "plans": _plans,
}


def program_command(scenario: str, settings: Sequence[str], phase: str, pool_name: str, rank: int) -> None:
    """Print the program of one rank; of a comparison, of its first variant."""
    if phase not in ("prefill", "decode"):
        raise ScenarioError(where="--phase", given=repr(phase), rule="must be prefill or decode")
    deployment = resolve(load_scenario(scenario, settings).entries[0])
    pool = _pool(deployment, phase, pool_name)
    if rank >= pool.layout.ranks:
        rule = f"pool {pool.name!r} has ranks 0 to {pool.layout.ranks - 1}"
        raise ScenarioError(where="--rank", given=str(rank), rule=rule)
    lengths = prompt_lengths(deployment)
    decode = phase == "decode"
    sequences = [WorkSequence(i, 1 if decode else n, n if decode else 0) for i, n in enumerate(lengths)]
    works = works_of(sequences, pool.layout)[data_coordinate(pool.layout, rank)]
    stage = coordinate(pool.layout, rank, ("pp",))
    print(listing(build(deployment.architecture, pool.layout, stage, works, deployment.options)))


def _pool(deployment: Deployment, phase: str, name: str) -> Pool:
    fitting = [p for p in deployment.pools if (p.name == name if name else p.role in ("mixed", phase))]
    if not fitting:
        names = ", ".join(pool.name for pool in deployment.pools)
        raise ScenarioError(where="--pool", given=repr(name), rule="no such pool", way_out=f"use {names}")
    return fitting[0]
