"""What was asked, in words: the facts a report opens with."""

from simulator.engine.deployment import Pool, StepWorkload
from simulator.model.architecture import Architecture, MixtureOfExperts
from simulator.model.counts import parameter_counts, weight_bytes
from simulator.model.kv_cache import kv_bytes_per_token
from simulator.parallel.layout import AXES, Layout
from simulator.scenario.schema import ScenarioSpec
from simulator.topology.cluster import Cluster
from simulator.units import format_bandwidth, format_bytes


def layout_text(layout: Layout) -> str:
    """The axes that are cut: `dp_attention=8 ep=8`.

    >>> layout_text(Layout(tp=2, pp=3)), layout_text(Layout())
    ('tp=2 pp=3', 'one GPU')
    """
    names = ("tp", "pp", "dp", "cp", "dp_attention", "ep")
    parts = [f"{name}={getattr(layout, name)}" for name in names if getattr(layout, name) > 1]
    if layout.ep > 1 and layout.expert_tp > 1:
        parts.append(f"moe_tp={layout.expert_tp}")
    if layout.redundant_experts:
        parts.append(f"redundant_experts={layout.redundant_experts}")
    if layout.micro_batches > 1:
        parts.append(f"micro_batches={layout.micro_batches}")
    if layout.sequence_parallel:
        parts.append("sequence_parallel")
    if tuple(layout.rank_order) != AXES:
        parts.append(f"order {','.join(layout.rank_order)}")
    return " ".join(parts) or "one GPU"


def gpus_text(gpus: tuple[int, ...]) -> str:
    """Runs of consecutive GPUs: `0-7, 12`."""
    runs: list[list[int]] = []
    for gpu in gpus:
        if runs and gpu == runs[-1][1] + 1:
            runs[-1][1] = gpu
        else:
            runs.append([gpu, gpu])
    return ", ".join(f"{a}-{b}" if a < b else f"{a}" for a, b in runs)


def describe(
    spec: ScenarioSpec, architecture: Architecture, cluster: Cluster, pools: tuple[Pool, ...], workload: StepWorkload
) -> dict[str, object]:
    """Facts in the order they are printed."""
    counts, q = parameter_counts(architecture), architecture.quantization
    active = f", {counts.active / 1e9:.4g} B of them active for a token" if counts.active < counts.total else ""
    facts: dict[str, object] = {
        "Model": architecture.name,
        "Parameters": f"{counts.total / 1e9:.4g} B" + active,
        "Weights": f"{format_bytes(weight_bytes(architecture))} in {q.weights}"
        + (f", experts in {q.experts}" if q.experts != q.weights else ""),
        "KV cache": f"{format_bytes(kv_bytes_per_token(architecture))} a token in {q.kv_cache}",
        "Cluster": cluster_text(cluster),
    }
    for pool in pools:
        title = "Layout" if len(pools) == 1 else f"Pool {pool.name} ({pool.role})"
        facts[title] = f"{layout_text(pool.layout)} on GPUs {gpus_text(pool.gpus)}"
    lengths = f"{workload.prompt_tokens} prompt tokens"
    if workload.prompt_tokens_spread:
        lengths = f"{round((1 - workload.prompt_tokens_spread) * workload.prompt_tokens)} to {lengths}"
    facts["Workload"] = f"{workload.sequences} sequences of {lengths}, {workload.decode_steps} decode steps"
    moe = next((x.feed_forward for x in architecture.layers if isinstance(x.feed_forward, MixtureOfExperts)), None)
    if moe is not None:
        shared = ", and shared ones" if moe.shared_intermediate else ""
        busy = "all as busy" if spec.experts.skew == 0 else f"Zipf exponent {spec.experts.skew:g}"
        facts["Experts"] = f"{moe.top_k} of {moe.experts} a token{shared}; {busy}; sent as {spec.experts.dispatch}"
    return facts


def cluster_text(cluster: Cluster) -> str:
    """Name, nodes, GPUs and network."""
    device = cluster.device()
    nodes = "1 node" if cluster.nodes == 1 else f"{cluster.nodes} nodes"
    text = f"{cluster.name}: {nodes}, {cluster.gpus} × {device.name} of {format_bytes(device.hbm_bytes)}"
    if cluster.nodes > 1:
        text += f", {format_bandwidth(device.nic_bytes_per_s)} of {cluster.network} a GPU"
    return text
