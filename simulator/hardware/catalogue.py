"""The catalogue of accelerators: `find_device("H100")`, with the datasheets it stands on in `gpus.toml`."""

import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache
from importlib.resources import files
from typing import Any

from simulator.errors import TopologyError
from simulator.hardware.device import Device

_VENDOR = {"nvidia", "amd", "intel", "ms", "instinct", "tesla", "geforce", "virtualized", "dual"}
_FAMILY = {"blackwell", "hopper", "ampere", "grace", "superchip", "edition", "gpu", "turbo"}
# Packaging and configuration words of submitted results: HBM kind, partitioning, power cap, cooling.
_NOISE = re.compile(r"^(hbm\d*e?|nps\d|spx|cts|\d+w)$")
_MEMORY = re.compile(r"^\d+(g|gb)$")


def _words(name: str, *, keep_memory: bool) -> str:
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]
    kept = [w for w in words if w not in _VENDOR and w not in _FAMILY and not _NOISE.match(w)]
    if not keep_memory:
        kept = [w for w in kept if not _MEMORY.match(w)]
    return "".join(kept)


def _device(name: str, facts: Mapping[str, Any]) -> Device:
    return Device(
        name=name,
        generation=facts["generation"],
        compute_capability=facts["compute_capability"],
        peak_flops_per_s={dtype: rate * 1e12 for dtype, rate in facts["peak_tflops"].items()},
        hbm_bytes=facts["memory_mib"] * 2.0**20,
        hbm_bytes_per_s=facts["hbm_tb_s"] * 1e12,
        sm_count=facts["sm_count"],
        nvlink_bytes_per_s=facts["nvlink_gb_s"] * 1e9,
        pcie_bytes_per_s=facts["pcie_gb_s"] * 1e9,
        nic_bytes_per_s=facts["nic_gbit_s"] * 1e9 / 8,
        tdp_w=float(facts["tdp_w"]),
        source=facts["source"],
    )


@lru_cache(maxsize=1)
def _catalogue() -> tuple[dict[str, Device], dict[str, str], dict[str, str]]:
    """Devices by name, names by spelling, and the spellings as written (for suggestions)."""
    facts = tomllib.loads(files("simulator.hardware").joinpath("gpus.toml").read_text(encoding="utf-8"))
    devices = {name: _device(name, entry) for name, entry in facts.items()}
    by_key: dict[str, str] = {}
    written: dict[str, str] = {}
    for name, entry in facts.items():
        for spelling in (name, *entry["aliases"]):
            key = _words(spelling, keep_memory=True)
            if by_key.setdefault(key, name) != name:
                raise TopologyError(given=spelling, rule=f"means both {by_key[key]} and {name}", where="gpus.toml")
            written.setdefault(key, spelling)
    return devices, by_key, written


@lru_cache(maxsize=512)
def find_device(name: str) -> Device:
    """The accelerator of that name, in any spelling people use; TopologyError with the nearest names otherwise.

    >>> find_device("h100").name, find_device("AMD Instinct MI325X 256GB HBM3e").name
    ('H100-SXM', 'MI325X')
    """
    devices, by_key, written = _catalogue()
    full, short = _words(name, keep_memory=True), _words(name, keep_memory=False)
    for key in (full, short):
        if key in by_key:
            return devices[by_key[key]]
    near = [written[key] for key in get_close_matches(full, by_key, n=3, cutoff=0.5)]
    way_out = f"did you mean {' or '.join(near)}?" if near else "`shardsim list gpus` names them"
    raise TopologyError(given=repr(name), rule="is no accelerator in the catalogue", way_out=way_out)


def list_devices() -> tuple[Device, ...]:
    """All accelerators of the catalogue, in the order of its file (by generation)."""
    return tuple(_catalogue()[0].values())
