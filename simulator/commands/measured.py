"""Measured kernel tables of a run: `--measured silicon|PROFILE`, or the scenario's `kernels: {measured: ...}`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from json import dumps
from pathlib import Path

from simulator.commands.progress import Report
from simulator.cost import kernel
from simulator.cost.kernel.device_profile import read_profile
from simulator.cost.kernel.index import package_tables
from simulator.cost.kernel.measured import Tables
from simulator.engine.deployment import Deployment
from simulator.errors import CalibrationError, ShardsimError
from simulator.scenario.load import Entry
from simulator.topology.cluster import Cluster

SILICON = "silicon"
"""The word for the tables of the extra of that name."""


def setting(measured: str | None) -> list[str]:
    """The override that `--measured` stands for; a path is taken from the working folder."""
    if measured is None:
        return []
    # JSON's strings are YAML's: a path may hold anything.
    return [f"kernels.measured={dumps(measured if measured == SILICON else str(Path(measured).resolve()))}"]


def measured_tables(entry: Entry, cluster: Cluster, report: Report) -> tuple[Tables, ...]:
    """Tables that the scenario asks for. Raises CalibrationError where they are missing or of none of its GPUs."""
    asked = entry.spec.kernels.measured
    if asked is None:
        return ()
    gpus = list(dict.fromkeys(device.name for device in cluster.block.devices))
    where = entry.document.where(("kernels", "measured"))
    try:
        if asked == SILICON:
            return tuple(package_tables(gpu, report) for gpu in gpus)
        tables = read_profile(entry.folder / asked)
    except ShardsimError as error:
        raise error.at(f"{where}: ") from None
    if tables.gpu not in gpus:
        raise CalibrationError(
            where=where, given=f"{asked} is of {tables.gpu}", rule=f"the cluster has {', '.join(gpus)}",
            way_out="calibrate on the cluster's GPU",
        )  # fmt: skip
    return (tables,)


@contextmanager
def using(tables: Sequence[Tables]) -> Iterator[None]:
    """Asks `tables` first while the block runs."""
    try:
        for each in tables:
            kernel.use_measured(each)
        yield
    finally:
        kernel.forget_measured()


def with_source(deployment: Deployment, tables: Sequence[Tables]) -> Deployment:
    """The deployment, its facts naming the tables with their version."""
    if not tables:
        return deployment
    return replace(deployment, facts=deployment.facts | {"Measured kernels": "; ".join(t.source for t in tables)})
