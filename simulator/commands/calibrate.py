"""`shardsim calibrate`: a user's measured kernels, checked and made into a device profile."""

from datetime import UTC, datetime
from pathlib import Path

from simulator.commands.text import write_new, written
from simulator.cost.kernel.device_profile import profile_text
from simulator.cost.kernel.user_table import UserTable, read_user_table
from simulator.errors import DataError, OutputError

_SHOWN = 5


def calibrate_command(path: Path, gpu: str, out: Path | None) -> None:
    """Reads, checks, says what was found, and writes the profile."""
    target = out or Path(f"{path.stem}.profile.json")
    if target.exists():
        raise OutputError(given=str(target), rule="exists", way_out="choose another name with --out")
    table = read_user_table(path, gpu)
    if table.rows.empty:
        raise DataError(where=str(path), given="", rule="no row can be used")
    print("\n".join(report_lines(table)))
    write_new(target, profile_text(table, datetime.now(UTC).date().isoformat()))
    print(written(target))
    print(f"use it with: shardsim run SCENARIO --measured {target}")


def report_lines(table: UserTable) -> list[str]:
    """Rows used, rows not used and why, and each group's error of leaving a row out."""
    lines = [f"{table.gpu}: {len(table.rows)} rows of {table.source}"]
    if table.others:
        lines.append(f"  {table.others} rows of other GPUs passed over")
    if table.suspects:
        lines.append(f"  {len(table.suspects)} rows are faster than HBM or peak allow: suspect, not used")
    lines += [
        f"    line {row.line}: {row.op} in {row.measured_s:.3g} s, possible are {row.bound_s:.3g} s"
        for row in table.suspects[:_SHOWN]
    ]
    if len(table.suspects) > _SHOWN:
        lines.append(f"    and {len(table.suspects) - _SHOWN} more")
    for name, group in table.tables().groups.items():
        error = "too few rows to tell" if group.error is None else f"{group.error:.1%}"
        lines.append(f"  {name}: {len(group.points)} points; error leaving a row out: {error}")
    return lines
