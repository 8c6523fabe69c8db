"""Runs a deployment and draws the answers: does it fit, is it right, how long, what binds."""

from collections.abc import Callable

import pandas as pd

from simulator.engine.deployment import Deployment
from simulator.engine.session import Simulation, simulate
from simulator.metrics.frames import (
    expert_load_frame,
    handover_frame,
    memory_frame,
    numerics_frame,
    op_frame,
    step_frame,
)
from simulator.metrics.result import Correctness, RunResult
from simulator.metrics.traffic import link_frame, transfer_frame
from simulator.model.counts import parameter_counts
from simulator.model.kv_cache import kv_bytes_per_token

_BOUND_WORDS = {
    "memory": "kernels that wait for HBM",
    "compute": "kernels at the tensor cores' rate",
    "latency": "launches and other fixed times",
}


def run_deployment(deployment: Deployment, progress: Callable[[str, float], None] | None = None) -> RunResult:
    """Simulates and summarises. Raises the ShardsimErrors of its parts; a deployment that does not fit is refused."""
    simulation = simulate(deployment, progress)
    ops = op_frame(simulation.ops)
    steps = step_frame(simulation, ops)
    decode = steps[steps["phase"] == "decode"]["time_s"]
    prefill = steps[steps["phase"] == "prefill"]["time_s"]
    return RunResult(
        name=deployment.name,
        description=deployment.description,
        facts=_facts(deployment),
        fits=True,
        correctness=_correctness(simulation),
        prefill_s=float(prefill.mean()) if len(prefill) else float("nan"),
        decode_s=float(decode.mean()) if len(decode) else float("nan"),
        binds=_binds(ops, steps),
        ops=ops,
        transfers=transfer_frame(simulation.links.log if simulation.links else []),
        links=link_frame(simulation),
        steps=steps,
        memory=memory_frame(simulation),
        numerics=numerics_frame(simulation.miniatures),
        expert_load=expert_load_frame(simulation),
        handover=handover_frame(simulation.handovers),
        events=simulation.events,
        warnings=_warnings(ops),
    )


def _facts(deployment: Deployment) -> dict[str, object]:
    architecture, cluster, work = deployment.architecture, deployment.cluster, deployment.workload
    counts = parameter_counts(architecture)
    device = cluster.device(deployment.pools[0].gpus[0])
    return {
        "model": architecture.name,
        "layers": len(architecture.layers),
        "parameters": counts.total,
        "active_parameters": counts.active,
        "kv_bytes_per_token": kv_bytes_per_token(architecture),
        "weights": architecture.quantization.weights,
        "kv_cache": architecture.quantization.kv_cache,
        "cluster": cluster.name,
        "nodes": cluster.nodes,
        "gpu": device.name,
        "gpus_used": len({gpu for pool in deployment.pools for gpu in pool.gpus}),
        "sequences": work.sequences,
        "prompt_tokens": work.prompt_tokens,
        "decode_steps": work.decode_steps,
        **deployment.facts,
    }


def _correctness(simulation: Simulation) -> Correctness:
    if not simulation.miniatures:
        return Correctness(False, False, 0, 0, (), (), float("nan"), "numbers are switched off in the scenario")
    run = simulation.miniatures[0]
    sharded = tuple(tuple(run.sampled[i]) for i in run.prompts)
    taken = len(sharded[0]) if sharded else 0
    reference = tuple(
        tuple(int(step.next_tokens[number]) for step in run.reference[:taken]) for number in range(len(run.prompts))
    )
    return Correctness(
        checked=True,
        tokens_equal=sharded == reference,
        prompts=len(sharded),
        tokens_per_prompt=taken,
        sharded=sharded,
        reference=reference,
        largest_error=max(run.errors.values(), default=float("nan")),
    )


def _binds(ops: pd.DataFrame, steps: pd.DataFrame) -> str:
    """One sentence on the phase that a served token spends its time in (decode, or prefill if there is no decode)."""
    phase = "decode" if (steps["phase"] == "decode").any() else "prefill"
    total = steps[steps["phase"] == phase]
    share = float(total["exposed_comm_s"].sum() / total["time_s"].sum())
    compute = ops[(ops["phase"] == phase) & (ops["stream"] == "compute")]
    busy = (compute["end_s"] - compute["start_s"]).groupby(compute["bound"], observed=True).sum()
    part = 0.0 if busy.empty else float(busy.max() / busy.sum()) * (1.0 - share)
    if share >= part:
        return f"{phase} is bound by communication: {share:.0%} of a step is spent waiting for links"
    word = str(busy.idxmax())
    return f"{phase} is bound by {_BOUND_WORDS[word]} ({part:.0%} of a step); communication takes {share:.0%}"


def _warnings(ops: pd.DataFrame) -> tuple[str, ...]:
    time_s = ops["end_s"] - ops["start_s"]
    by = time_s.groupby(ops["provenance"], observed=True).sum()
    part = float(by.get("roofline", 0.0) / by.sum()) if by.sum() else 0.0
    if part > 0.01:
        return (f"{part:.0%} of the simulated time comes from rooflines, not from fitted or measured costs",)
    return ()
