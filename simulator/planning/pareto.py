"""Pareto fronts: candidates that no other beats on both axes."""

from collections.abc import Sequence

from simulator.planning.result import Evaluation, ParetoFront

FRONTS = (
    ("throughput per GPU against speed per user", "tokens_per_s_per_user", True, "output_tokens_per_s_per_gpu", True),
    ("cost against latency", "e2el_s", False, "usd_per_million_tokens", False),
)


def fronts(evaluations: Sequence[Evaluation]) -> tuple[ParetoFront, ...]:
    """Among confirmed candidates; where none was simulated, among those scored."""
    confirmed = [e for e in evaluations if e.status == "confirmed"]
    among = confirmed or [e for e in evaluations if e.holds]
    found = []
    for name, x, x_up, y, y_up in FRONTS:
        points = [
            (-_field(e, x) if x_up else _field(e, x), -_field(e, y) if y_up else _field(e, y), e.candidate.id)
            for e in among
            if getattr(e.score, x) is not None and getattr(e.score, y) is not None
        ]
        if points:
            found.append(ParetoFront(name, x, y, x_up, y_up, tuple(undominated(points))))
    return tuple(found)


def _field(evaluation: Evaluation, name: str) -> float:
    return float(getattr(evaluation.score, name))


def undominated(points: Sequence[tuple[float, float, str]]) -> list[str]:
    """Names of (x, y, name) points of which none has both smaller or equal, and one smaller; in order of x.

    >>> undominated([(1, 5, "a"), (2, 5, "b"), (2, 3, "c"), (4, 4, "d"), (1, 6, "e")])
    ['a', 'c']
    """
    best, found = float("inf"), []
    for _, y, name in sorted(points):
        if y < best:
            best = y
            found.append(name)
    return found
