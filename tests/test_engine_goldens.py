"""How many events each shipped scenario takes: a performance test that cannot flake.

`pytest tests/test_engine_goldens.py --regold` writes the counts anew; say in the commit why they moved.
"""

import json
from pathlib import Path

import pytest

from simulator.engine.session import simulate
from simulator.scenario.load import load_scenario
from simulator.scenario.resolve import resolve

ROOT = Path(__file__).parents[1]
EVENTS = Path(__file__).parent / "golden" / "events.json"
SCENARIOS = sorted(path.stem for path in (ROOT / "scenarios").glob("*.yaml"))


def counted(name: str) -> int:
    """Events of all deployments that a scenario resolves to."""
    return sum(
        simulate(deployment).events
        for deployment in map(resolve, load_scenario(ROOT / "scenarios" / f"{name}.yaml").entries)
    )


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
