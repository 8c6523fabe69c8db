"""`--set pools[0].layout.tp=4`: fields laid over a document."""

import re
from typing import Any

from simulator.errors import ScenarioError
from simulator.scenario.document import Document, Keys, dotted, parse_value

_STEP = re.compile(r"([^.\[\]=\s]+)|\[(\d+)\]")
_EXAMPLE = "write e.g. --set layout.tp=4 or --set 'pools[0].layout.tp=4'"


def parse_path(text: str, where: str) -> Keys:
    """The steps of a dotted path.

    >>> parse_path("pools[0].layout.tp", "")
    ('pools', 0, 'layout', 'tp')
    """
    keys: list[str | int] = []
    at = 0
    while at < len(text):
        if keys and text[at] == ".":
            at += 1
        match = _STEP.match(text, at)
        if match is None:
            break
        keys.append(match[1] if match[1] is not None else int(match[2]))
        at = match.end()
    if at < len(text) or not keys or not isinstance(keys[0], str):
        raise ScenarioError(where=where, given=repr(text), rule="is no path to a field", way_out=_EXAMPLE)
    return tuple(keys)


def apply_settings(document: Document, settings: list[str]) -> None:
    """Lay `path=value` texts, as given on the command line, over the document; values are YAML."""
    for setting in settings:
        path, equals, value = setting.partition("=")
        where = f"{document.file} (--set {setting})"
        if not equals or not path.strip():
            raise ScenarioError(where=where, given=repr(setting), rule="must read path=value", way_out=_EXAMPLE)
        keys = parse_path(path.strip(), where)
        put(document, keys, parse_value(value, where), where)


def put(document: Document, keys: Keys, value: Any, mark: str) -> None:
    """Put a value under a path, making mappings on the way; list indices must exist, or be the next one."""
    at: Any = document.values
    for depth, key in enumerate(keys):
        place = keys[:depth]
        _check_step(at, key, place, mark)
        if depth == len(keys) - 1:
            _assign(at, key, value)
        elif isinstance(at, dict):
            at = at.setdefault(key, {}) if at.get(key) is not None else _fresh(at, key)
        else:
            at = at[key]
    document.marks = {path: old for path, old in document.marks.items() if path[: len(keys)] != keys}
    for depth in range(1, len(keys) + 1):
        document.marks.setdefault(keys[:depth], mark)


def _check_step(at: Any, key: str | int, place: Keys, mark: str) -> None:
    name = dotted(place) or "the scenario"
    if isinstance(key, int):
        if not isinstance(at, list):
            raise ScenarioError(where=mark, given=f"[{key}]", rule=f"{name} is not a list", way_out=_EXAMPLE)
        if key > len(at):
            raise ScenarioError(
                where=mark,
                given=f"[{key}]",
                rule=f"{name} has {len(at)} items",
                way_out=f"use an index up to {len(at)}",
            )
    elif not isinstance(at, dict):
        what = "a list; give an index" if isinstance(at, list) else f"{at!r}, not a mapping"
        raise ScenarioError(where=mark, given=f".{key}", rule=f"{name} is {what}", way_out=_EXAMPLE)


def _fresh(at: dict[str | int, Any], key: str | int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    at[key] = made
    return made


def _assign(at: Any, key: str | int, value: Any) -> None:
    if isinstance(at, list) and key == len(at):
        at.append(value)
    else:
        at[key] = value
