"""From `traffic:` to requests. What is wrong is told from the scenario's field, or from the trace's line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from simulator.errors import ScenarioError, ShardsimError
from simulator.model.architecture import Architecture
from simulator.scenario.load import Entry
from simulator.scenario.serving_schema import ConversationSpec, LengthSpec, TraceFormat, TrafficSpec, WaitSpec
from simulator.scenario.traffic_classes import law_of, with_classes
from simulator.units import parse_time
from simulator.workload import (
    ClosedLoop,
    Conversation,
    Requests,
    Retrieval,
    Tools,
    Wait,
    constant_arrivals,
    conversations,
    curve_arrivals,
    day_curve,
    fixed_lengths,
    gamma_arrivals,
    poisson_arrivals,
    read_azure_csv,
    read_burstgpt_csv,
    read_lengths_csv,
    read_mooncake_jsonl,
    read_servegen,
    read_vllm_result,
    stream,
    uniform_lengths,
)
from simulator.workload.requests import Floats, Ints

Traffic = Requests | ClosedLoop
DAY_S = 86_400.0
DEFAULT_REQUESTS = 1000


def traffic_of(entry: Entry, architecture: Architecture) -> Traffic:
    """The requests of a scenario. Raises ScenarioError or WorkloadError, with the field's place in the file."""
    spec = entry.spec.traffic
    assert spec is not None
    _check_fields(entry, spec)
    try:
        made = _trace(entry, spec, architecture) if spec.arrivals == "trace" else _drawn(entry, spec, architecture)
    except ShardsimError as error:
        if isinstance(error, ScenarioError) or str(entry.document.file) in error.where:
            raise
        raise error.at(f"{entry.document.where(('traffic',))}: ") from None
    if spec.classes:
        made = with_classes(entry, spec, made)
    requests = made.requests if isinstance(made, ClosedLoop) else made
    _check_context(entry, requests, architecture)
    masters = entry.spec.masters.count
    if masters > len(requests):
        raise _told(entry, ("masters", "count"), str(masters), f"there are {len(requests)} requests: a master would "
                    "have nothing to do", "use fewer masters, or more requests")  # fmt: skip
    return made


def _told(entry: Entry, keys: tuple[str, ...], given: str, rule: str, way_out: str = "") -> ScenarioError:
    return ScenarioError(where=entry.document.where(keys), given=given, rule=rule, way_out=way_out)


_NEEDS: dict[str, tuple[str, ...]] = {
    "poisson": ("rate",), "gamma": ("rate",), "constant": ("rate",), "closed_loop": ("concurrency",),
    "curve": ("curve",), "day": ("rate", "low_rate"), "trace": ("trace",),
}  # fmt: skip


def _check_fields(entry: Entry, spec: TrafficSpec) -> None:
    for name in _NEEDS[spec.arrivals]:
        if not getattr(spec, name):
            raise _told(entry, ("traffic", name), "nothing", f"arrivals: {spec.arrivals} needs it", "add it")
    for name, owners in (("concurrency", ("closed_loop",)), ("curve", ("curve",)), ("trace", ("trace",))):
        if getattr(spec, name) and spec.arrivals not in owners:
            raise _told(
                entry, ("traffic", name), "given", f"arrivals: {spec.arrivals} does not use it", "take it out"
            )  # fmt: skip
    if spec.arrivals == "trace":
        return
    if spec.lengths is None and (spec.input_tokens is None or spec.output_tokens is None):
        missing = "input_tokens" if spec.input_tokens is None else "output_tokens"
        raise _told(entry, ("traffic", missing), "nothing", "is needed", "add it, or lengths: a CSV to draw from")
    if spec.lengths is not None and spec.conversation is not None:
        raise _told(entry, ("traffic", "lengths"), spec.lengths, "conversations take input_tokens and output_tokens")


def _check_context(entry: Entry, requests: Requests, architecture: Architecture) -> None:
    total = requests.input_tokens + requests.output_tokens
    worst = int(np.argmax(total))
    if int(total[worst]) > architecture.max_position:
        given = f"{requests.input_tokens[worst]} + {requests.output_tokens[worst]} tokens of request {worst}"
        raise _told(entry, ("traffic", "input_tokens"), given,
                    f"{architecture.name} has max_position_embeddings = {architecture.max_position}",
                    "use shorter prompts or answers, or a model with a longer context")  # fmt: skip


# ---- drawn -----------------------------------------------------------------------------------------------------------


def _drawn(entry: Entry, spec: TrafficSpec, architecture: Architecture) -> Traffic:
    if spec.arrivals == "closed_loop":
        assert spec.concurrency is not None
        count = spec.requests or 10 * spec.concurrency
        warmups = 2 * spec.concurrency if spec.warmups is None else spec.warmups
        if spec.conversation is not None:
            law = _conversation(spec, spec.conversation, architecture.max_position)
            return ClosedLoop(conversations(law, np.zeros(count), spec.seed), spec.concurrency, warmups)
        given, asked = _lengths(entry, spec, count, architecture)
        return ClosedLoop(Requests(np.zeros(count), given, asked), spec.concurrency, warmups)
    times = _times(spec)
    if not len(times):
        raise _told(entry, ("traffic",), "no request", "the rate and the time are too small for one")
    if spec.conversation is not None:
        law = _conversation(spec, spec.conversation, architecture.max_position)
        return conversations(law, times, spec.seed)
    given, asked = _lengths(entry, spec, len(times), architecture)
    return Requests(times, given, asked)


