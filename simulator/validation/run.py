"""Every measured table against its predictor."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from simulator.errors import DataError
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
from simulator.validation.context import Context
from simulator.validation.report import TableReport, ValidationReport, table_report
from simulator.validation.tables import OUTCOMES, PER_REQUEST, kind_of, read_table, without_outcomes

Predict = Callable[[pd.DataFrame, Context], pd.DataFrame]
Report = Callable[[str, float], None]
"""Told what is being predicted, and which part of the tables is done."""

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
# Tables of measurements that have no predictor yet, and what they wait for.
NOT_YET: dict[str, str] = {
    "training_steps": "needs backward passes and pipeline schedules",
    "training_memory": "needs optimizer state and activation memory",
    "pipeline_bubbles": "needs pipeline schedules",
    "rl_steps": "needs backward passes and rollouts",
}


@dataclass(frozen=True, slots=True)
class Run:
    """The report, and each predicted table with its added columns."""

    report: ValidationReport
    predictions: dict[str, pd.DataFrame]


def predict_table(table: str, data: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(rows as read, the predictor's answer); the predictor never sees an outcome column."""
    frame = read_table(data, table)
    answer = PREDICTORS[kind_of(table)](without_outcomes(frame, table), Context(data))
    if not answer.index.equals(frame.index):
        raise DataError(
            where=f"predictor of {table}", given=f"{len(answer)} rows", rule=f"must answer {len(frame)} rows"
        )
    return frame, answer


def tables_in(data: Path) -> tuple[str, ...]:
    """Names of the known tables that lie in a folder."""
    runs = sorted(path.stem for path in data.glob(f"{PER_REQUEST}_*.csv"))
    return tuple(name for name in (*PREDICTORS, *NOT_YET) if (data / f"{name}.csv").is_file()) + tuple(runs)


def run_tables(data: Path, tables: tuple[str, ...] | None = None, report: Report | None = None) -> Run:
    """Predict the named tables, or all that lie in `data`; `report` is told before each."""
    names = tables or tables_in(data)
    if not names:
        raise DataError(
            where=str(data),
            given="",
            rule="holds none of the measured tables",
            way_out=f"e.g. {next(iter(PREDICTORS))}.csv",
        )
    reports: list[TableReport] = []
    predictions: dict[str, pd.DataFrame] = {}
    for done, name in enumerate(dict.fromkeys(names)):
        kind = kind_of(name)
        if report is not None:
            report(name, done / len(names))
        if kind in PREDICTORS:
            frame, answer = predict_table(name, data)
            reports.append(table_report(name, frame, answer, OUTCOMES[kind]))
            predictions[name] = frame.join(answer.drop(columns="group"))
        elif name in NOT_YET:
            rows = len(read_table(data, name))
            reports.append(TableReport(name, rows, 0, (), {NOT_YET[name]: rows}, NOT_YET[name]))
        else:
            raise DataError(
                where="--table", given=repr(name), rule="is no table known here",
                way_out=f"one of {', '.join((*PREDICTORS, *NOT_YET))}",
            )  # fmt: skip
    return Run(ValidationReport(tuple(reports)), predictions)


def run_validation(data: Path, tables: tuple[str, ...] | None = None) -> ValidationReport:
    """How far the predictions lie from the tables in `data` (a folder laid out as its README says)."""
    return run_tables(data, tables).report
