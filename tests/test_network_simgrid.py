"""Agreement with SimGrid, an independent flow-level simulator, on random contention cases.

SimGrid is the Debian package python3-simgrid (`apt-get install python3-simgrid`), which the system's own Python
imports; PyPI has no wheel. Without it these tests are skipped.
"""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from simulator.network.incidence import paths_of
from simulator.network.simulate import simulate_flows

SYSTEM_PYTHON = "/usr/bin/python3"
CASES = 20


def has_simgrid() -> bool:
    if not Path(SYSTEM_PYTHON).exists():
        return False
    return subprocess.run([SYSTEM_PYTHON, "-c", "import simgrid"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(
    not has_simgrid(), reason="needs SimGrid in the system's Python (apt-get install python3-simgrid)"
)


def random_case(seed: int) -> dict[str, list]:
    """5 to 15 links of 1 to 50 GB/s, 10 to 60 flows of 1 to 3 links and 1 to 100 MB that start over 10 ms."""
    generator = np.random.default_rng(seed)
    links, flows = int(generator.integers(5, 16)), int(generator.integers(10, 61))
    return {
        "capacity": generator.uniform(1e9, 50e9, links).tolist(),
        "paths": [generator.permutation(links)[: generator.integers(1, 4)].tolist() for _ in range(flows)],
        "bytes": generator.integers(10**6, 10**8, flows).tolist(),
        "start_s": np.where(generator.random(flows) < 0.3, 0.0, generator.uniform(0, 0.01, flows)).tolist(),
    }


@pytest.fixture(scope="module")
def theirs() -> list[np.ndarray]:
    """SimGrid's finish times: all cases side by side in one run, on links of their own."""
    cases = [random_case(seed) for seed in range(CASES)]
    offsets = np.cumsum([0, *(len(case["capacity"]) for case in cases)])
    whole = {key: [item for case in cases for item in case[key]] for key in ("capacity", "bytes", "start_s")}
    whole["paths"] = [
        [int(link + offset) for link in path]
        for case, offset in zip(cases, offsets, strict=False)
        for path in case["paths"]
    ]
    script = Path(__file__).with_name("network_simgrid.py")
    run = subprocess.run(
        [SYSTEM_PYTHON, str(script)], input=json.dumps(whole), capture_output=True, text=True, timeout=120, check=True
    )
    return np.split(np.array(json.loads(run.stdout)), np.cumsum([len(case["paths"]) for case in cases])[:-1])


@pytest.mark.parametrize("seed", range(CASES))
def test_finish_times_agree_within_one_percent(theirs: list[np.ndarray], seed: int) -> None:
    case = random_case(seed)
    ours = simulate_flows(
        np.array(case["capacity"]),
        paths_of(case["paths"]),
        np.array(case["bytes"], dtype=float),
        start_s=np.array(case["start_s"]),
        tolerance=0.0,
    )
    np.testing.assert_allclose(ours, theirs[seed], rtol=0.01)
