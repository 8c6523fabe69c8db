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
from simulator.scenario.serving_resolve import Tables, resolve_serving

ROOT = Path(__file__).parents[1]
EVENTS = Path(__file__).parent / "golden" / "events.json"
PATHS = {path.stem: path for path in (ROOT / "scenarios").glob("*.yaml")}
SCENARIOS = sorted(name for name, path in PATHS.items() if "workload:" in path.read_text())
LIVE = sorted(name for name, path in PATHS.items() if "traffic:" in path.read_text() and "plan" not in name)
LIVE_REQUESTS = 300
MOST_EVENTS = 20
"""A request of live traffic, 2 to 16 when this was set (16: two masters, pools apart, steps broken off by each other's
arrivals). Not a count to the last one: when decisions are due depends on fitted times."""


def counted(name: str) -> int:
    """Events of all deployments that a scenario resolves to."""
    return sum(simulate(deployment).events for deployment in map(resolve, load_scenario(PATHS[name]).entries))


@pytest.mark.parametrize("name", LIVE)
def test_live_scenarios_answer_all_with_few_events(name: str) -> None:
    servers: Tables = {}
    for entry in load_scenario(PATHS[name], [f"traffic.requests={LIVE_REQUESTS}"]).entries:
        found = run_serving(resolve_serving(entry, servers))
        assert len(found.requests) == len(found.case.requests) >= LIVE_REQUESTS
        assert found.events <= MOST_EVENTS * len(found.requests)


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
