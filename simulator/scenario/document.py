"""A YAML file as plain values that remember where each was written, and overrides laid over them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from simulator.errors import ScenarioError

Keys = tuple[str | int, ...]
_MOST_VALUES = 100_000
"""Far above any scenario; stops documents whose aliases multiply or refer to themselves."""


@dataclass
class Document:
    """`values` is made of dict, list and scalars; `marks` says where the value under each path was written."""

    file: str
    values: dict[str, Any]
    marks: dict[Keys, str] = field(default_factory=dict)

    def where(self, keys: Keys) -> str:
        """`file:line: a.b[0]`, with the line of the nearest part that is written down."""
        for length in range(len(keys), -1, -1):
            if keys[:length] in self.marks:
                return f"{self.marks[keys[:length]]}: {dotted(keys)}".removesuffix(": ")
        return f"{self.file}: {dotted(keys)}".removesuffix(": ")

    def get(self, keys: Keys) -> Any:
        """The value under a path; None where there is none."""
        at: Any = self.values
        for key in keys:
            inside = key in at if isinstance(at, dict) else isinstance(at, list) and key in range(len(at))
            if not inside:
                return None
            at = at[key]
        return at

    def part(self, keys: Keys) -> "Document":
        """The mapping under a path, as a document of its own (a copy) whose marks still name the file."""
        marks = {path[len(keys) :]: mark for path, mark in self.marks.items() if path[: len(keys)] == keys}
        values = self.get(keys)
        return Document(self.file, _copied(values) if isinstance(values, dict) else {}, marks)


def dotted(keys: Keys) -> str:
    """A path as people write it.

    >>> dotted(("pools", 1, "layout", "tp"))
    'pools[1].layout.tp'
    """
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}"
    return text.removeprefix(".")


def read_document(path: Path) -> Document:
    """The YAML mapping in a file; ScenarioError where it is missing, unreadable, not YAML, or not a mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ScenarioError(
            where=str(path), given="", rule="no such file", way_out="give the path of a scenario, e.g. scenarios/x.yaml"
        ) from None
    except (OSError, UnicodeDecodeError) as failure:
        raise ScenarioError(where=str(path), given="", rule=f"cannot be read: {failure}") from None
    return parse_document(text, str(path))


def parse_document(text: str, file: str) -> Document:
    """The YAML mapping in a text; errors name `file`."""
    loaded = _parsed(text, file)
    if not isinstance(loaded, CommentedMap):
        given = "nothing" if loaded is None else type(plain(loaded)).__name__
        raise ScenarioError(
            where=file, given=given, rule="a scenario is a mapping of fields", way_out="see docs/scenarios.md"
        )
    marks: dict[Keys, str] = {}
    values = _Plainer(file, marks).plain(loaded, ())
    return Document(file, values, marks)


def parse_value(text: str, where: str) -> Any:
    """One YAML-typed value, as given to --set: 4, true, [0, 1], {tp: 2}, text."""
    return plain(_parsed(text, where))


def _parsed(text: str, file: str) -> Any:
    try:
        return YAML(typ="rt").load(text)
    except MarkedYAMLError as failure:
        mark = failure.problem_mark or failure.context_mark
        line = f":{mark.line + 1}" if mark else ""
        problem = str(failure.problem or failure.context or failure).splitlines()[0]
        duplicate = problem.startswith("found duplicate key")
        raise ScenarioError(
            where=f"{file}{line}",
            given="" if duplicate else problem,
            rule=problem.split(" with value")[0].removeprefix("found ") if duplicate else "is not YAML",
            way_out="keep one of the two" if duplicate else "mind indentation, colons and quotes",
        ) from None
    except (YAMLError, ValueError, RecursionError) as failure:
        raise ScenarioError(where=file, given=str(failure).splitlines()[0], rule="is not YAML") from None


def plain(value: Any) -> Any:
    """The YAML library's values as Python's own."""
    return _Plainer("", {}).plain(value, ())


class _Plainer:
    """Turns the parser's containers into dict and list, noting lines on the way."""

    def __init__(self, file: str, marks: dict[Keys, str]) -> None:
        self.file, self.marks, self.seen = file, marks, 0

    def plain(self, value: Any, keys: Keys) -> Any:
        self.seen += 1
        if self.seen > _MOST_VALUES or len(keys) > 50:
            raise ScenarioError(where=self.file, given="aliases", rule="make the file endless", way_out="write it out")
        if isinstance(value, CommentedMap):
            self._note(keys, value.lc.line)
            return {str(key): self._child(value, key, (*keys, str(key))) for key in value}
        if isinstance(value, CommentedSeq):
            self._note(keys, value.lc.line)
            return [self._child(value, index, (*keys, index)) for index in range(len(value))]
        return _scalar(value)

    def _child(self, parent: CommentedMap | CommentedSeq, key: Any, keys: Keys) -> Any:
        result = self.plain(parent[key], keys)
        data = parent.lc.data or {}
        if key in data:
            self.marks[keys] = f"{self.file}:{data[key][0] + 1}"
        return result

    def _note(self, keys: Keys, line: int | None) -> None:
        if self.file and line is not None and keys:
            self.marks[keys] = f"{self.file}:{line + 1}"


def _scalar(value: Any) -> Any:
    # Anchored booleans come as a subclass of int, so that the order of these matters.
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value).__name__ == "ScalarBoolean":
        return bool(value)
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return str(value)


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value
