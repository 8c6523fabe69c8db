"""Quantities as people write them ("900 GB/s", "80 GiB", "5 us"), parsed to SI and printed back.

Inside the program every number is SI and says so in its name (`_s`, `_bytes`, `_bytes_per_s`,
`_flops`). Bit and byte, GB (1e9) and GiB (2**30) are told apart; bandwidths are per direction.
"""

import math
import re

from simulator.errors import UnitError

_DECIMAL = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
_PREFIX = _DECIMAL | _BINARY
_TIME = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0}
_NUMBER = re.compile(r"^\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S*)\s*$")
_BYTES = re.compile(r"^(Ki|Mi|Gi|Ti|[kKMGTP]?)(B|b|bit|byte|bytes)?$")
_RATE = re.compile(r"^(Ki|Mi|Gi|Ti|[kKMGTP]?)(B|bit|b)(?:/s|ps)$")
_FLOPS = re.compile(r"^([kKMGTP]?)(?:FLOPS|FLOP/s|flops|OPS|OP/s)$")


def _split(text: str, what: str, example: str) -> tuple[float, str]:
    match = _NUMBER.match(text)
    if match is None:
        raise UnitError(given=repr(text), rule=f"{what} is a number and a unit", way_out=f'write e.g. "{example}"')
    value = float(match[1])
    if not math.isfinite(value):
        raise UnitError(given=repr(text), rule=f"{what} must be finite", way_out=f'write e.g. "{example}"')
    return value, match[2]


def parse_bytes(text: str) -> float:
    """Bytes from "80 GiB", "16G" or "8" (a bare letter is binary, as nccl-tests reads sizes).

    >>> parse_bytes("80 GiB") == 80 * 2**30, parse_bytes("1 GB"), parse_bytes("16G") == 16 * 2**30
    (True, 1000000000.0, True)
    """
    value, unit = _split(text, "a size", "80 GiB")
    match = _BYTES.match(unit)
    if match is None or match[2] in ("b", "bit"):
        raise UnitError(
            given=repr(text), rule="a size is in bytes (B, kB, MB, GB, KiB, MiB, GiB)", way_out='write e.g. "80 GiB"'
        )
    prefix = match[1]
    if match[2] is None and prefix:
        prefix = {"k": "Ki", "K": "Ki", "M": "Mi", "G": "Gi", "T": "Ti"}.get(prefix, prefix)
    return value * _PREFIX[prefix]


def parse_bandwidth(text: str) -> float:
    """Bytes per second, per direction, from "900 GB/s" or "400 Gbit/s".

    >>> parse_bandwidth("400 Gbit/s"), parse_bandwidth("900 GB/s")
    (50000000000.0, 900000000000.0)
    """
    value, unit = _split(text, "a bandwidth", "400 Gbit/s")
    match = _RATE.match(unit)
    if match is None:
        raise UnitError(
            given=repr(text),
            rule="a bandwidth is bytes or bits per second",
            way_out='write e.g. "900 GB/s" or "400 Gbit/s"',
        )
    per_byte = 1.0 if match[2] == "B" else 8.0
    return value * _PREFIX[match[1]] / per_byte


def parse_time(text: str) -> float:
    """Seconds from "5 us", "1.5 ms", "2 h".

    >>> parse_time("5 us")
    5e-06
    """
    value, unit = _split(text, "a time", "5 us")
    if unit not in _TIME:
        raise UnitError(given=repr(text), rule=f"a time is in one of {', '.join(_TIME)}", way_out='write e.g. "5 us"')
    return value * _TIME[unit]


def parse_flops(text: str) -> float:
    """FLOP per second from "989 TFLOPS" or "989 TFLOP/s".

    >>> parse_flops("989 TFLOPS")
    989000000000000.0
    """
    value, unit = _split(text, "a compute rate", "989 TFLOPS")
    match = _FLOPS.match(unit)
    if match is None:
        raise UnitError(given=repr(text), rule="a compute rate is in FLOP/s", way_out='write e.g. "989 TFLOPS"')
    return value * _PREFIX[match[1]]


def _scaled(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    for scale, unit in steps:
        if abs(value) >= scale:
            return f"{value / scale:.4g} {unit}"
    scale, unit = steps[-1]
    return f"{value / scale:.4g} {unit}"


def format_bytes(value: float) -> str:
    """Bytes in binary units: 80 GiB."""
    return _scaled(value, ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B")))


def format_time(value: float) -> str:
    """Seconds in the unit a reader expects: 12.3 ms."""
    return _scaled(value, ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")))


def format_bandwidth(value: float) -> str:
    """Bytes per second in decimal units: 50 GB/s."""
    return _scaled(value, ((1e12, "TB/s"), (1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1.0, "B/s")))
