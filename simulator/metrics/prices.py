"""What a GPU costs by the hour: a small dated table of facts, meant to be overridden by what one really pays."""

import csv
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

from simulator.errors import DataError
from simulator.hardware.device import Device

KINDS = ("rental", "neocloud", "hyperscaler", "on_demand")
"""rental: three years rented; neocloud, hyperscaler: owning, all costs; on_demand: by the hour."""


@lru_cache(maxsize=1)
def table() -> dict[tuple[str, str], tuple[float, str]]:
    """(family of GPU, kind) -> ($ per GPU and hour, date and source)."""
    text = files("simulator.metrics").joinpath("data", "prices.csv").read_text(encoding="utf-8")
    return {
        (row["gpu"], row["kind"]): (float(row["usd_per_gpu_hour"]), f"{row['source']}, {row['date']}")
        for row in csv.DictReader(text.splitlines())
    }


def family(device: Device) -> str:
    """The device's name as price lists have it.

    >>> from simulator.hardware.catalogue import find_device
    >>> family(find_device("H100-SXM"))
    'H100'
    """
    return re.split(r"[-_ ]", device.name, maxsplit=1)[0].upper()


def price_of(
    device: Device, kind: str = "rental", own: float | Mapping[str, float] | None = None
) -> tuple[float | None, str]:
    """($ per GPU and hour, where that comes from); (None, why) where the table does not know the GPU.

    `own`: the user's price, or prices by name or family of GPU. Raises DataError for a kind that is not in the table.
    """
    if isinstance(own, int | float):
        return float(own), "as given"
    for name in (device.name, family(device)):
        if own is not None and name in own:
            return float(own[name]), "as given"
    if kind not in KINDS:
        raise DataError(where="prices.kind", given=repr(kind), rule=f"is none of {', '.join(KINDS)}")
    found = table().get((family(device), kind))
    if found is None:
        return None, f"no {kind} price of {device.name} is known; give prices.usd_per_gpu_hour"
    return found[0], f"{kind}: {found[1]}"
