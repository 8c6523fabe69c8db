"""The command line: `shardsim run | plan | calibrate | schema | list | show | validate | topology | collectives`.

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
from simulator.errors import ScenarioError, ShardsimError

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
Topology = Annotated[str, typer.Argument(help="a topology file, or the name of a shipped one")]
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
            kept = kwargs.get("journal")
            said = f"the journal {kept} keeps what was found" if kept else "nothing was written"
            typer.echo(f"shardsim: interrupted; {said}", err=True)
            raise typer.Exit(130) from None
        if status:
            raise typer.Exit(status)

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
    measured: Annotated[
        str | None,
        typer.Option(metavar="silicon|PROFILE", help="measured kernel times: of the extra, or from `calibrate`"),
    ] = None,
) -> None:
    """Simulate a scenario and write its report."""
    from simulator.commands.run import run_command

    run_command(
        scenario, out, force=force, quiet=quiet, as_json=json, settings=settings or [], tables=tables, measured=measured
    )


@app.command()
@_told
def plan(
    scenario: Annotated[str, typer.Argument(metavar="PLAN", help="a plan's file, or the name of a shipped one")],
    out: Annotated[Path | None, typer.Option(help="folder to write; reports/NAME if left out")] = None,
    force: Annotated[bool, typer.Option("--force", help="replace an earlier report")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print nothing but errors")] = False,
    json: Annotated[bool, typer.Option("--json", help="print the whole plan as JSON")] = False,
    settings: Settings = None,
    workers: Annotated[int | None, typer.Option(min=1, help="processes; one a core if left out")] = None,
    executor: Annotated[str, typer.Option(help="processes or dask")] = "processes",
    scheduler: Annotated[str, typer.Option(metavar="ADDRESS", help="of a Dask cluster, e.g. tcp://host:8786")] = "",
    journal: Annotated[
        Path | None, typer.Option(help="folder that keeps results as they come; the same command goes on from it")
    ] = None,
) -> int:
    """Find the cheapest deployment that holds a load within limits; exit status 3 where nothing does."""
    from simulator.commands.plan import plan_command

    return plan_command(
        scenario,
        out,
        force=force,
        quiet=quiet,
        as_json=json,
        settings=settings or [],
        workers=workers,
        executor=executor,
        scheduler=scheduler,
        journal=journal,
    )


@app.command()
@_told
def compare(
    first: Annotated[
        str, typer.Argument(metavar="A", help="measured result, run or plan (file or folder), or scenario")
    ],
    second: Annotated[
        str | None, typer.Argument(metavar="B", help="the same; left out: the prediction beside a measured result")
    ] = None,
    settings: Settings = None,
    json: Json = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="also write a page to open from disk")] = None,
) -> None:
    """Put a measured benchmark beside its prediction, or two scenarios or runs beside each other."""
    from simulator.commands.compare import compare_command

    compare_command(first, second, settings or [], as_json=json, page=html)


@app.command()
@_told
def calibrate(
    table: Annotated[Path, typer.Argument(metavar="MEASURED.csv", help="measured kernels, CSV or Parquet")],
    gpu: Annotated[str, typer.Option(help="name of the GPU they were measured on")],
    out: Annotated[Path | None, typer.Option(help="profile to write; NAME.profile.json if left out")] = None,
) -> None:
    """Check a table of measured kernel times and make a device profile of it."""
    from simulator.commands.calibrate import calibrate_command

    calibrate_command(table, gpu, out)


@app.command()
@_told
def schema(
    topology: Annotated[bool, typer.Option("--topology", help="of topology files instead")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="of plans' files instead")] = False,
) -> None:
    """Print the JSON schema of scenario files, for editors."""
    from simulator.commands.show import schema_command

    schema_command(topology, plan)


@app.command("list")
@_told
def list_(
    what: Annotated[str, typer.Argument(help="topologies, models, gpus, scenarios or plans")], json: Json = False
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


@app.command()
@_told
def validate(
    data: Annotated[Path, typer.Option(help="folder of the measured tables")],
    table: Annotated[str | None, typer.Option(help="one table only")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the report here as JSON")] = None,
    predictions: Annotated[Path | None, typer.Option(help="write the tables with predicted columns here")] = None,
    workers: Annotated[int | None, typer.Option(help="processes; one for each core if left out")] = None,
) -> int:
    """Predict measured tables and say how far off."""
    from simulator.validation.command import validate_command

    return validate_command(data, table, json_file, predictions, workers)


@topology_app.command("show")
@_told
def topology_show(
    topology: Topology,
    nodes: Nodes = None,
    plot: Annotated[Path | None, typer.Option(help="draw it into this HTML file")] = None,
) -> None:
    """Print a topology's parts, links and routes."""
    from simulator.commands.topology import show_command

    show_command(topology, nodes, plot)


