"""Open-loop rows with prefill and decode workers apart: the same server in both roles, KV moved between them."""

from typing import Any

from simulator.engine.fleet import serve_fleet
from simulator.engine.fleet_spec import Fleet, MasterSpec, ReplicaSpec, Role, TransferSpec
from simulator.engine.server import Server, memory_for
from simulator.metrics.serving import request_frame
from simulator.program.memory import kv_cache_bytes
from simulator.serving.policy import Policy
from simulator.validation.open_replay import latencies, rates
from simulator.workload.requests import Requests

HOST_GPUS = 8
"""GPUs of the host that small pools share."""


def pools_run(server: Server, policy: Policy, workers: tuple[int, int], load: Requests, front_s: float) -> Any:
    """Each request's times on (prefill, decode) `workers` behind one router that deals in turn.

    vLLM's connector (NIXL) moves KV, over NVLink where the host has one; the decode worker computes the first token
    anew, as behind vLLM's proxy.
    """
    setup = server.setup
    longest = int((load.input_tokens + load.output_tokens).max())
    layout, device = setup.layout, setup.device
    within = sum(workers) * layout.ranks <= HOST_GPUS
    line = device.nvlink_bytes_per_s if within and device.nvlink_bytes_per_s else device.nic_bytes_per_s
    line = line or device.pcie_bytes_per_s
    roles: tuple[Role, Role] = ("prefill", "decode")
    replicas = [
        ReplicaSpec(
            f"{role} {i}", server.table, policy, memory_for(server, policy, longest).capacity, role, role,
            layout.dp_attention, layout.ranks, nic_bytes_per_s=layout.ranks * line,
        )
        for role, count in zip(roles, workers, strict=True)
        for i in range(count)
    ]  # fmt: skip
    whole = sum(kv_cache_bytes(setup.architecture, layout, stage, (longest,)) for stage in range(layout.pp))
    per_token = layout.tp * whole / longest
    transfer = TransferSpec(
        lambda tokens: per_token * tokens, len(setup.architecture.layers), "nixl", "none" if within else "infiniband",
        first_token="decode",
    )  # fmt: skip
    served = serve_fleet(load, Fleet(tuple(replicas), (MasterSpec("router", "round_robin"),), transfer), log=False)
    frame = request_frame(served)
    for name in ("ttft_s", "e2el_s", "finish_s"):
        frame[name] += front_s
    return frame


def pools_outcomes(
    server: Server, policy: Policy, workers: tuple[int, int], load: Requests, front_s: float, gpus: int
) -> dict[str, float]:
    """The table's outcomes of such a run, from its first arrival to its last token."""
    frame = pools_run(server, policy, workers, load, front_s)
    seconds = float(frame.finish_s.max() - frame.arrival_s.min())
    return latencies(frame) | rates(len(frame), float(frame.output_tokens.sum()), seconds, gpus)
