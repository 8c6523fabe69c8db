"""`shardsim plan`: a question in, the cheapest layout that holds out, with the reasons."""

import json
from collections.abc import Sequence
from pathlib import Path

from simulator.commands.plan_executor import plan_executor
from simulator.commands.run import folder_name
from simulator.planning.plan import plan
from simulator.planning.result import PlanResult
from simulator.planning.result_json import result_to_json
from simulator.report.output import check_output
from simulator.report.plan.answer import headline
from simulator.report.plan.write import write_plan
from simulator.scenario.plan_resolve import load_plan, resolve_plan

INFEASIBLE = 3
"""Exit status where nothing holds."""


def plan_command(
    path: str, out: Path | None, *, force: bool, quiet: bool, as_json: bool, settings: Sequence[str],
    workers: int | None, executor: str = "processes", scheduler: str = "", journal: Path | None = None,
) -> int:  # fmt: skip
    """Resolve, search, write, print; status 3 where nothing holds."""
    entry = load_plan(path, settings)
    question = resolve_plan(entry)
    folder = out or Path("reports") / folder_name(question.name)
    check_output(folder, force)
    with plan_executor(question, executor, scheduler, workers, journal) as runner:
        result = plan(question, runner)
    return finish(result, folder, {p.name: p.per_node for p in question.platforms}, force, quiet, as_json)


def finish(result: PlanResult, folder: Path, per_node: dict[str, int], force: bool, quiet: bool, as_json: bool) -> int:
    """Write the report and print the answer."""
    write_plan(result, folder, force=force, per_node=per_node)
    if as_json:
        print(json.dumps(result_to_json(result), indent=2, allow_nan=False))
    elif not quiet:
        print("\n".join(plan_lines(result)))
        print(f"report: {folder / 'index.html'}")
    return 0 if result.feasible else INFEASIBLE


def plan_lines(result: PlanResult) -> list[str]:
    """The answer for a terminal."""
    lines = [f"{result.name}: {headline(result)}"]
    winner = result.winner
    if winner is None or winner.score is None:
        lines.append(f"  binds: {result.binding or 'nothing was looked at'}")
        return lines + [f"  relax: {advice}" for advice in result.relax]
    score = winner.score
    lines += [f"  {pool.role}: {pool.replicas} x {pool.gpus_per_replica} {pool.gpu}" for pool in winner.candidate.pools]
    lines.append(f"  layout: {winner.candidate.id}")
    lines.append(f"  binds: {winner.binding} ({winner.reason})")
    told = [("TTFT", score.ttft_s), ("TPOT", score.tpot_s), ("E2EL", score.e2el_s)]
    lines.append("  " + ", ".join(f"p{result.asked.slo.percentile:g} {n} {v:.3g} s" for n, v in told if v))
    lines.append(f"  holds {score.load_requests_per_s:.3g} requests/s")
    for change in result.sensitivity:
        after = change.note if change.after is None else f"{change.after:.3g}"
        lines.append(f"  {change.name}: {change.metric} {change.before:.3g} -> {after}")
    if result.confidence is not None:
        lines.append(f"  {result.confidence.text}")
    lines.append(
        f"  {sum(e.status == 'confirmed' for e in result.evaluations)} of {len(result.evaluations)} candidates"
    )
    lines[-1] += f" simulated; {result.elapsed_s:.1f} s"
    return lines
