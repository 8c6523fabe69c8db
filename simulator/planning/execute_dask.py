"""Tasks on a Dask cluster: `DaskRunner(address)`. Needs the extra `shardsim[dask]`.

The scheduler sends a task again when its worker is lost, so a lost worker costs time and no result. Results come back
in the order in which they are done.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from gc import collect
from importlib import import_module
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Self, TypeVar

from simulator.errors import ScenarioError
from simulator.planning.build_id import build_id
from simulator.planning.execute import in_order

T = TypeVar("T")
R = TypeVar("R")
CONNECT_S = 15
"""How long a scheduler may take to answer; one that runs does so in milliseconds."""
AHEAD = 64
"""Tasks in flight for each thread of the cluster: enough to hide the way there, few enough to hold in memory."""

_AGAIN = "run the same command again: finished tasks are kept where it has a journal"


class DaskRunner:
    """A connection to a Dask scheduler, used as a context. Raises ScenarioError where there is none to be had."""

    def __init__(self, address: str) -> None:
        if find_spec("distributed") is None:
            raise ScenarioError(
                where="--executor", given="dask", rule="needs Dask", way_out="pip install 'shardsim[dask]'"
            )
        if not address:
            raise ScenarioError(
                where="--scheduler",
                given="",
                rule="--executor dask needs it",
                way_out="e.g. --scheduler tcp://HOST:8786",
            )
        self.address = address
        self._client: Any = None

    def __enter__(self) -> Self:
        refused = self._connect()
        if refused:
            self.close()
            # A client that failed to start closes itself when it is collected, and waits for ever where that falls into
            # the start of the next one (distributed 2026.8.0: Client.__del__ under LoopRunner's lock).
            collect()
            raise ScenarioError(where="--scheduler", given=self.address, rule=refused.splitlines()[0])
        return self

    def _connect(self) -> str:
        """What stands against this cluster; "" for nothing."""
        distributed: Any = import_module("distributed")
        try:
            self._client = distributed.Client(self.address, timeout=CONNECT_S, set_as_default=False)
            versions = self._client.run(build_id)
        except (OSError, ValueError) as failure:  # distributed's timeouts are OSErrors
            return f"no Dask scheduler answers: {failure}"
        except Exception as failure:  # whatever a worker says when it lacks this program
            return f"its workers cannot run this program: {failure}"
        other = sorted(set(versions.values()) - {build_id()})
        return f"its workers have shardsim {', '.join(other)}, not {build_id()}" if other else ""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the cluster; tasks still in flight are dropped."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def map(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """Results in the order of the tasks, as `simulator.planning.execute.Executor` has it."""
        return in_order(self.run(function, tasks))

    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
        """(number of the task, its result) as results come. What a task raises is raised here."""
        distributed: Any = import_module("distributed")
        client = self._client
        room = AHEAD * max(1, sum(client.nthreads().values()))
        number: dict[Any, int] = {}
        coming = distributed.as_completed(loop=client.loop)
        waiting = iter(range(len(tasks)))

        def send() -> None:
            index = next(waiting, None)
            if index is not None:
                # Equal tasks of several runs must not be taken for each other: pure=False makes a key of its own.
                future = client.submit(function, tasks[index], pure=False)
                number[future] = index
                coming.add(future)

        for _ in range(min(room, len(tasks))):
            send()
        try:
            for batch in coming.batches():
                # gather has a result computed again where its worker goes between finishing and handing it over.
                for future, result in zip(batch, client.gather(batch), strict=True):
                    yield number.pop(future), result
                    send()
        except distributed.KilledWorker as failure:
            rule = f"a task was with several workers as each was lost: {failure}".splitlines()[0]
            raise ScenarioError(where="--scheduler", given=self.address, rule=rule, way_out=_AGAIN) from None
        except (CancelledError, distributed.CancelledError):
            raise ScenarioError(
                where="--scheduler", given=self.address, rule="was lost in the middle", way_out=_AGAIN
            ) from None
