"""A validation error told in one sentence: file, line, field, value, rule and way out."""

from difflib import get_close_matches
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from simulator.errors import ScenarioError
from simulator.scenario.document import Document, Keys

Spec = TypeVar("Spec", bound=BaseModel)

_RULES = {
    "missing": "is required",
    "extra_forbidden": "unknown key",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be more than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "string_too_long": "must be at most {max_length} characters",
    "string_pattern_mismatch": "must be a plain name, without slashes",
    "list_type": "must be a list",
    "too_short": "must have at least {min_length} item(s)",
    "too_long": "must have at most {max_length} items",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping of fields",
    "literal_error": "must be one of {expected}",
}
_WAYS_OUT = {
    "int_type": "write it without quotes, unit or fraction",
    "model_type": "see docs/scenarios.md for the fields",
    "missing": "add it",
}


def checked(kind: type[Spec], document: Document) -> Spec:
    """The document as a spec, or one ScenarioError about its first problem."""
    try:
        return kind.model_validate(document.values)
    except ValidationError as error:
        raise told(error, document, kind) from None


def told(error: ValidationError, document: Document, kind: type[BaseModel]) -> ScenarioError:
    """The first problem (unknown keys before all, as they explain missing ones), and how many more there are."""
    found = [(_keys(e["loc"], document), e) for e in error.errors(include_url=False)]
    # A union says of the whole what its fitting branch says of a part: the part's word stands.
    found = [(keys, e) for keys, e in found if not any(len(k) > len(keys) and k[: len(keys)] == keys for k, _ in found)]
    keys, first = next(((k, e) for k, e in found if e["type"] == "extra_forbidden"), found[0])
    others = len({k for k, _ in found}) - 1
    rule, way_out = _rule(first)
    if first["type"] == "extra_forbidden":
        way_out = _suggestion(str(keys[-1]), kind, keys[:-1])
    return ScenarioError(
        where=document.where(keys),
        given=_given(first),
        rule=rule + (f" (and {others} more problem{'s' * (others > 1)})" if others else ""),
        way_out=way_out,
    )


def _keys(location: tuple[int | str, ...], document: Document) -> Keys:
    """Pydantic's location without the tags it adds for unions and validators."""
    keys: list[int | str] = []
    for index, step in enumerate(location):
        at = document.get(tuple(keys))
        inside = (isinstance(at, dict) and step in at) or (isinstance(at, list) and isinstance(step, int))
        last = index == len(location) - 1
        if inside or (last and isinstance(at, dict) and isinstance(step, str) and "[" not in step):
            keys.append(step)
    return tuple(keys)


def _given(error: ErrorDetails) -> str:
    if error["type"] in ("missing", "extra_forbidden"):
        return ""
    value = error["input"]
    if isinstance(value, dict | list):
        told = "a mapping" if isinstance(value, dict) else f"a list of {len(value)}"
        return "" if error["type"] == "value_error" else told
    return "nothing" if value is None else repr(value) if isinstance(value, str) else str(value).lower()


def _rule(error: ErrorDetails) -> tuple[str, str]:
    kind = error["type"]
    if kind == "value_error":
        rule, _, way_out = error["msg"].removeprefix("Value error, ").partition("; ")
        return rule, way_out
    template = _RULES.get(kind, error["msg"][:1].lower() + error["msg"][1:])
    return template.format(**{k: _short(v) for k, v in error.get("ctx", {}).items()}), _WAYS_OUT.get(kind, "")


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _suggestion(key: str, kind: type[BaseModel], place: Keys) -> str:
    known = _fields(kind, place)
    near = get_close_matches(key, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"known here are {', '.join(known)}"


def _fields(kind: type[BaseModel], place: Keys) -> list[str]:
    """Names of the fields at a place in the spec."""
    models = [kind]
    for step in place:
        if isinstance(step, str):
            inner = [field.annotation for model in models for name, field in model.model_fields.items() if name == step]
            models = [model for annotation in inner for model in _models(annotation)]
    return [name for model in models for name in model.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
