"""Frozen dataclasses to JSON and back, by their annotations: `encode(value)`, `decode(kind, data)`.

What a journal keeps must come back equal, to the last bit of every float, and be read by a person; so plain JSON, and
no pickles, which run whatever they hold. Floats round-trip because Python prints the shortest text that reads back as
the same number; infinities and NaN are written as Python's own reader takes them.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
TAG = "_"
"""Key of a dataclass's name; no field is called so."""


PLAIN = frozenset({float, int, str, bool, NoneType})
"""Most of what is kept: curves are thousands of floats."""


def encode(value: object) -> Json:
    """JSON of a dataclass, tuple, mapping with text keys, or scalar. Raises TypeError for anything else."""
    if type(value) in PLAIN:
        return cast(Json, value)
    if isinstance(value, tuple) and all(type(item) in PLAIN for item in value):
        return list(value)
    if isinstance(value, Enum):
        return encode(value.value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return encode(value.item())
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, frozenset):
        return sorted((encode(item) for item in value), key=repr)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            return [[encode(key), encode(item)] for key, item in value.items()]
        return {str(key): encode(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        held = {field.name: encode(getattr(value, field.name)) for field in fields(value) if field.init}
        return {TAG: type(value).__name__, **held}
    raise TypeError(f"{type(value).__name__} has no JSON here")


@lru_cache(maxsize=256)
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def decode(kind: Any, data: Any) -> Any:
    """The value of annotation `kind` that `encode` wrote. Raises TypeError where they do not go together."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any or kind is object:
        return data
    if origin in (Union, UnionType):
        return decode(_member(args, data), data)
    if origin is Literal:
        return _checked(data in args, kind, data)
    if origin is tuple or kind is tuple:
        if not args or args[-1] is Ellipsis:
            return tuple(decode(args[0] if args else Any, item) for item in data)
        return tuple(decode(each, item) for each, item in zip(args, data, strict=True))
    if origin is list:
        return [decode(args[0], item) for item in data]
    if origin is frozenset:
        return frozenset(decode(args[0], item) for item in data)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        pairs = data.items() if isinstance(data, dict) else data
        return {decode(args[0], key): decode(args[1], item) for key, item in pairs}
    if is_dataclass(kind):
        return _dataclass(kind, data)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(data)
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    return _checked(isinstance(data, kind if isinstance(kind, type) else object), kind, data)


def _checked(right: bool, kind: Any, data: Any) -> Any:
    if not right:
        raise TypeError(f"{data!r} is no {kind}")
    return data


def _dataclass(kind: Any, data: Any) -> Any:
    if not isinstance(data, dict) or data.get(TAG) != kind.__name__:
        raise TypeError(f"{data!r} is no {kind.__name__}")
    hints = _hints(kind)
    return kind(**{name: decode(hints[name], item) for name, item in data.items() if name != TAG})


def _member(args: tuple[Any, ...], data: Any) -> Any:
    """The member of a union that `data` is: by tag for dataclasses, by type for the rest."""
    if data is None and NoneType in args:
        return NoneType
    if isinstance(data, dict) and TAG in data:
        return next((each for each in args if getattr(each, "__name__", "") == data[TAG]), args[0])
    exact = [each for each in args if each is type(data)]
    rest = [each for each in args if each is not NoneType and not is_dataclass(each)]
    return exact[0] if exact else (rest or list(args))[0]
