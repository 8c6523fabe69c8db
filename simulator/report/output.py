"""Results appear whole or not at all: written beside their place, then renamed into it."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simulator.errors import OutputError

MARK = "summary.json"
"""A folder that holds this file was written by a run, and may be replaced by another with --force."""


def check_output(out: Path, force: bool) -> None:
    """Raises OutputError where `out` exists (and may not be replaced) or cannot be written; leaves nothing behind."""
    out = out.absolute()
    if out.is_symlink() or out.exists():
        _check_replaceable(out, force)
    parent = out.parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise OutputError(where=str(out), given=str(parent), rule="is not a folder", way_out="choose another --out")
    try:  # asking for permission is no proof: root passes, and then a special or full file system refuses
        Path(tempfile.mkdtemp(prefix=".shardsim.", dir=parent)).rmdir()
    except OSError as failure:
        rule = f"cannot be written: {failure.strerror}"
        raise OutputError(where=str(out), given=str(parent), rule=rule, way_out="choose another --out") from None


def _check_replaceable(out: Path, force: bool) -> None:
    if not out.is_dir() or out.is_symlink():
        raise OutputError(given=str(out), rule="exists and is not a folder", way_out="choose another --out")
    if not force:
        raise OutputError(given=str(out), rule="exists", way_out="choose another --out, or replace it with --force")
    # --force must never empty a folder of something else, such as a home directory.
    if not (out / MARK).is_file() and any(out.iterdir()):
        raise OutputError(
            given=str(out),
            rule="is not a report of an earlier run, so it is not replaced",
            way_out="choose another --out",
        )


@contextmanager
def staged(out: Path, force: bool) -> Iterator[Path]:
    """A new folder beside `out` to write into; it becomes `out` at the end, or vanishes where anything goes wrong."""
    out = out.absolute()
    check_output(out, force)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as failure:
        raise OutputError(where=str(out), given="", rule=f"cannot be written: {failure.strerror}") from None
    try:
        yield folder
        folder.chmod(0o755)  # mkdtemp's folders are private
        _put_in_place(folder, out)
    except OSError as failure:
        raise OutputError(where=str(out), given="", rule=f"cannot be written: {failure.strerror or failure}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(folder: Path, out: Path) -> None:
    """Rename, with what was there moved aside first and removed last."""
    if not out.exists():
        folder.rename(out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.old.", dir=out.parent))
    try:
        out.rename(old / out.name)
        folder.rename(out)
    except BaseException:
        if (old / out.name).exists() and not out.exists():
            (old / out.name).rename(out)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
