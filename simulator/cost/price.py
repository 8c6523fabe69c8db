"""A predicted time that says where it comes from."""

from dataclasses import dataclass
from typing import Literal

Provenance = Literal["measured", "fitted", "roofline"]
Bound = Literal["compute", "memory", "latency", "link"]


@dataclass(frozen=True, slots=True)
class Price:
    """Seconds, with provenance, the expected relative error (0.1 = 10 %) and what binds."""

    time_s: float
    provenance: Provenance
    error: float
    bound: Bound
