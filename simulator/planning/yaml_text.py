"""A small writer of YAML for launch material: mappings, lists, text, numbers; block style, nothing clever."""

import json
import re
from collections.abc import Mapping, Sequence

Value = object
_PLAIN = re.compile(r"^[A-Za-z_./][A-Za-z0-9_./-]*$")
_BLOCK = re.compile(r"^[!-~][ -~]*(\n[ -~]*)*\n[ -~]*[!-~]\n?$")
"""Lines that a literal block keeps: printable, begun and ended by no blank, at most one line break at the end."""
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "nan", "inf"})


def yaml_text(value: Value, indent: int = 0) -> str:
    """Block YAML of nested mappings, sequences and scalars, ending in a line break.

    Text that another reader could take for something else is quoted, as JSON does it, which YAML reads the same;
    text of several lines stands as a literal block.

    >>> print(yaml_text({"a": [1, "no", {"b": "x y"}], "c": {}}), end="")
    a:
    - 1
    - "no"
    - b: "x y"
    c: {}
    """
    pad = " " * indent
    match value:
        case Mapping() if value:
            return "".join(f"{pad}{_scalar(str(key))}:{_after(item, indent)}" for key, item in value.items())
        case str():
            return f"{pad}{_scalar(value)}\n"
        case Sequence() if value:
            return "".join(f"{pad}- {_item(item, indent)}" for item in value)
        case _:
            return f"{pad}{_scalar(value)}\n"


def _after(item: Value, indent: int) -> str:
    """What follows a key."""
    if isinstance(item, str) and _BLOCK.match(item):
        return f" {_block(item, indent + 2)}"
    if isinstance(item, Mapping) and item:
        return "\n" + yaml_text(item, indent + 2)
    if isinstance(item, Sequence) and not isinstance(item, str) and item:
        return "\n" + yaml_text(item, indent)
    return f" {_scalar(item)}\n"


def _item(item: Value, indent: int) -> str:
    """What follows a dash: a mapping or list begins on its line."""
    if isinstance(item, str) and _BLOCK.match(item):
        return _block(item, indent + 2)
    if isinstance(item, Mapping | Sequence) and not isinstance(item, str) and item:
        return yaml_text(item, indent + 2)[indent + 2 :]
    return f"{_scalar(item)}\n"


def _block(item: str, indent: int) -> str:
    lines = "".join(f"{' ' * indent}{line}\n" if line else "\n" for line in item.rstrip("\n").split("\n"))
    return f"|\n{lines}" if item.endswith("\n") else f"|-\n{lines}"


def _scalar(item: Value) -> str:
    match item:
        case bool():
            return "true" if item else "false"
        case None:
            return "null"
        case int() | float():
            return json.dumps(item)
        case Mapping():
            return "{}"
        case str():
            plain = _PLAIN.match(item) and item.lower() not in _WORDS and not item.startswith(".")
            return item if plain else json.dumps(item, ensure_ascii=False)
        case Sequence():
            return "[]"
        case _:
            return json.dumps(str(item))
