"""Who runs a plan's tasks, as the command line asks: here, in processes, on Dask; with or without a journal."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from simulator.errors import ScenarioError
from simulator.planning.execute import Executor, InProcess, Processes, worker_count
from simulator.planning.execute_dask import DaskRunner
from simulator.planning.fingerprint import Fingerprints
from simulator.planning.journal import Journal, Resuming
from simulator.planning.question import Question

KINDS = ("processes", "dask")


@contextmanager
def plan_executor(
    question: Question, kind: str, scheduler: str, workers: int | None, journal: Path | None
) -> Iterator[Executor]:
    """The executor for a question; what it holds open is closed at the end.

    Raises ScenarioError for options that do not go together, OutputError for a journal of another plan.
    """
    if kind not in KINDS:
        raise ScenarioError(where="--executor", given=repr(kind), rule=f"is none of {', '.join(KINDS)}")
    if scheduler and kind != "dask":
        raise ScenarioError(where="--scheduler", given=scheduler, rule="goes with --executor dask")
    if workers is not None and kind == "dask":
        raise ScenarioError(where="--workers", given=str(workers), rule="is the cluster's to say with --executor dask")
    with ExitStack() as stack:
        executor: Executor
        if kind == "dask":
            executor = stack.enter_context(DaskRunner(scheduler))
        elif (count := worker_count(workers)) > 1:
            executor = stack.enter_context(Processes(count))
        else:
            executor = InProcess()
        if journal is not None:
            held = stack.enter_context(Journal(journal, Fingerprints().of(question)))
            executor = Resuming(executor, held)
        yield executor
