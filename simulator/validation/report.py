"""How far predictions lie from measurements: by table, group and outcome."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite, nan
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

ALL = "all"
FLOOR = "floor_tpot_s"
"""Column of a predictor's answer: the least time of a decode step."""


@dataclass(frozen=True, slots=True)
class GroupReport:
    """Errors of one outcome over one group of rows; shares, so 0.05 is 5 %. NaN where nothing was measured."""

    group: str
    outcome: str
    rows: int
    covered: int
    """Rows with a prediction; errors are over those of them that have a measured outcome."""
    measured: int
    median_ape: float
    mape: float
    p90_ape: float
    bias: float
    """Median of predicted / measured - 1."""
    baseline: float = nan
    """Median error of one constant times `FLOOR`, the constant fitted on these very rows; NaN where there is none."""


@dataclass(frozen=True, slots=True)
class TableReport:
    """One table: its groups, what was not covered and why; or why nothing was predicted."""

    table: str
    rows: int
    covered: int
    groups: tuple[GroupReport, ...]
    not_covered: Mapping[str, int]
    not_predicted: str = ""


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """All tables, in the order they were asked for."""

    tables: tuple[TableReport, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and text; NaN becomes null."""
        return {"tables": [_plain(asdict(table)) for table in self.tables]}

    def to_rich(self, *, groups: bool = True) -> Table:
        """The table that the command prints."""
        shown = Table(title="Predictions against measurements", title_justify="left")
        for name in ("table", "group", "outcome"):
            shown.add_column(name, overflow="fold")
        for name in ("rows", "covered", "median", "MAPE", "p90", "bias", "trivial"):
            shown.add_column(name, justify="right")
        for table in self.tables:
            if table.not_predicted:
                shown.add_row(table.table, "", f"not predicted yet: {table.not_predicted}", str(table.rows), "0")
            for line in table.groups:
                if groups or line.group == ALL:
                    numbers = (line.median_ape, line.mape, line.p90_ape, line.bias, line.baseline)
                    cells = [f"{x:.1%}" if isfinite(x) else "-" for x in numbers]
                    covered = f"{line.covered / line.rows:.0%}" if line.rows else "-"
                    shown.add_row(table.table, line.group, line.outcome, str(line.rows), covered, *cells)
        return shown


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def trivial_error(floor: pd.Series, measured: pd.Series) -> float:
    """Median error of one constant times the floor, the constant being the median of measured / floor."""
    both = floor.notna() & measured.notna() & (measured > 0) & (floor > 0)
    ratio = (measured[both] / floor[both]).to_numpy(float)
    return float(np.median(np.abs(np.median(ratio) / ratio - 1.0))) if len(ratio) else nan


def group_report(
    group: str, outcome: str, predicted: pd.Series, measured: pd.Series, floor: pd.Series | None = None
) -> GroupReport:
    """Errors of one group; `predicted`, `measured` and `floor` share their index."""
    covered = predicted.notna()
    both = covered & measured.notna() & (measured > 0)
    relative = (predicted[both] / measured[both] - 1.0).to_numpy(float)
    apes = np.abs(relative)
    numbers = (
        (float(np.median(apes)), float(apes.mean()), float(np.quantile(apes, 0.9)), float(np.median(relative)))
        if len(apes)
        else (nan,) * 4
    )
    trivial = nan if floor is None else trivial_error(floor, measured)
    return GroupReport(group, outcome, len(predicted), int(covered.sum()), int(both.sum()), *numbers, trivial)


def table_report(table: str, measured: pd.DataFrame, predicted: pd.DataFrame, outcomes: tuple[str, ...]) -> TableReport:
    """The report of one table from its rows and a predictor's answer (aligned on the index)."""
    groups: list[GroupReport] = []
    names = predicted["group"].astype(str)
    have = [f"predicted_{outcome}" for outcome in outcomes if f"predicted_{outcome}" in predicted.columns]
    for column in have:
        outcome = column.removeprefix("predicted_")
        truth = measured[outcome] if outcome in measured.columns else pd.Series(nan, index=measured.index)
        asked = predicted[column].notna() | truth.notna()
        floor = predicted[FLOOR] if FLOOR in predicted.columns and outcome.endswith("_tpot_s") else None
        whole = None if floor is None else floor[asked]
        groups.append(group_report(ALL, outcome, predicted[column][asked], truth[asked], whole))
        for name, index in names[asked].groupby(names[asked]).groups.items():
            part = None if floor is None else floor.loc[index]
            groups.append(group_report(str(name), outcome, predicted.loc[index, column], truth.loc[index], part))
    covered = predicted[have].notna().any(axis=1) if have else pd.Series(False, index=predicted.index)
    reasons = predicted.loc[~covered, "not_covered_because"].value_counts()
    return TableReport(
        table, len(measured), int(covered.sum()), tuple(groups), {str(k): int(v) for k, v in reasons.items()}
    )
