"""Single files that commands write."""

from pathlib import Path

from simulator.errors import OutputError


def write_new(path: Path, text: str) -> None:
    """Write a file that does not exist yet, by rename at the end; OutputError where it exists or cannot be written."""
    if path.exists():
        raise OutputError(given=str(path), rule="exists", way_out="choose another name")
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.rename(path)
    except OSError as failure:
        part.unlink(missing_ok=True)
        raise OutputError(where=str(path), given="", rule=f"cannot be written: {failure.strerror}") from None


def written(path: Path) -> str:
    """What is said afterwards."""
    return f"wrote {path}"
