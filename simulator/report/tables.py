"""The run's frames as files."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import pandas as pd

from simulator.errors import OutputError
from simulator.metrics.result import RunResult

Format = Literal["csv", "parquet"]
FRAMES = ("ops", "transfers", "links", "steps", "memory", "numerics", "expert_load", "handover")
MOST_PLAIN_ROWS = 300_000
"""Longer CSV tables are compressed: the ops of a large run take hundreds of megabytes as text."""


def check_format(tables: Format) -> None:
    """Raises OutputError where Parquet is asked for and cannot be written."""
    if tables == "parquet" and find_spec("pyarrow") is None:
        raise OutputError(
            where="--tables",
            given="parquet",
            rule="needs pyarrow, which is not installed",
            way_out="pip install 'shardsim[parquet]', or use csv",
        )


def write_tables(result: RunResult, folder: Path, tables: Format) -> None:
    """One file for each frame that has rows."""
    folder.mkdir(parents=True)
    for name in FRAMES:
        frame: pd.DataFrame = getattr(result, name)
        if frame.empty:
            continue
        if tables == "parquet":
            frame.to_parquet(folder / f"{name}.parquet", index=False)
        elif len(frame) > MOST_PLAIN_ROWS:
            frame.to_csv(folder / f"{name}.csv.gz", index=False, compression={"method": "gzip", "compresslevel": 1})
        else:
            frame.to_csv(folder / f"{name}.csv", index=False)
