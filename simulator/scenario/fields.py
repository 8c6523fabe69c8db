"""Kinds of field that scenario files are made of."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, StrictStr

from simulator.errors import ShardsimError
from simulator.units import parse_bandwidth, parse_bytes, parse_time

Count = Annotated[StrictInt, Field(ge=1, le=1_000_000)]
Many = Annotated[StrictInt, Field(ge=1, le=100_000_000)]
Natural = Annotated[StrictInt, Field(ge=0, le=1_000_000)]
Text = Annotated[StrictStr, Field(min_length=1)]
Name = Annotated[StrictStr, Field(min_length=1, max_length=80, pattern=r"^[^/\\\x00]+$")]


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number")
    return value


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
Share = Annotated[Number, Field(ge=0, le=1)]


def _time(value: str) -> str:
    try:
        time_s = parse_time(value)
    except ShardsimError as error:
        raise ValueError(f"{error.rule}; {error.way_out}") from None
    if time_s < 0:
        raise ValueError("must not be negative")
    return value


def _limit(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError('must be a time with its unit; write e.g. "200 ms"')
    if parse_or_refuse(value) <= 0:
        raise ValueError("must be more than 0")
    return value


def parse_or_refuse(value: str) -> float:
    """Seconds; the ValueError that pydantic tells on."""
    try:
        return parse_time(value)
    except ShardsimError as error:
        raise ValueError(f"{error.rule}; {error.way_out}") from None


Time = Annotated[StrictStr, AfterValidator(_time)]
Limit = Annotated[StrictStr, BeforeValidator(_limit)]
"""A time above 0."""


def _more_than_none(parse: Callable[[str], float]) -> Callable[[str], str]:
    def check(value: str) -> str:
        try:
            amount = parse(value)
        except ShardsimError as error:
            raise ValueError(f"{error.rule}; {error.way_out}") from None
        if amount <= 0:
            raise ValueError("must be more than 0")
        return value

    return check


Size = Annotated[StrictStr, AfterValidator(_more_than_none(parse_bytes))]
Rate = Annotated[StrictStr, AfterValidator(_more_than_none(parse_bandwidth))]


class Part(BaseModel):
    """A mapping of a scenario file: no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)
