"""Plans as JSON and back: `result_to_json`, `result_from_json`; the same for one evaluation of a sweep."""

from dataclasses import fields, is_dataclass
from math import isfinite
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from simulator.errors import DataError
from simulator.planning.result import Evaluation, PlanResult

T = TypeVar("T")
FORMAT = "shardsim plan 1"
"""Written as the first field; a file of another format is refused."""


def result_to_json(result: PlanResult) -> dict[str, Any]:
    """A plan as JSON values; numbers that are not finite become null."""
    return {"format": FORMAT, **_plain(result)}


def result_from_json(values: dict[str, Any]) -> PlanResult:
    """The plan that `result_to_json` wrote. Raises DataError for anything else."""
    if values.get("format") != FORMAT:
        raise DataError(where="format", given=repr(values.get("format")), rule=f"must be {FORMAT!r}")
    return _rebuilt(PlanResult, {key: value for key, value in values.items() if key != "format"}, "plan")


def evaluation_to_json(evaluation: Evaluation) -> dict[str, Any]:
    """One evaluation as JSON values."""
    plain: dict[str, Any] = _plain(evaluation)
    return plain


def evaluation_from_json(values: dict[str, Any]) -> Evaluation:
    """The evaluation that `evaluation_to_json` wrote. Raises DataError for anything else."""
    return _rebuilt(Evaluation, values, "evaluation")


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.compare}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not isfinite(value):
        return None
    return value


_HINTS: dict[type, dict[str, Any]] = {}


def _hints(kind: type) -> dict[str, Any]:
    if kind not in _HINTS:
        _HINTS[kind] = get_type_hints(kind)
    return _HINTS[kind]


def _rebuilt(kind: type[T], values: Any, where: str) -> T:
    if not isinstance(values, dict):
        raise DataError(where=where, given=repr(values)[:40], rule=f"must be an object of {kind.__name__}")
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise DataError(where=where, given=unknown[0], rule=f"is no field of {kind.__name__}")
    try:
        return kind(**{name: _typed(_hints(kind)[name], item, f"{where}.{name}") for name, item in values.items()})
    except TypeError as error:
        raise DataError(where=where, given=str(error), rule=f"is no {kind.__name__}") from None


def _typed(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        options = [option for option in get_args(kind) if option is not type(None)]
        return None if value is None else _typed(options[0], value, where)
    if origin is tuple:
        return _items(get_args(kind), value, where)
    if origin is Literal:
        if value not in get_args(kind):
            raise DataError(where=where, given=repr(value), rule=f"is none of {', '.join(map(str, get_args(kind)))}")
        return value
    if is_dataclass(kind) and isinstance(kind, type):
        return _rebuilt(kind, value, where)
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise DataError(where=where, given=repr(value)[:40], rule=f"must be {kind.__name__}")
    return float(value) if kind is float else value


def _items(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise DataError(where=where, given=repr(value)[:40], rule="must be a list")
    each = [kinds[0]] * len(value) if len(kinds) == 2 and kinds[1] is Ellipsis else list(kinds)
    if len(each) != len(value):
        raise DataError(where=where, given=f"{len(value)} items", rule=f"must have {len(each)}")
    return tuple(_typed(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(each, value, strict=True)))
