"""Tables cut into parts that are predicted apart: by several processes, and so that one bad row costs itself alone."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from simulator.errors import DataError, ShardsimError
from simulator.validation import (
    kernels,
    table_closed_loop,
    table_collectives,
    table_exchange,
    table_offline,
    table_open_loop,
    table_pd,
    table_requests,
    table_speculative,
    table_transfers,
    table_wide_ep,
)
from simulator.validation.answer import empty_answer, refuse
from simulator.validation.context import Context
from simulator.validation.tables import OUTCOMES, PER_REQUEST, kind_of

Predict = Callable[[pd.DataFrame, Context], pd.DataFrame]

# A predictor sees input columns only and answers on the same index: predicted_<outcome>, provenance,
# not_covered_because ("" where covered), group.
PREDICTORS: dict[str, Predict] = {
    "collectives": table_collectives.predict,
    "expert_all_to_all": table_exchange.predict,
    "kv_transfer": table_transfers.predict,
    "kernels": kernels.predict,
    "serving_offline": table_offline.predict,
    "serving_closed_loop": table_closed_loop.predict,
    "serving_pd": table_pd.predict,
    "serving_speculative": table_speculative.predict,
    "serving_open_loop": table_open_loop.predict,
    "wide_ep_production": table_wide_ep.predict,
    PER_REQUEST: table_requests.predict,
}
CUT_BY: dict[str, tuple[str, ...]] = {
    "serving_offline": ("gpu", "model"),
    "serving_closed_loop": ("gpu", "model"),
    "serving_pd": ("gpu", "model"),
    "serving_open_loop": ("gpu", "model"),
}
"""Columns whose values part a table: rows that share a server, and so its step-time table, stay together."""
WEIGHT: dict[str, float] = {
    "serving_closed_loop": 0.25, "serving_pd": 0.6, "serving_open_loop": 0.3, "serving_speculative": 0.3,
    "serving_offline": 0.05, "wide_ep_production": 0.3,
}  # fmt: skip
"""Seconds a row, about (2 cores, 2026-11-24): long parts go first, and the bar moves evenly."""
LIGHT = 0.002
WHOLE = (PER_REQUEST,)
"""Tables whose rows are one run: they cannot be told apart."""
DEFECT = "a defect of shardsim, please report: "


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one table, without outcomes."""

    table: str
    rows: pd.DataFrame
    data: Path

    @property
    def weight(self) -> float:
        """Seconds that it takes, about."""
        return len(self.rows) * WEIGHT.get(kind_of(self.table), LIGHT)


def parts_of(table: str, inputs: pd.DataFrame, data: Path) -> list[Part]:
    """The parts of one table; together they hold every row once."""
    columns = [name for name in CUT_BY.get(kind_of(table), ()) if name in inputs.columns]
    if not columns or not len(inputs):
        return [Part(table, inputs, data)]
    return [Part(table, rows, data) for _, rows in inputs.groupby(columns, sort=False, dropna=False)]


def answered(part: Part) -> pd.DataFrame:
    """A part's answer. Rows that make a predictor raise are found by halving, and refused with what was raised."""
    kind = kind_of(part.table)
    return _guarded(PREDICTORS[kind], part.rows, Context(part.data), kind)


def _guarded(predict: Predict, rows: pd.DataFrame, context: Context, kind: str) -> pd.DataFrame:
    try:
        answer = predict(rows, context)
        if not answer.index.equals(rows.index):
            raise DataError(where=f"predictor of {kind}", given=f"{len(answer)} rows", rule=f"must be {len(rows)} rows")
        return answer
    except Exception as error:
        if len(rows) <= 1 or kind in WHOLE:
            answer = empty_answer(rows, OUTCOMES[kind], rows.get("gpu", pd.Series("?", rows.index)).astype(str))
            refuse(answer, rows.index, _reason(error))
            return answer
    half = len(rows) // 2
    return pd.concat([_guarded(predict, some, context, kind) for some in (rows.iloc[:half], rows.iloc[half:])])


def _reason(error: Exception) -> str:
    """A ShardsimError's own words; for anything else that it is a defect, and where it was raised."""
    if isinstance(error, ShardsimError):
        return str(error)
    frames: list[traceback.FrameSummary] = list(traceback.extract_tb(error.__traceback__))
    last = frames[-1]
    return f"{DEFECT}{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"


def joined(answers: list[pd.DataFrame], index: pd.Index) -> pd.DataFrame:
    """The answers of all parts of a table, in the order of its rows."""
    return (pd.concat(answers) if len(answers) > 1 else answers[0]).loc[index]