@topology_app.command("import")
@_told
def topology_import(
    dump: Annotated[Path, typer.Argument(help="output of `nvidia-smi topo -m`, or NCCL topology XML; - reads stdin")],
    out: Annotated[Path | None, typer.Option(help="topology file to write; printed if left out")] = None,
    gpu: Annotated[str | None, typer.Option(help="GPU model, where the dump does not name it")] = None,
) -> None:
    """Make a topology file from what a machine prints about itself."""
    from simulator.commands.topology import import_command

    import_command(dump, out, gpu)


@collectives_app.callback()
@_told
def collectives(
    context: typer.Context,
    topology: Annotated[str, typer.Option(help="a topology file, or the name of a shipped one")] = "",
    nodes: Annotated[int, typer.Option(min=1)] = 1,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="ranks, spread evenly over the nodes; all if left out")
    ] = None,
    op: Annotated[str, typer.Option(help="all_reduce, all_gather, reduce_scatter, all_to_all, ...")] = "all_reduce",
    smallest: Annotated[str, typer.Option("--min", help="smallest message")] = "8",
    largest: Annotated[str, typer.Option("--max", help="largest message")] = "16G",
    factor: Annotated[float, typer.Option(help="from one size to the next")] = 2.0,
    algorithm: Annotated[str | None, typer.Option(help="force one, e.g. ring; else as the library chooses")] = None,
    library: Annotated[str, typer.Option(help="nccl, rccl, vllm, sglang, ...")] = "nccl",
    mode: Annotated[
        str,
        typer.Option(help="nccl-tests, graph, eager (launched from Python) or one-process (for all GPUs of a node)"),
    ] = "nccl-tests",
    routing: Annotated[str, typer.Option(help="default, ecmp, rail_aligned or adaptive")] = "default",
    fault: Annotated[
        list[str] | None, typer.Option(help="FROM,TO[,FACTOR[,TIME]]: a link that slows or (0) fails, and when")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="draw bus bandwidth into this HTML file")] = None,
    measured: Annotated[
        Path | None, typer.Option(help="a log of nccl-tests, or a table of collectives, to draw over the curve")
    ] = None,
) -> None:
    """Print the table nccl-tests would print, predicted for a topology."""
    if context.invoked_subcommand is not None:
        return
    from simulator.commands.collectives import collectives_command

    if not topology:
        raise ScenarioError(where="--topology", given="", rule="is required", way_out="e.g. --topology dgx_h100")
    sizes = (smallest, largest, factor)
    collectives_command(
        topology,
        op,
        nodes=nodes,
        gpus=gpus,
        sizes=sizes,
        algorithm=algorithm,
        library=library,
        plot=plot,
        measured=measured,
        mode=mode,
        routing=routing,
        faults=fault or (),
    )


@collectives_app.command("check")
@_told
def collectives_check(
    log: Annotated[Path, typer.Argument(help="output of nccl-tests; - reads stdin")],
    topology: Annotated[str, typer.Option(help="a topology file, or the name of a shipped one")],
    nodes: Annotated[int, typer.Option(min=1)] = 1,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="ranks, spread evenly over the nodes; all if left out")
    ] = None,
    op: Annotated[str | None, typer.Option(help="where the log does not name it")] = None,
) -> int:
    """Say of each size in a log of nccl-tests whether it is what this topology should give; status 1 if not."""
    from simulator.commands.collectives import check_command

    return check_command(log, topology, nodes=nodes, gpus=gpus, op=op)


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    # As Ctrl-C: unwinds, so that half-written results are removed.
    sys.exit(128 + signal.SIGTERM)


def main() -> None:
    """Entry point of `shardsim`."""
    signal.signal(signal.SIGTERM, _terminated)
    app()
