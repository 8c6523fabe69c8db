"""How many events each shipped scenario takes: a performance test that cannot flake.

`pytest tests/test_engine_goldens.py --regold` writes the counts anew; say in the commit why they moved.
"""

import json
from pathlib import Path

import pytest

from simulator.engine.session import simulate
from simulator.metrics.serving_run import run_serving
from simulator.scenario.load import load_scenario
from simulator.scenario.resolve import resolve
from simulator.scenario.serving_resolve import resolve_serving

ROOT = Path(__file__).parents[1]
EVENTS = Path(__file__).parent / "golden" / "events.json"
SCENARIOS = sorted(p.stem for p in (ROOT / "scenarios").glob("*.yaml") if not p.stem.startswith("plan_"))
LIVE_REQUESTS = 300


def counted(name: str) -> int:
    """Events of all deployments that a scenario resolves to; of live traffic, of its first requests."""
    path = ROOT / "scenarios" / f"{name}.yaml"
    entries = load_scenario(path).entries
    steps = sum(simulate(resolve(entry)).events for entry in entries if entry.spec.workload is not None)
    if any(entry.spec.traffic is None for entry in entries):
        return steps
    fewer = load_scenario(path, [f"traffic.requests={LIVE_REQUESTS}"]).entries
    return steps + sum(run_serving(resolve_serving(entry)).events for entry in fewer)


@pytest.mark.parametrize("name", SCENARIOS)
def test_events(name: str, regold: bool) -> None:
    found, golden = counted(name), json.loads(EVENTS.read_text()) if EVENTS.exists() else {}
    if regold:
        EVENTS.write_text(json.dumps({**golden, name: found}, indent=2, sort_keys=True) + "\n")
        return
    assert name in golden, "a new scenario: count its events with --regold"
    assert found == golden[name]


def test_no_golden_outlives_its_scenario() -> None:
    assert set(json.loads(EVENTS.read_text())) <= set(SCENARIOS)
