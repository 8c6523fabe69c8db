"""What was asked of a fleet, in words."""

from collections.abc import Sequence

from simulator.model.architecture import Architecture
from simulator.model.counts import parameter_counts, weight_bytes
from simulator.model.kv_cache import kv_bytes_per_token
from simulator.parallel.layout import Layout
from simulator.scenario.facts import cluster_text, gpus_text, layout_text
from simulator.scenario.load import Entry
from simulator.scenario.schema import PoolSpec
from simulator.scenario.serving_place import Standing
from simulator.scenario.serving_schema import TrafficSpec
from simulator.units import format_bytes
from simulator.workload.requests import Requests


def serving_facts(
    entry: Entry, architecture: Architecture, pools: Sequence[tuple[PoolSpec, Standing, Layout]], requests: Requests,
    engine: str,
) -> dict[str, object]:  # fmt: skip
    """Facts in the order they are printed."""
    cluster = pools[0][1].cluster
    spec, counts, q = entry.spec, parameter_counts(architecture), architecture.quantization
    active = f", {counts.active / 1e9:.4g} B of them active for a token" if counts.active < counts.total else ""
    facts: dict[str, object] = {
        "Model": architecture.name,
        "Parameters": f"{counts.total / 1e9:.4g} B" + active,
        "Weights": f"{format_bytes(weight_bytes(architecture))} in {q.weights}",
        "KV cache": f"{format_bytes(kv_bytes_per_token(architecture))} a token in {q.kv_cache}",
        "Cluster": cluster_text(cluster),
    }
    for pool, standing, layout in pools:
        gpus = tuple(gpu for each in standing.gpus for gpu in each)
        what = f"{len(standing.gpus)} × {layout_text(layout)} on GPUs {gpus_text(gpus)}"
        if standing.cluster is not cluster:
            what += f" of {cluster_text(standing.cluster)}"
        facts[f"Pool {pool.name} ({pool.role})"] = what
    facts["Engine"] = engine
    told = spec.masters
    if told.count > 1 or told.dispatch != "0 s":
        facts["Masters"] = f"{told.count}, {told.policy}, {told.dispatch} a request, loads seen every {told.refresh}"
    assert spec.traffic is not None
    facts["Traffic"] = traffic_text(spec.traffic, requests)
    if spec.slo is not None:
        limits = (("TTFT", spec.slo.ttft), ("TPOT", spec.slo.tpot), ("E2EL", spec.slo.e2el))
        text = ", ".join(f"{name} {limit}" for name, limit in limits if limit)
        facts["Limits"] = f"{text}, by {spec.slo.share:.0%} of the requests"
    return facts


def traffic_text(spec: TrafficSpec, requests: Requests) -> str:
    """`1,000 requests, poisson at 4 a second, 2048 tokens in and 256 out on average`."""
    how = {
        "poisson": f"Poisson at {spec.rate:g} a second" if spec.rate else "",
        "gamma": f"Gamma at {spec.rate:g} a second, burstiness {spec.burstiness:g}" if spec.rate else "",
        "constant": f"constant at {spec.rate:g} a second" if spec.rate else "",
        "closed_loop": f"{spec.concurrency} clients, each waiting for its answer",
        "curve": f"a rate curve of {len(spec.curve)} points",
        "day": f"a day between {spec.low_rate or 0:g} and {spec.rate or 0:g} a second",
        "trace": f"recorded in {spec.trace}" + (f", {spec.speed:g} times as fast" if spec.speed != 1.0 else ""),
    }[spec.arrivals]
    what = "requests" if spec.conversation is None else "requests of conversations"
    return (
        f"{len(requests):,} {what}, {how}; {requests.input_tokens.mean():,.0f} tokens in and "
        f"{requests.output_tokens.mean():,.0f} out on average"
    )
