"""The numerics table: layers and probes down, formats across, errors shaded by their size."""

from html import escape
from math import isfinite, log10

import pandas as pd

from simulator.metrics.result import RunResult
from simulator.report.page.html import table, tag, text

_ALARM = {"float64": (1e-16, 1e-9), "float32": (1e-8, 1e-4), "bfloat16": (1e-4, 3e-1)}
"""Errors from which shading begins and at which it is full: rounding accumulates between, beyond it is no rounding."""
_OUTER = {-1: "before", -2: "head"}


def numerics_table(result: RunResult) -> str:
    """One row a layer and probe, one column a format (and pool, where there are two)."""
    frame = result.numerics
    if frame.empty:
        return ""
    several = frame["pool"].nunique() > 1
    column = frame["dtype"] + (", " + frame["pool"] if several else "")
    wide: pd.DataFrame = frame.assign(column=column).pivot_table(
        "max_relative_error", ["layer", "probe"], "column", "max", sort=False
    )
    wide = wide[sorted(wide.columns, key=lambda name: _column_order(str(name)))]
    head = "".join(f"<th class=n>{text(name)}</th>" for name in wide.columns)
    order = sorted(wide.index, key=lambda key: (key[0] < 0 and key[0] != -1, key[0] if key[0] >= 0 else 0))
    rows = "".join(_row(int(layer), str(probe), wide.loc[(layer, probe)]) for layer, probe in order)
    return (
        f'<div class="scroll tall"><table><thead><tr><th>layer</th><th>after</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _column_order(name: str) -> tuple[int, bool]:
    """Formats from precise to coarse, prefill before other pools."""
    dtype, _, pool = name.partition(", ")
    return list(_ALARM).index(dtype) if dtype in _ALARM else len(_ALARM), pool != "prefill"


def _row(layer: int, probe: str, errors: "pd.Series[float]") -> str:
    cells = "".join(_cell(str(name), float(value)) for name, value in errors.items())
    return f"<tr><td>{text(_OUTER.get(layer, layer))}</td><td>{text(probe)}</td>{cells}</tr>"


def _cell(column: str, error: float) -> str:
    if not isfinite(error):
        return "<td class=n>-</td>"
    low, high = _ALARM.get(column.split(",", maxsplit=1)[0], (1e-16, 1e-9))
    part = 0.0 if error <= low else min(1.0, log10(error / low) / log10(high / low))
    shown = "0" if error == 0 else f"{error:.2e}"
    return f'<td class="n heat" style="--heat:{part:.2f}">{escape(shown)}</td>'


def tokens_table(result: RunResult, most: int = 8) -> str:
    """The tokens themselves, sharded beside unsharded."""
    found = result.correctness
    if not found.checked:
        return tag("p", text(f"Nothing was checked: {found.reason}."), class_="note")
    rows = []
    for index, (mine, theirs) in enumerate(zip(found.sharded, found.reference, strict=False)):
        rows.append(
            (index, " ".join(map(str, mine)), " ".join(map(str, theirs)), "equal" if mine == theirs else "differ")
        )
    more = f" (the first {most} of {len(rows)} prompts)" if len(rows) > most else ""
    head = ("prompt", "sharded", "unsharded", "")
    return tag("h3", text(f"Generated tokens{more}")) + table(head, rows[:most], numeric=(0,))
