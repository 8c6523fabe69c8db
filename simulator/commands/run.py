"""`shardsim run`: scenario in, report out."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast

from simulator.commands.measured import measured_tables, setting, using, with_source
from simulator.commands.progress import Report, progress_bar
from simulator.commands.run_serving import has_traffic, run_live
from simulator.cost.kernel.measured import Tables
from simulator.engine.deployment import Deployment
from simulator.errors import ScenarioError
from simulator.metrics.result import RunResult
from simulator.metrics.run import run_deployment
from simulator.report.answer import answer_lines
from simulator.report.output import check_output
from simulator.report.summary import summary
from simulator.report.tables import check_format
from simulator.report.write import write_report
from simulator.scenario.load import load_scenario
from simulator.scenario.resolve import resolve

TABLES = ("csv", "parquet")


def run_command(
    path: str,
    out: Path | None,
    *,
    force: bool,
    quiet: bool,
    as_json: bool,
    settings: Sequence[str],
    tables: str,
    measured: str | None = None,
) -> None:
    """Everything that can be refused is refused before the simulation begins."""
    if tables not in TABLES:
        raise ScenarioError(where="--tables", given=repr(tables), rule="must be csv or parquet")
    chosen = cast(Literal["csv", "parquet"], tables)
    check_format(chosen)
    scenario = load_scenario(path, [*settings, *setting(measured)])
    folder = out or Path("reports") / folder_name(scenario.name)
    check_output(folder, force)
    if has_traffic(scenario):
        run_live(scenario, folder, chosen, force=force, quiet=quiet, as_json=as_json)
        return
    deployments = [resolve(entry) for entry in scenario.entries]
    with progress_bar(quiet) as report:
        kernels = [measured_tables(e, d.cluster, report) for e, d in zip(scenario.entries, deployments, strict=True)]
        runs = zip(deployments, kernels, strict=True)
        results = [_run(d, k, i, len(deployments), report) for i, (d, k) in enumerate(runs)]
        report("writing the report", 1.0)
        write_report(
            results, folder, chosen, force=force, title=scenario.name, description=scenario.description.strip()
        )
    if as_json:
        print(json.dumps(summary(results, scenario.name), indent=2, allow_nan=False))
    elif not quiet:
        for result in results:
            print("\n".join(answer_lines(result)))
        print(f"report: {folder / 'index.html'}")


def _run(deployment: Deployment, kernels: Sequence[Tables], index: int, count: int, report: Report) -> RunResult:
    def part(what: str, done: float) -> None:
        prefix = f"{deployment.name}: " if count > 1 else ""
        report(prefix + what, (index + done) / count)

    with using(kernels):
        return run_deployment(with_source(deployment, kernels), part)


def folder_name(name: str) -> str:
    """A name that any file system takes.

    >>> folder_name("EP on 18 nodes!")
    'EP_on_18_nodes'
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._") or "run"
