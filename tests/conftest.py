"""How hypothesis runs here.

`make test` is reproducible: the same examples every time, no database, no deadline (shared machines stutter).
`HYPOTHESIS_PROFILE=explore` looks elsewhere each time, and longer.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

_SLOW_DATA = (HealthCheck.too_slow, HealthCheck.data_too_large)
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=_SLOW_DATA)
settings.register_profile(
    "explore", deadline=None, max_examples=1000, print_blob=True, suppress_health_check=_SLOW_DATA
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regold", action="store_true", help="write the goldens anew instead of comparing with them")


@pytest.fixture
def regold(request: pytest.FixtureRequest) -> bool:
    """Whether goldens are to be written anew."""
    return bool(request.config.getoption("--regold"))
