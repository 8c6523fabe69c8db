"""The fitted parameters that ship: `data/kernels.json`, written by `simulator.validation.fit_kernels`."""

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from simulator.cost.kernel.choose import Key
from simulator.cost.kernel.silicon import Parameters
from simulator.errors import CalibrationError

_FILE = "kernels.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Fit:
    """Parameters of one group with the median relative error expected of them, and the name they were found under."""

    parameters: Parameters
    error: float
    name: str
    borrowed: bool
    """Taken from another generation, or from all of them together."""


@lru_cache(maxsize=1)
def _shipped() -> dict[str, Any]:
    try:
        text = files("simulator.cost").joinpath("data", _FILE).read_text(encoding="utf-8")
        found: dict[str, Any] = json.loads(text)
    except (OSError, json.JSONDecodeError) as error:
        raise CalibrationError(
            where=f"simulator/cost/data/{_FILE}",
            given=str(error),
            rule="the fitted parameters must be readable",
            way_out="reinstall, or run python -m simulator.validation.fit_kernels",
        ) from error
    if found.get("format") != FORMAT:
        raise CalibrationError(
            where=f"simulator/cost/data/{_FILE}",
            given=f"format {found.get('format')!r}",
            rule=f"this version reads {FORMAT}",
            way_out="run python -m simulator.validation.fit_kernels",
        )
    return found


@lru_cache(maxsize=4096)
def fitted(family: str, key: Key) -> Fit:
    """The most specific parameters there are for `key`. Raises CalibrationError for an unknown family."""
    families = _shipped()["families"]
    if family not in families:
        raise CalibrationError(given=family, rule=f"fitted families are {', '.join(families)}")
    names, groups = families[family]["parameters"], families[family]["groups"]
    own = f"{key.implementation}/{key.generation}"
    for name in key.candidates():
        if name in groups:
            group = groups[name]
            error = group["held_out_error"]
            borrowed = not (name == own or name.startswith(f"{own}/"))
            # A generation left out errs about twice as much as shapes left out (docs/kernels.md).
            error = error * 2.0 if borrowed else error
            return Fit(dict(zip(names, group["values"], strict=True)), error, name, borrowed)
    raise CalibrationError(given=f"{family} {key}", rule="every family has a root group", way_out="refit")
