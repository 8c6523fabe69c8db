"""A progress bar on stderr, shown only on a terminal and only once there is something to wait for."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_PATIENCE_S = 0.7
"""Shorter waits pass without a bar."""

Report = Callable[[str, float], None]


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Report]:
    """Yields `report(what, part)`, part from 0 to 1; silent where quiet or stderr is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda _what, _part: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("", total=1.0)
    started = time.monotonic()
    shown = False

    def report(what: str, part: float) -> None:
        nonlocal shown
        if not shown and time.monotonic() - started > _PATIENCE_S:
            shown = True
            bar.start()
        bar.update(task, description=what, completed=part)

    try:
        yield report
    finally:
        if shown:
            bar.stop()
