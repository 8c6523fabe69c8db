"""`shardsim compare`: a measured result beside its prediction, or two scenarios or runs beside each other."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from simulator.commands.plan import plan_command
from simulator.commands.run import run_command
from simulator.errors import DataError, ScenarioError
from simulator.metrics.compare import Side
from simulator.report.compare import beside, comparison_json, comparison_lines, read_sides
from simulator.report.compare_page import write_page
from simulator.scenario.document import read_document
from simulator.scenario.load import find_scenario

_JSON = (".json", ".jsonl")
MOST_SIDES = 8
"""Columns that a terminal can take."""


def compare_command(
    first: str, second: str | None, settings: Sequence[str], *, as_json: bool, page: Path | None = None
) -> None:
    """Print the comparison, and write it as a page. Scenarios are simulated, questions planned; files are read.

    Raises OutputError, DataError or ScenarioError, each of one line.
    """
    sides = _sides(first, settings)
    if second is not None:
        sides += _sides(second, settings)
    elif len(sides) == 1:
        if not first.endswith(_JSON):
            raise ScenarioError(
                where="compare", given=first, rule="is compared with nothing", way_out="name a second scenario or run"
            )
        sides += read_sides(beside(Path(first)))
    if len(sides) > MOST_SIDES:
        raise ScenarioError(
            where="compare", given=f"{len(sides)} runs", rule=f"at most {MOST_SIDES} stand side by side"
        )
    if page is not None:
        write_page(page, sides)
    if as_json:
        print(json.dumps(comparison_json(sides), indent=2, allow_nan=False))
    else:
        print("\n".join(comparison_lines(sides)))


def _sides(given: str, settings: Sequence[str]) -> tuple[Side, ...]:
    path = Path(given)
    if path.is_dir() or given.endswith(_JSON):
        return read_sides(path)
    with tempfile.TemporaryDirectory(prefix="shardsim.") as folder:
        out = Path(folder) / "run"
        if "objective" in read_document(find_scenario(given)).values:
            plan_command(given, out, force=False, quiet=True, as_json=False, settings=settings, workers=None)
        else:
            run_command(given, out, force=False, quiet=True, as_json=False, settings=settings, tables="csv")
        try:
            return read_sides(out)
        except DataError as failure:  # told of the question, not of a folder that is gone by then
            raise DataError(given=failure.given, rule=failure.rule, way_out="", where=given) from None
