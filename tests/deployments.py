"""Deployments that engine, metrics and benchmarks share: real models on shipped topologies, small workloads."""

from dataclasses import replace
from functools import cache
from typing import Any

from simulator.engine.deployment import Deployment, Numbers, Pool, StepWorkload
from simulator.model.architecture import Architecture
from simulator.model.catalogue import find_model
from simulator.parallel.layout import Layout
from simulator.scenario.topology_file import load_topology
from simulator.topology.cluster import Cluster

LLAMA = "meta-llama/Llama-3.1-8B"
MOE = "Qwen/Qwen3-30B-A3B"
DEEPSEEK = "deepseek-ai/DeepSeek-V3"


@cache
def cluster(name: str, nodes: int = 1) -> Cluster:
    return load_topology(name, nodes)


def short(model: str, layers: int = 4) -> Architecture:
    """The real model with its first few layers only: every kind of op at full size, a fraction of the events."""
    whole = find_model(model)
    return replace(whole, layers=whole.layers[:layers])


def mixed(
    layout: Layout, model: str | Architecture = LLAMA, topology: str = "dgx_h100", nodes: int = 1, **more: Any
) -> Deployment:
    """One pool on the first GPUs of a cluster."""
    architecture = short(model) if isinstance(model, str) else model
    pool = Pool("serve", "mixed", layout, tuple(range(layout.ranks)))
    settings = {"workload": StepWorkload(8, 64, 2), "numbers": Numbers(decode_steps=2), **more}
    return Deployment("drawn", "", architecture, cluster(topology, nodes), (pool,), **settings)  # type: ignore[arg-type]


def parted(prefill: Layout, decode: Layout, model: str | Architecture = LLAMA, **more: Any) -> Deployment:
    """A prefill pool on one node and a decode pool on another."""
    architecture = short(model) if isinstance(model, str) else model
    pools = (
        Pool("prefill", "prefill", prefill, tuple(range(prefill.ranks))),
        Pool("decode", "decode", decode, tuple(range(8, 8 + decode.ranks))),
    )
    settings = {"workload": StepWorkload(6, 64, 2), "numbers": Numbers(decode_steps=2), **more}
    return Deployment("parted", "", architecture, cluster("hgx_h200", 2), pools, **settings)  # type: ignore[arg-type]
