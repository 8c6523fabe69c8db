"""What can happen in a fleet, and where a request can be.

Events are (time, order, kind, who, version) on one heap. At one time ends come before arrivals and the start of steps
comes last, so that a step sees everything that has happened by then; events of a kind happen in order of making.
"""

from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    """Kinds of events, in the order in which those of one time happen."""

    BOUNDARY = 0
    WIRED = 1
    """The last byte of a transfer has left."""
    MOVED = 2
    FAULT = 3
    REPAIR = 4
    NOTICE = 5
    REFRESH = 6
    DISPATCHED = 7
    ARRIVAL = 8
    BEGIN = 9


class At(IntEnum):
    """Where a request is."""

    NOWHERE = 0
    MASTER = 1
    REPLICA = 2
    """Waits for its prompt, or decodes where that was computed."""
    WANTS = 3
    """Asks a decode replica for pages."""
    MOVING = 4
    DECODE = 5
    LOST = 6
    """With a replica or master that is dead and not yet noticed."""
    HOMELESS = 7
    """No replica or master is left to take it."""
    FINISHED = 8
    REJECTED = 9


Event = tuple[float, int, int, int, int]


@dataclass(slots=True)
class Attempt:
    """What a replica is asked to do of a request: prompt and answer left, the answer so far counted to the prompt."""

    number: int
    input_tokens: int
    output_tokens: int
    hashes: tuple[int, ...] = ()
    park: bool = False
    priority: int = 0
