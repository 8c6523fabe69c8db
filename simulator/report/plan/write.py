"""A plan's report: page, plan.json, summary, table of candidates and launch files; all of them or none."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simulator import __version__
from simulator.planning.launch_plan import material
from simulator.planning.result import Evaluation, PlanResult
from simulator.planning.result_json import result_to_json
from simulator.report.output import MARK, staged
from simulator.report.plan.answer import headline
from simulator.report.plan.page import plan_page
from simulator.report.plan.words import AXES, candidate_text, figure

PLAN_FILE = "plan.json"
_FILES = {"kubernetes": "manifest.yaml", "benchmark": "benchmark.sh"}


def write_plan(
    result: PlanResult, out: Path, *, force: bool = False, per_node: Mapping[str, int] | None = None
) -> Path:
    """Write index.html, plan.json, summary.json, candidates.csv and launch/ to the folder `out`; returns the page.

    Raises OutputError where `out` exists (and `force` is False, or it is no report) or cannot be written; nothing is
    left behind then.
    """
    with staged(out, force) as folder:
        (folder / "index.html").write_text(plan_page(result, per_node), encoding="utf-8")
        text = json.dumps(result_to_json(result), indent=1, allow_nan=False)
        (folder / PLAN_FILE).write_text(text + "\n", encoding="utf-8")
        _write_candidates(result, folder / "candidates.csv")
        if result.winner is not None:
            _write_launch(result, result.winner, folder / "launch", per_node)
        (folder / MARK).write_text(json.dumps(plan_summary(result), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return out / "index.html"


def plan_summary(result: PlanResult) -> dict[str, Any]:
    """The answer in a few fields, for scripts."""
    winner = result.winner
    score = winner.score if winner is not None else None
    return {
        "shardsim": __version__,
        "plan": result.name,
        "answer": headline(result),
        "feasible": result.feasible,
        "binding": result.binding,
        "winner": None if winner is None else {"id": winner.candidate.id, "is": candidate_text(winner.candidate)},
        "score": None if score is None else {name: figure(score, name) for name in AXES},
        "relax": list(result.relax),
        "notes": list(result.notes),
    }


def _write_candidates(result: PlanResult, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "pools", "status", "binding", "reason", *AXES))
        for each in result.evaluations:
            score = each.score
            figures = [figure(score, name) if score is not None else None for name in AXES]
            row = (each.candidate.id, candidate_text(each.candidate), each.status, each.binding, each.reason)
            writer.writerow((*row, *figures))


def _write_launch(result: PlanResult, winner: Evaluation, folder: Path, per_node: Mapping[str, int] | None) -> None:
    folder.mkdir()
    for piece in material(result, winner, per_node):
        name = _FILES.get(piece.group, f"{piece.group}.sh")
        if not piece.refused:
            (folder / name).write_text(piece.text if piece.text.endswith("\n") else piece.text + "\n", encoding="utf-8")
