"""Median errors of replayed serving runs, in `validated.json`; written anew from a validation report:

shardsim validate --data DIR --json report.json
python -m simulator.planning.validated report.json
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from simulator.errors import DataError
from simulator.planning.question import Question

FILE = "validated.json"
TABLES = {"serving_closed_loop": "one pool", "serving_pd": "pools apart", "serving_speculative": "drafted tokens"}
"""Families of answers by the table that tells their errors."""
COMMAND = "shardsim validate --data DIR --json report.json; python -m simulator.planning.validated report.json"
TAIL = 95.0
"""Percentiles above take the error of measured 99th percentiles."""


@dataclass(frozen=True, slots=True)
class Validated:
    """Median relative errors of one family: half of its measured runs lie within."""

    ttft: float
    tpot: float
    e2el: float
    throughput: float
    source: str


def validated(question: Question, *, separated: bool) -> Validated:
    """The errors of runs like the answer's, at the measured percentile next to the question's."""
    family = "drafted tokens" if question.speculation else "pools apart" if separated else "one pool"
    found = _table()
    errors, percentile = found["families"][family], question.slo.percentile
    name = "median" if percentile <= 70.0 else "p90" if percentile <= TAIL else "p99"
    rows, table = errors["rows"], errors["table"]
    return Validated(
        errors[f"{name}_ttft_s"], errors[f"{name}_tpot_s"], errors["mean_e2el_s"],
        errors["total_tokens_per_s_per_gpu"], f"{rows:,} measured runs replayed ({table}), {found['date']}",
    )  # fmt: skip


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files("simulator.planning").joinpath(FILE).read_text(encoding="utf-8"))
    return found


def from_report(report: Mapping[str, Any], date: str, before: Mapping[str, Any]) -> dict[str, Any]:
    """The file's content from `shardsim validate --json`'s; families whose table is not in it stay as before.

    Raises DataError where the report holds none of the tables.
    """
    families = dict(before.get("families", {}))
    tables = {table["table"]: table for table in report.get("tables", ())}
    wanted = [table for table in TABLES if table in tables]
    if not wanted:
        raise DataError(where="report", given=", ".join(tables) or "nothing", rule=f"holds none of {', '.join(TABLES)}")
    for name in wanted:
        everyone = [group for group in tables[name]["groups"] if group["group"] == "all"]
        errors = {g["outcome"]: round(g["median_ape"], 3) for g in everyone if g["median_ape"] is not None}
        families[TABLES[name]] = {"table": name, "rows": tables[name]["rows"], **errors}
    return {"date": date, "command": COMMAND, "families": families}


def main(path: str) -> None:
    """Write `validated.json` anew from a report."""
    target = Path(str(files("simulator.planning").joinpath(FILE)))
    before = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
    report = json.loads(Path(path).read_text(encoding="utf-8"))
    content = from_report(report, f"{datetime.now(UTC):%Y-%m-%d}", before)
    target.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
