"""Fit of expert exchange and KV transfer."""

from pathlib import Path
from typing import Any


def fit_all(data: Path) -> dict[str, Any]:
    """The blocks `expert` and `transfer` of the data file."""
    return {"expert": {}, "transfer": {}}
