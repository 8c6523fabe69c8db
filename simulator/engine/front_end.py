"""What stands between a client and the scheduler: HTTP, tokeniser, and a scheduler that plans a step ahead."""

from collections import deque
from dataclasses import dataclass
from math import inf

from simulator.errors import WorkloadError


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """How a request gets to the scheduler. Times in seconds; the default is nothing in between.

    Raises WorkloadError for negative times.
    """

    request_s: float = 0.0
    """One request through HTTP, tokeniser and the queue to the scheduler; one after the other."""
    token_s: float = 0.0
    """The same for each prompt token."""
    ahead: bool = False
    """A step is put together while the one before it runs, so a request is seen by the step after the next."""
    cold_s: float = 0.0
    """What the first prompt step of a run takes longer: shapes that no earlier run has warmed up."""

    def __post_init__(self) -> None:
        if min(self.request_s, self.token_s, self.cold_s) < 0.0:
            raise WorkloadError(where="front end", given=f"{self}", rule="times must not be negative")


class Door:
    """Requests on their way to the scheduler, in order."""

    def __init__(self, front: FrontEnd) -> None:
        self.front = front
        self.coming: deque[tuple[float, int]] = deque()
        """(when it can be seen, request)."""
        self._free_s = 0.0

    def send(self, number: int, sent_s: float, input_tokens: int) -> None:
        """A client sends a request; none was sent later than this one."""
        front = self.front
        self._free_s = max(self._free_s, sent_s) + front.request_s + front.token_s * input_tokens
        self.coming.append((self._free_s, number))

    def next_s(self) -> float:
        """When the next one can be seen; inf: none is on its way."""
        return self.coming[0][0] if self.coming else inf

    def take(self, seen_s: float) -> list[int]:
        """Those that a scheduler finds who looked last at `seen_s`."""
        found = []
        while self.coming and self.coming[0][0] <= seen_s:
            found.append(self.coming.popleft()[1])
        return found
