"""Device profiles: one file of checked measured rows of one GPU, made by `shardsim calibrate`.

Rows are kept, not ratios: a later version with other fitted parameters takes its own ratios when it opens the file.
"""

import json
from pathlib import Path

import pandas as pd

from simulator.cost.kernel.index import build
from simulator.cost.kernel.measured import Tables
from simulator.cost.kernel.user_table import OPS, UserTable
from simulator.errors import CalibrationError, ShardsimError
from simulator.hardware.catalogue import find_device

FORMAT = "shardsim device profile 1"


def profile_text(table: UserTable, date: str) -> str:
    """The file's content; `date` (YYYY-MM-DD) says when it was made."""
    columns: dict[str, dict[str, list[object]]] = {}
    for op in OPS:
        rows = table.rows[table.rows["op"] == op].drop(columns=["op", "gpu", "line"]).dropna(axis=1, how="all")
        if not rows.empty:
            columns[op] = {str(name): rows[name].tolist() for name in rows.columns}
    head = {"format": FORMAT, "gpu": table.gpu, "source": table.source, "date": date}
    return json.dumps(head | {"suspects": len(table.suspects), "rows": columns}, allow_nan=False) + "\n"


def read_profile(path: Path) -> Tables:
    """The tables of a profile. Raises CalibrationError where it is missing, corrupt or of another version."""
    remake = "make it with `shardsim calibrate MEASURED.csv --gpu NAME`"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        given = error.strerror if isinstance(error, OSError) else "not JSON"
        raise CalibrationError(
            where=str(path), given=str(given), rule="a device profile must be readable", way_out=remake
        ) from None
    version = found.get("format") if isinstance(found, dict) else None
    if version != FORMAT:
        raise CalibrationError(
            where=str(path), given=f"format {version!r}", rule=f"this version reads {FORMAT!r}", way_out=remake
        )
    try:
        gpu = find_device(found["gpu"]).name
        source = f"{found['source']}, calibrated {found['date']}"
        frames = [pd.DataFrame(found["rows"][op]).assign(op=op, gpu=gpu) for op in OPS if op in found["rows"]]
        return build(gpu, source, iter(frames), int(found["suspects"]))
    except (KeyError, TypeError, ValueError, ShardsimError) as error:
        raise CalibrationError(
            where=str(path), given=str(error), rule="a device profile holds checked rows", way_out=remake
        ) from None