def _times(spec: TrafficSpec) -> Floats:
    rng, rate = stream(spec.seed, "arrivals"), spec.rate or 1.0
    seconds = parse_time(spec.duration) if spec.duration else 0.0
    count = spec.requests or DEFAULT_REQUESTS
    if spec.arrivals in ("curve", "day"):
        points = [(parse_time(at), value) for at, value in spec.curve]
        if spec.arrivals == "day":
            points = [(at, value * rate) for at, value in day_curve((spec.low_rate or 0.0) / rate, 1.0)]
        times = curve_arrivals(rng, points, spec.requests)
    elif spec.arrivals == "constant":
        times = constant_arrivals(rate, count if not seconds else int(seconds * rate))
    else:
        if seconds and not spec.requests:  # so many that the last comes later, by ten standard deviations
            count = int(seconds * rate + 10.0 * (seconds * rate / spec.burstiness) ** 0.5) + 10
        law = poisson_arrivals if spec.arrivals == "poisson" else None
        times = law(rng, rate, count) if law else gamma_arrivals(rng, rate, spec.burstiness, count)
    return times[times < seconds] if seconds else times


def _lengths(entry: Entry, spec: TrafficSpec, count: int, architecture: Architecture) -> tuple[Ints, Ints]:
    if spec.lengths is not None:
        path, limit = beside(entry, spec.lengths, "lengths"), architecture.max_position
        given, asked = read_lengths_csv(path, longest=limit, drop=spec.too_long == "drop")
        rows = stream(spec.seed, "lengths").integers(len(given), size=count)
        return given[rows], asked[rows]
    assert spec.input_tokens is not None
    assert spec.output_tokens is not None
    return (
        _length(spec, spec.input_tokens, "input_tokens", count),
        _length(spec, spec.output_tokens, "output_tokens", count),
    )


def _length(spec: TrafficSpec, length: LengthSpec, name: str, count: int) -> Ints:
    if length.spread or length.cv:
        return law_of(length).draw(stream(spec.seed, name), count)
    if spec.range_ratio == 1.0:
        return fixed_lengths(round(length.mean), count)
    return uniform_lengths(stream(spec.seed, name), round(length.mean), spec.range_ratio, count)


def _waited(wait: WaitSpec) -> Wait:
    return Wait(parse_time(wait.mean), wait.cv)


def _conversation(spec: TrafficSpec, told: ConversationSpec, longest: int) -> Conversation:
    assert spec.input_tokens is not None
    assert spec.output_tokens is not None
    fetched, tools = told.retrieval, told.tools
    return Conversation(
        told.turns, law_of(spec.input_tokens), law_of(spec.output_tokens), _waited(told.think), told.system_tokens,
        told.system_prompts,
        Retrieval(_waited(fetched.latency), fetched.documents, fetched.count, fetched.tokens, fetched.skew)
        if fetched else None,
        Tools(tools.calls, _waited(tools.latency), law_of(tools.call), law_of(tools.result)) if tools else None,
        told.keep_kv, longest,
    )  # fmt: skip


# ---- recorded --------------------------------------------------------------------------------------------------------


def beside(entry: Entry, given: str, field: str) -> Path:
    """A file told from the scenario's folder, or from here where --set named it."""
    path = entry.folder / given
    path = Path(given) if not path.exists() and Path(given).exists() else path
    if not path.exists():
        raise _told(entry, ("traffic", field), repr(given), f"no such file ({path})", "mind the folder")
    return path


def format_of(path: Path) -> TraceFormat:
    """The format of a trace by its first line; "auto" where that tells nothing."""
    if path.is_dir():
        return "servegen"
    with path.open(encoding="utf-8", errors="replace") as handle:
        head = handle.readline()
    if path.suffix == ".csv":
        return "azure" if "ContextTokens" in head else "burstgpt" if "Request tokens" in head else "auto"
    if "hash_ids" in head or "input_length" in head:
        return "mooncake"
    return "vllm" if path.suffix == ".json" else "auto"


def _trace(entry: Entry, spec: TrafficSpec, architecture: Architecture) -> Traffic:
    path = beside(entry, spec.trace or "", "trace")
    kind = format_of(path) if spec.format == "auto" else spec.format
    longest, drop = architecture.max_position, spec.too_long == "drop"
    seconds = parse_time(spec.duration) if spec.duration else 0.0
    readers: dict[str, Callable[[], Traffic]] = {
        "azure": lambda: read_azure_csv(path, longest=longest, drop=drop),
        "mooncake": lambda: read_mooncake_jsonl(path, longest=longest, drop=drop),
        "burstgpt": lambda: read_burstgpt_csv(path, model=spec.only_model, longest=longest, drop=drop),
        "servegen": lambda: read_servegen(
            path, start_s=parse_time(spec.start), duration_s=seconds or 3600.0, seed=spec.seed, longest=longest
        ),
        "vllm": lambda: read_vllm_result(path, spec.seed),
    }  # fmt: skip
    if kind not in readers:
        raise _told(
            entry, ("traffic", "format"), "auto", f"the format of {path} is not clear from its first line",
            "set traffic.format",
        )  # fmt: skip
    read = readers[kind]()
    return read if isinstance(read, ClosedLoop) else _cut(entry, read, spec, seconds)


def _cut(entry: Entry, requests: Requests, spec: TrafficSpec, seconds: float) -> Requests:
    """The first `requests`, those of the first `duration`, at `speed` times the pace."""
    kept = min(len(requests), spec.requests or len(requests))
    if seconds:
        kept = min(kept, int(np.searchsorted(requests.arrival_s, seconds, side="left")))
    if not kept:
        raise _told(entry, ("traffic", "duration"), spec.duration or "", "holds no request", "take more of the trace")
    return Requests(
        requests.arrival_s[:kept] / spec.speed, requests.input_tokens[:kept], requests.output_tokens[:kept],
        requests.prefixes[:kept], requests.prefix_tokens,
        session=None if requests.session is None else requests.session[:kept],
    )  # fmt: skip
