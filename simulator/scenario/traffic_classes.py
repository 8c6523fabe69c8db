"""Traffic of several classes: which request belongs to which, and what that says of its lengths and its priority."""

from dataclasses import replace

import numpy as np

from simulator.errors import ScenarioError
from simulator.scenario.load import Entry
from simulator.scenario.serving_schema import LengthSpec, TrafficSpec
from simulator.workload import ClosedLoop, Law, Requests, stream
from simulator.workload.requests import Ints


def law_of(length: LengthSpec) -> Law:
    """The law that a scenario's lengths describe."""
    return Law(length.mean, length.spread, length.cv, length.most)


def with_classes(entry: Entry, spec: TrafficSpec, made: Requests | ClosedLoop) -> Requests | ClosedLoop:
    """The same requests, each of a class drawn by the classes' shares; all requests of a conversation are of one.

    Raises ScenarioError for a name given twice, and for lengths where a trace or conversations say them.
    """
    _check(entry, spec)
    requests = made.requests if isinstance(made, ClosedLoop) else made
    shares = np.array([each.share for each in spec.classes])
    rng = stream(spec.seed, "classes")
    if requests.session is None:
        kind = rng.choice(len(shares), len(requests), p=shares / shares.sum())
    else:
        drawn = rng.choice(len(shares), int(requests.session.max()) + 1, p=shares / shares.sum())
        kind = drawn[requests.session]
    priority = np.array([each.priority for each in spec.classes], dtype=np.int64)[kind]
    changed = replace(
        requests, kind=kind.astype(np.int64), priority=priority,
        input_tokens=_lengths(spec, "input_tokens", requests.input_tokens, kind),
        output_tokens=_lengths(spec, "output_tokens", requests.output_tokens, kind),
    )  # fmt: skip
    return replace(made, requests=changed) if isinstance(made, ClosedLoop) else changed


def _check(entry: Entry, spec: TrafficSpec) -> None:
    names = [each.name for each in spec.classes]
    for place, each in enumerate(spec.classes):
        where = entry.document.where(("traffic", "classes", place))
        if each.name in names[:place]:
            raise ScenarioError(where=where, given=each.name, rule="is the name of two classes", way_out="rename one")
        told = each.input_tokens or each.output_tokens
        if told is not None and (spec.arrivals == "trace" or spec.conversation is not None):
            what = "the trace" if spec.arrivals == "trace" else "the conversation"
            raise ScenarioError(where=where, given="lengths", rule=f"{what} says them", way_out="take them out")


def _lengths(spec: TrafficSpec, name: str, tokens: Ints, kind: Ints) -> Ints:
    tokens = tokens.copy()
    for place, each in enumerate(spec.classes):
        length: LengthSpec | None = getattr(each, name)
        if length is not None:
            mine = np.flatnonzero(kind == place)
            tokens[mine] = law_of(length).draw(stream(spec.seed, f"{name} of {each.name}"), len(mine))
    return tokens
