"""A plot as data, and the small helpers that the plots share."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """Plotly traces and layout. Strings that begin with "@" are colours of the page's theme."""

    title: str
    traces: list[dict[str, Any]]
    layout: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    """A sentence under the title: what is shown, in which unit, and what is left out."""
    height: int = 340
    tools: bool = False
    """Buttons to zoom and pan."""

    def as_json(self) -> dict[str, Any]:
        """What the page's script draws."""
        return {"data": self.traces, "layout": {**self.layout, "height": self.height}, "tools": self.tools}


def short(values: Iterable[float], digits: int = 5) -> list[float]:
    """Rounded to so many significant digits, which keeps pages small."""
    return [float(f"{value:.{digits}g}") for value in values]


def time_unit(largest_s: float) -> tuple[float, str]:
    """The factor and unit that make a time of this size readable.

    >>> time_unit(0.02)
    (1000.0, 'ms')
    """
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if largest_s * factor >= 1.0:
            return factor, unit
    return 1e6, "µs"


def byte_unit(largest_bytes: float) -> tuple[float, str]:
    """The factor and decimal unit that make a number of bytes readable."""
    for factor, unit in ((1e-12, "TB"), (1e-9, "GB"), (1e-6, "MB")):
        if largest_bytes * factor >= 1.0:
            return factor, unit
    return 1e-3, "kB"


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis with a title."""
    return {"title": {"text": title}, **more}
