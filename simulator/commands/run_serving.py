"""`shardsim run` on a scenario with traffic: serve it, and run its steps beside where it has a workload too."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from simulator.commands.measured import measured_tables, using, with_source
from simulator.commands.progress import Report, progress_bar
from simulator.errors import ScenarioError
from simulator.metrics.run import run_deployment
from simulator.metrics.serving_run import run_serving
from simulator.report.page.serving import Run
from simulator.report.serving_answer import serving_lines
from simulator.report.serving_write import serving_summary, write_serving_report
from simulator.scenario.load import Entry, Scenario
from simulator.scenario.resolve import resolve, resolve_cluster
from simulator.scenario.serving_resolve import Tables, resolve_serving


def has_traffic(scenario: Scenario) -> bool:
    """Whether this is live serving. Raises ScenarioError where only some variants of a comparison are."""
    live = [entry.spec.traffic is not None for entry in scenario.entries]
    if any(live) and not all(live):
        entry = scenario.entries[live.index(False)]
        raise ScenarioError(
            where=entry.document.file, given=f"variant {entry.spec.name!r} has no traffic",
            rule="live serving is compared with live serving", way_out="give every variant `traffic`, or none",
        )  # fmt: skip
    return all(live)


def run_live(
    scenario: Scenario, folder: Path, tables: Literal["csv", "parquet"], *, force: bool, quiet: bool, as_json: bool
) -> None:
    """Resolve, serve, write and print."""
    runs: list[Run] = []
    known: dict[str | None, Tables] = {}
    with progress_bar(quiet) as report:
        for index, entry in enumerate(scenario.entries):
            servers = known.setdefault(entry.spec.kernels.measured, {})
            runs.append(_run(entry, servers, _part(report, entry, index, len(scenario.entries))))
        report("writing the report", 1.0)
        write_serving_report(
            runs, folder, tables, force=force, title=scenario.name, description=scenario.description.strip()
        )
    if as_json:
        print(json.dumps(serving_summary(runs, scenario.name), indent=2, allow_nan=False))
    elif not quiet:
        for serving, _ in runs:
            print("\n".join(serving_lines(serving)))
        print(f"report: {folder / 'index.html'}")


def _part(report: Report, entry: Entry, index: int, count: int) -> Callable[[str, float], None]:
    def tell(what: str, done: float) -> None:
        report(f"{entry.spec.name}: {what}" if count > 1 else what, (index + done) / count)

    return tell


def _run(entry: Entry, servers: Tables, tell: Callable[[str, float], None]) -> Run:
    tell("step times", 0.0)
    kernels = measured_tables(entry, resolve_cluster(entry), tell)
    with using(kernels):
        serving = run_serving(resolve_serving(entry, servers), tell)
        if entry.spec.workload is None:
            return serving, None
        deployment = with_source(resolve(entry), kernels)
        steps = run_deployment(deployment, lambda what, done: tell(f"steps: {what}", done))
    return replace(serving, correctness=steps.correctness), steps
