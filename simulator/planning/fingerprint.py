"""A task's name in a journal: `Fingerprints().of(task)`, equal for equal tasks, in whichever process or run."""

from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from enum import Enum
from hashlib import sha256

import numpy as np


class Fingerprints:
    """Hashes values by what they hold. Dataclasses seen before are remembered: many tasks share one large question.

    Pickles would not do: equal values whose parts are shared differently have different pickles.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[object, bytes]] = {}

    def of(self, value: object) -> str:
        """32 hexadecimal digits. Raises TypeError for what has no content to go by (open files, clients)."""
        return self._digest(value).hex()[:32]

    def _digest(self, value: object) -> bytes:
        if is_dataclass(value) and not isinstance(value, type):
            known = self._seen.get(id(value))
            if known is not None and known[0] is value:
                return known[1]
            parts = [(f.name, getattr(value, f.name)) for f in fields(value)]
            found = self._hash(type(value).__qualname__, *(self._digest(part) for part in parts))
            self._seen[id(value)] = (value, found)  # holding the value keeps its id its own
            return found
        return self._plain(value)

    def _plain(self, value: object) -> bytes:
        match value:
            case np.ndarray():
                whole = np.ascontiguousarray(value)
                return self._hash("array", str(whole.dtype), str(whole.shape), whole.tobytes())
            case np.generic():
                return self._plain(value.item())
            case Enum():
                return self._hash(type(value).__qualname__, value.name)
            case None | bool() | int() | float() | str() | bytes():
                return self._hash(type(value).__name__, repr(value))
            case tuple() | list():
                return self._hash("sequence", *(self._digest(item) for item in value))
            case Set():
                return self._hash("set", *sorted(self._digest(item) for item in value))
            case Mapping():
                pairs = [self._hash(self._digest(key), self._digest(item)) for key, item in value.items()]
                return self._hash("mapping", *sorted(pairs))
            case _ if callable(value) and hasattr(value, "__qualname__"):
                return self._hash("name", f"{value.__module__}.{value.__qualname__}")
            case _:
                raise TypeError(f"{type(value).__name__} has no fingerprint")

    def _hash(self, *parts: str | bytes) -> bytes:
        found = sha256()
        for part in parts:
            text = part.encode() if isinstance(part, str) else part
            found.update(len(text).to_bytes(8, "big") + text)
        return found.digest()
