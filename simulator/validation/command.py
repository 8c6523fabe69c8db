"""`shardsim validate`: predict the measured tables and say how far off."""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from simulator.errors import OutputError, ShardsimError
from simulator.planning.execute import InProcess, Processes, worker_count
from simulator.validation.parts import DEFECT
from simulator.validation.run import Run, run_tables


def write_text(path: Path, text: str) -> None:
    """Write by rename at the end, so that a broken run leaves no half file; OutputError where it cannot."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise OutputError(where=str(path), given=str(error.strerror or error), rule="cannot be written") from error


def write_results(run: Run, json_file: Path | None, predictions: Path | None) -> None:
    """The report as JSON, and every table with its predicted columns as CSV."""
    if json_file is not None:
        write_text(json_file, json.dumps(run.report.to_json(), indent=1, allow_nan=False) + "\n")
    if predictions is not None:
        for name, frame in run.predictions.items():
            write_text(predictions / f"{name}.csv", frame.to_csv(index=False))


def validate_command(
    data: Path,
    table: str | None = None,
    json_file: Path | None = None,
    predictions: Path | None = None,
    workers: int | None = None,
) -> int:
    """Predict, print the table of errors, write what was asked for; returns the exit status."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    count = worker_count(workers)
    with ExitStack() as stack:
        executor = stack.enter_context(Processes(count)) if count > 1 else InProcess()
        bar = stack.enter_context(
            Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
        )
        task = bar.add_task("", total=1.0)
        run = run_tables(
            data, (table,) if table else None, lambda what, part: bar.update(task, description=what, completed=part),
            executor,
        )  # fmt: skip
    console = Console() if sys.stdout.isatty() else Console(width=150)
    console.print(run.report.to_rich())
    for line in run.report.tables:
        for reason, rows in line.not_covered.items():
            if not line.not_predicted:
                console.print(f"{line.table}: {rows} of {line.rows} rows not covered: {reason}", soft_wrap=True)
    write_results(run, json_file, predictions)
    broken = sum(rows for line in run.report.tables for why, rows in line.not_covered.items() if why.startswith(DEFECT))
    if broken:
        print(f"{broken} rows were not predicted for a defect of shardsim; the lines above say where", file=sys.stderr)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of `python -m simulator.validation.command`."""
    parser = argparse.ArgumentParser(prog="python -m simulator.validation.command", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the measured tables")
    parser.add_argument("--table", help="one table only")
    parser.add_argument("--json", type=Path, dest="json_file", help="write the report here")
    parser.add_argument("--predictions", type=Path, help="write each table back here, with predicted columns")
    parser.add_argument("--workers", type=int, help="processes; one for each core if left out")
    given = parser.parse_args(arguments)
    try:
        return validate_command(given.data, given.table, given.json_file, given.predictions, given.workers)
    except ShardsimError as error:
        print(error, file=sys.stderr)
        return error.exit_status


if __name__ == "__main__":
    raise SystemExit(main())
