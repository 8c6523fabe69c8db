"""`summary.json`: the answers and totals of a run, for scripts."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from simulator import __version__
from simulator.metrics.result import RunResult
from simulator.report import digest


def summary(results: Sequence[RunResult], name: str) -> dict[str, Any]:
    """One object for the file, with one entry a run; times in seconds, sizes in bytes, NaN as null."""
    return {"shardsim": __version__, "name": name, "runs": [run_summary(result) for result in results]}


def run_summary(result: RunResult) -> dict[str, Any]:
    """One run's entry."""
    ops = digest.timed(result.ops)
    most = digest.fullest(result)
    found = result.correctness
    uneven, sent = digest.imbalance(result, ops), digest.handover(result)
    return {
        "name": result.name,
        "description": result.description,
        "facts": _plain(result.facts),
        "fits": result.fits,
        "correct": found.tokens_equal if found.checked else None,
        "correctness": _plain(asdict(found)),
        "prefill_s": digest.finite(result.prefill_s),
        "decode_s": digest.finite(result.decode_s),
        "tokens_per_s": digest.finite(digest.tokens_per_s(result)),
        "binds": result.binds,
        "communication_share": {phase: digest.comm_share(result, phase) for phase in digest.phases(result)},
        "memory": None if most is None else {**asdict(most), "share": most.share},
        "bytes_by_link_class": digest.bytes_by_class(result),
        "expert_imbalance": None if uneven is None else _plain(asdict(uneven)),
        "handover": None if sent is None else asdict(sent),
        "provenance": digest.provenance_shares(ops),
        "events": result.events,
        "warnings": list(result.warnings),
    }


def _plain(value: Any) -> Any:
    """JSON's own types; what has none is said as text."""
    match value:
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case None | bool() | int() | str():
            return value
        case float():
            return digest.finite(value)
        case _:
            return str(value)
