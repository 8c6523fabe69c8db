"""Typed reading of a config.json: every field is checked once, and an error names file, key, value and rule."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from simulator.errors import ModelError

T = TypeVar("T", int, float, bool, str)
_LARGEST = 2**53
"""No width, count or length of a model is larger; beyond it float64 arithmetic on sizes is inexact."""


@dataclass(frozen=True, slots=True)
class ConfigReader:
    """A view of one JSON object. `where` names the file or model, and the path of a nested object.

    Keys with the value null count as absent, as Hugging Face's own configuration classes read them.
    """

    items: Mapping[str, object]
    where: str

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self.items.get(key) is not None

    def wrong(self, key: str, rule: str, way_out: str = "") -> ModelError:
        """The error for one key, with the value it holds."""
        given = repr(self.items.get(key)) if key in self.items else "missing"
        return ModelError(where=f"{self.where}: {key}", given=given[:120], rule=rule, way_out=way_out)

    def integer(self, key: str, default: int | None = None, least: int = 1) -> int:
        """A whole number of at least `least`; required unless a default is given."""
        if not self.has(key):
            return self._absent(key, default, "a whole number")
        value = self.items[key]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(key, "must be a whole number")
        if not least <= value < _LARGEST:
            raise self.wrong(key, f"must be at least {least} and below 2**53")
        return value

    def optional_integer(self, key: str) -> int | None:
        """A whole number of at least 1, or None where absent or null."""
        return self.integer(key) if self.has(key) else None

    def number(self, key: str, default: float | None = None, positive: bool = True) -> float:
        """A finite number, by default above zero."""
        if not self.has(key):
            return self._absent(key, default, "a number")
        value = self.items[key]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, "must be a number")
        if (isinstance(value, int) and abs(value) >= _LARGEST) or not math.isfinite(value) or (positive and value <= 0):
            raise self.wrong(key, "must be finite and above zero" if positive else "must be finite")
        return float(value)

    def boolean(self, key: str, default: bool | None = None) -> bool:
        """true or false; 0 and 1 count too (some released configs write them)."""
        if not self.has(key):
            return self._absent(key, default, "true or false")
        value = self.items[key]
        if isinstance(value, bool) or value in (0, 1):
            return bool(value)
        raise self.wrong(key, "must be true or false")

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        if not self.has(key):
            return self._absent(key, default, "a string")
        value = self.items[key]
        if not isinstance(value, str):
            raise self.wrong(key, "must be a string")
        return value

    def one_of(self, key: str, allowed: Sequence[str], default: str | None = None) -> str:
        """A string out of a closed list."""
        value = self.text(key, default)
        if value not in allowed:
            raise self.wrong(key, f"must be one of {', '.join(allowed)}")
        return value

    def integers(self, key: str, length: int) -> tuple[int, ...]:
        """A list of exactly `length` whole numbers of at least 0, one a layer."""
        value = self._list(key)
        if any(isinstance(item, bool) or not isinstance(item, int) or item < 0 for item in value):
            raise self.wrong(key, "must be a list of whole numbers of at least 0")
        if len(value) != length:
            raise self.wrong(key, f"must have one entry a layer ({length}), has {len(value)}")
        return tuple(item for item in value if isinstance(item, int))

    def strings(self, key: str, length: int | None = None) -> tuple[str, ...]:
        """A list of strings, of exactly `length` where given."""
        value = self._list(key)
        if any(not isinstance(item, str) for item in value):
            raise self.wrong(key, "must be a list of strings")
        if length is not None and len(value) != length:
            raise self.wrong(key, f"must have one entry a layer ({length}), has {len(value)}")
        return tuple(item for item in value if isinstance(item, str))

    def indices(self, key: str, below: int) -> frozenset[int]:
        """A list of layer indices, possibly empty; absent means none."""
        if not self.has(key):
            return frozenset()
        value = self._list(key)
        if any(isinstance(item, bool) or not isinstance(item, int) or not 0 <= item < below for item in value):
            raise self.wrong(key, f"must be a list of layer indices from 0 to {below - 1}")
        return frozenset(item for item in value if isinstance(item, int))

    def nested(self, key: str) -> "ConfigReader":
        """A JSON object inside; an absent one reads as empty."""
        if not self.has(key):
            return ConfigReader({}, f"{self.where}: {key}")
        value = self.items[key]
        if not isinstance(value, Mapping):
            raise self.wrong(key, "must be a JSON object")
        return ConfigReader(value, f"{self.where}: {key}")

    def _list(self, key: str) -> Sequence[object]:
        value = self.items.get(key)
        if not isinstance(value, list | tuple):
            raise self.wrong(key, "must be a list")
        return value

    def _absent(self, key: str, default: T | None, what: str) -> T:
        if default is None:
            raise self.wrong(key, f"is required and must be {what}", "give the model's whole config.json")
        return default
