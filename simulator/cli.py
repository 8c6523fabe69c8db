"""The command line: `shardsim run | schema | list | show | validate | topology | collectives`.

Commands are imported where they are called: pandas, networkx and pydantic take about a second together, which
`shardsim --help` and a mistyped option should not cost. Nowhere else does the project import inside functions.
"""

import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Annotated, ParamSpec

import typer

from simulator import __version__
from simulator.errors import ShardsimError

P = ParamSpec("P")

app = typer.Typer(
    name="shardsim",
    help="Simulates and prices sharded large language models: is it right, does it fit, how long does it take?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
show_app = typer.Typer(no_args_is_help=True, help="Show what a scenario stands for.")
topology_app = typer.Typer(no_args_is_help=True, help="Show topologies, or import one from a machine.")
collectives_app = typer.Typer(help="Time collectives, or compare a log of nccl-tests.", invoke_without_command=True)
app.add_typer(show_app, name="show")
app.add_typer(topology_app, name="topology")
app.add_typer(collectives_app, name="collectives")

Scenario = Annotated[str, typer.Argument(help="a scenario file, or the name of a shipped one")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="override a field, e.g. layout.tp=4; repeatable")
]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]
Nodes = Annotated[int | None, typer.Option(min=1, help="nodes of the cluster")]


def _told(command: Callable[P, int | None]) -> Callable[P, None]:
    """A user's error becomes one message on stderr and exit status 2; Ctrl-C, status 130."""

    @wraps(command)
    def told(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            status = command(*args, **kwargs)
        except ShardsimError as error:
            typer.echo(f"shardsim: {error}", err=True)
            raise typer.Exit(error.exit_status) from None
        except KeyboardInterrupt:
            typer.echo("shardsim: interrupted; nothing was written", err=True)
            raise typer.Exit(130) from None
        raise typer.Exit(status or 0)

    return told


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"shardsim {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print it")] = False,
) -> None:
    """Simulates and prices sharded large language models: is it right, does it fit, how long does it take?"""


@app.command()
@_told
def run(
    scenario: Scenario,
    out: Annotated[Path | None, typer.Option(help="folder to write; reports/NAME if left out")] = None,
    force: Annotated[bool, typer.Option("--force", help="replace an earlier report")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print nothing but errors")] = False,
    json: Annotated[bool, typer.Option("--json", help="print summary.json")] = False,
    settings: Settings = None,
    tables: Annotated[str, typer.Option(help="csv or parquet")] = "csv",
) -> None:
    """Simulate a scenario and write its report."""
    from simulator.commands.run import run_command

    run_command(scenario, out, force=force, quiet=quiet, as_json=json, settings=settings or [], tables=tables)


@app.command()
@_told
def schema(
    topology: Annotated[bool, typer.Option("--topology", help="of topology files instead")] = False,
) -> None:
    """Print the JSON schema of scenario files, for editors."""
    from simulator.commands.show import schema_command

    schema_command(topology)


@app.command("list")
@_told
def list_(
    what: Annotated[str, typer.Argument(help="topologies, models, gpus or scenarios")], json: Json = False
) -> None:
    """List what ships with the program."""
    from simulator.commands.show import list_command

    list_command(what, json)


@show_app.command()
@_told
def program(
    scenario: Scenario,
    settings: Settings = None,
    phase: Annotated[str, typer.Option(help="prefill or decode")] = "decode",
    pool: Annotated[str, typer.Option(help="name of a pool; the phase's own if left out")] = "",
    rank: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Print what one rank does in one step, op by op."""
    from simulator.commands.show import program_command

    program_command(scenario, settings or [], phase, pool, rank)


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    # As Ctrl-C: unwinds, so that half-written results are removed.
    sys.exit(128 + signal.SIGTERM)


def main() -> None:
    """Entry point of `shardsim`."""
    signal.signal(signal.SIGTERM, _terminated)
    app()
