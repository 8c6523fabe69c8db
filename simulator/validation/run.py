"""Every measured table against its predictor."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from simulator.errors import DataError
from simulator.planning.execute import InProcess, Processes
from simulator.validation.parts import PREDICTORS, Part, answered, joined, parts_of
from simulator.validation.report import TableReport, ValidationReport, table_report
from simulator.validation.tables import OUTCOMES, PER_REQUEST, kind_of, read_table, without_outcomes

SMALL_S = 4.0
"""Seconds of work, about, below which starting processes costs more than it saves."""
Report = Callable[[str, float], None]
"""Told what is being predicted, and which part of the tables is done."""

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
    return frame, joined([answered(part) for part in _parts(table, frame, data)], frame.index)


def _parts(table: str, frame: pd.DataFrame, data: Path) -> list[Part]:
    return parts_of(table, without_outcomes(frame, table), data)


def tables_in(data: Path) -> tuple[str, ...]:
    """Names of the known tables that lie in a folder."""
    runs = sorted(path.stem for path in data.glob(f"{PER_REQUEST}_*.csv"))
    return tuple(name for name in (*PREDICTORS, *NOT_YET) if (data / f"{name}.csv").is_file()) + tuple(runs)


def run_tables(
    data: Path,
    tables: tuple[str, ...] | None = None,
    report: Report | None = None,
    executor: InProcess | Processes | None = None,
) -> Run:
    """Predict the named tables, or all that lie in `data`; `report` is told after each part.

    Who executes does not change a number: the same parts are answered apart wherever they run.
    """
    names = tuple(dict.fromkeys(tables or tables_in(data)))
    if not names:
        raise DataError(
            where=str(data), given="", rule="holds none of the measured tables",
            way_out=f"e.g. {next(iter(PREDICTORS))}.csv",
        )  # fmt: skip
    for name in names:
        if kind_of(name) not in PREDICTORS and name not in NOT_YET:
            raise DataError(
                where="--table", given=repr(name), rule="is no table known here",
                way_out=f"one of {', '.join((*PREDICTORS, *NOT_YET))}",
            )  # fmt: skip
    frames = {name: read_table(data, name) for name in names}
    predicted = [name for name in names if kind_of(name) in PREDICTORS]
    answers = _answers({name: _parts(name, frames[name], data) for name in predicted}, report, executor or InProcess())
    reports: list[TableReport] = []
    predictions: dict[str, pd.DataFrame] = {}
    for name, frame in frames.items():
        if name in answers:
            answer = joined(answers[name], frame.index)
            reports.append(table_report(name, frame, answer, OUTCOMES[kind_of(name)]))
            predictions[name] = frame.join(answer.drop(columns="group"))
        else:
            reports.append(TableReport(name, len(frame), 0, (), {NOT_YET[name]: len(frame)}, NOT_YET[name]))
    return Run(ValidationReport(tuple(reports)), predictions)


def _answers(
    parts: dict[str, list[Part]], report: Report | None, executor: InProcess | Processes
) -> dict[str, list[pd.DataFrame]]:
    """Answers of each table's parts in their order; long parts are begun first."""
    tasks = sorted((part for of in parts.values() for part in of), key=lambda part: -part.weight)
    whole, done = sum(task.weight for task in tasks), 0.0
    if whole < SMALL_S:
        executor = InProcess()
    if report is not None and tasks:
        report(tasks[0].table, 0.0)
    found: dict[int, pd.DataFrame] = {}
    for number, answer in executor.run(answered, tasks):
        found[id(tasks[number])] = answer
        done += tasks[number].weight
        if report is not None:
            report(tasks[number].table, done / whole)
    return {name: [found[id(part)] for part in of] for name, of in parts.items()}


def run_validation(data: Path, tables: tuple[str, ...] | None = None) -> ValidationReport:
    """How far the predictions lie from the tables in `data` (a folder laid out as its README says)."""
    return run_tables(data, tables).report
