"""Default prices of GPU hours, dated and cited in `prices.toml`."""

import tomllib
from functools import lru_cache
from importlib.resources import files


@lru_cache(maxsize=1)
def _table() -> dict[str, tuple[float, str]]:
    text = files("simulator.planning").joinpath("prices.toml").read_text(encoding="utf-8")
    found: dict[str, tuple[float, str]] = {}
    for kind in tomllib.loads(text).values():
        for gpu, usd in kind.items():
            if gpu != "note":
                found[gpu] = (float(usd), kind["note"])
    return found


def default_price(gpu: str) -> tuple[float, str] | None:
    """(US dollars an hour, source with date) of a GPU by its catalogue name; None where none is known.

    >>> default_price("H200-SXM")[0], default_price("V100-SXM2-32GB")
    (2.05, None)
    """
    return _table().get(gpu)
