"""A RunResult made by hand: uneven, with every frame filled, so that a page about it shows every section."""

from typing import Any

import numpy as np
import pandas as pd

from simulator.metrics.result import Correctness, RunResult

OPS = [
    ("input_layernorm", "Norm", "compute", 3e-6, 0.0),
    ("qkv_proj", "Linear", "compute", 21e-6, 0.0),
    ("attend", "Attend", "compute", 35e-6, 0.0),
    ("o_proj", "Linear", "compute", 15e-6, 0.0),
    ("attention_all_reduce", "all_reduce", "comm", 18e-6, 4.2e6),
    ("router", "Router", "compute", 4e-6, 0.0),
    ("dispatch", "all_to_all", "comm", 27e-6, 8.1e6),
    ("experts", "Experts", "compute", 61e-6, 0.0),
    ("combine", "all_to_all", "comm", 33e-6, 15.7e6),
]
COLUMNS = [
    "step", "phase", "pool", "rank", "gpu", "stream", "layer", "micro_batch", "op", "kind", "start_s", "end_s",
    "bytes", "provenance", "bound",
]  # fmt: skip


def ops_frame(ranks: int, layers: int, steps: int, pool: str = "pool") -> pd.DataFrame:
    rng = np.random.default_rng(5)
    rows: list[tuple[Any, ...]] = []
    now = 0.0
    for step in range(steps):
        phase, scale = ("prefill", 7.0) if step == 0 else ("decode", 1.0)
        ends = []
        for rank in range(ranks):
            at = now
            for layer in (-1, *range(layers), -2):
                named = OPS if layer >= 0 else [("embed_tokens", "Embed", "compute", 5e-6, 0.0)]
                for name, kind, stream, time_s, size in named:
                    took = time_s * scale * (1 + 0.2 * rng.random())
                    provenance = "roofline" if kind == "Router" else "fitted"
                    bound = "link" if stream == "comm" else "memory"
                    rows.append((step, phase, pool, rank, rank, stream, layer, 0, name, kind, at, at + took, size,
                                 provenance, bound))  # fmt: skip
                    at += took
            ends.append(at)
        now = max(ends)
    frame = pd.DataFrame(rows, columns=COLUMNS)
    for column in ("phase", "pool", "stream", "op", "kind", "provenance", "bound"):
        frame[column] = frame[column].astype("category")
    return frame


def steps_frame(ops: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (step, phase, pool), part in ops.groupby(["step", "phase", "pool"], observed=True):
        time_s = part.end_s.max() - part.start_s.min()
        spent = (part.end_s - part.start_s).groupby(part.stream, observed=True).sum() / part["rank"].nunique()
        comm_s, compute_s = float(spent["comm"]), float(spent["compute"])
        rows.append((step, phase, pool, part.start_s.min(), part.end_s.max(), time_s, 4096 if step == 0 else 32,
                     compute_s, comm_s, comm_s * 0.9, time_s * 0.02, comm_s * 0.9 / time_s, time_s * 0.4))  # fmt: skip
    names = ["step", "phase", "pool", "start_s", "end_s", "time_s", "tokens", "compute_s", "comm_s", "exposed_comm_s",
             "idle_s", "comm_share", "floor_s"]  # fmt: skip
    return pd.DataFrame(rows, columns=names)


def memory_frame(ranks: int, pool: str = "pool") -> pd.DataFrame:
    gib = 2.0**30
    rows = [
        (pool, r, r, 31.5 * gib, (11 + 0.3 * r) * gib, 1.25 * gib, (43.75 + 0.3 * r) * gib, 79.65 * gib)
        for r in range(ranks)
    ]
    names = ["pool", "rank", "gpu", "weights_bytes", "kv_cache_bytes", "activations_bytes", "total_bytes",
             "capacity_bytes"]  # fmt: skip
    return pd.DataFrame(rows, columns=names)


def links_frame(ranks: int) -> pd.DataFrame:
    rows = []
    for r in range(ranks):
        rows.append((2 * r, f"node0.gpu{r}", "node0.nvswitch", "NVLink", 450e9, 7.3e8 * (1 + r / 7), 2.1e-3))
        rows.append((2 * r + 1, f"node0.nic{r}", f"leaf{r}", "NIC", 50e9, 1.1e8 * (1 + r / 5), 3.4e-3))
    names = ["link", "source", "destination", "link_class", "bandwidth_bytes_per_s", "bytes", "busy_s"]
    return pd.DataFrame(rows, columns=names)


def transfers_frame() -> pd.DataFrame:
    rows = [(i % 4, 1e-4 * i, 1e-4 * i + 7e-5, 1.5e6, "attention_all_reduce") for i in range(11)]
    return pd.DataFrame(rows, columns=["link", "start_s", "end_s", "bytes", "label"])


def numerics_frame() -> pd.DataFrame:
    rows = [
        (dtype, "pool", layer, probe, scale * (1 + layer) * (2 if probe == "experts" else 1))
        for dtype, scale in (("float64", 3.3e-16), ("bfloat16", 2.1e-3))
        for layer in (0, 3)
        for probe in ("attention", "experts", "residual")
    ]
    return pd.DataFrame(rows, columns=["dtype", "pool", "layer", "probe", "max_relative_error"])


def expert_frame() -> pd.DataFrame:
    weight = np.arange(1, 17.0) ** -0.3
    share = weight / weight.sum()
    routed = np.array([7, 3, 0, 5, 2, 9, 1, 4, 6, 2, 8, 3, 1, 5, 2, 6])
    rows = [(layer, e, share[e], int(routed[e]), routed[e] / routed.sum()) for layer in (0, 3) for e in range(16)]
    return pd.DataFrame(rows, columns=["layer", "expert", "expected_share", "routed_tokens", "routed_share"])


def handover_frame() -> pd.DataFrame:
    names = ["source_rank", "destination_rank", "layers", "tokens", "bytes", "miniature_bytes", "duplicate_bytes",
             "start_s", "end_s"]  # fmt: skip
    rows = [(s, d, 61, 512 + 64 * d, 3.1e8 + 1e7 * d, 4096.0, 1e7 * s, 0.0, 6.2e-3 + 1e-4 * d)
            for s in range(2) for d in range(3)]  # fmt: skip
    return pd.DataFrame(rows, columns=names)


def make_result(name: str = "made by hand", ranks: int = 4, layers: int = 5, steps: int = 3) -> RunResult:
    ops = ops_frame(ranks, layers, steps)
    steps_of = steps_frame(ops)
    return RunResult(
        name=name,
        description="A <small> run & its report",
        facts={"Model": "example/Model-7B", "Cluster": "two <nodes>", "Layout": "tp=4", "layers": layers},
        fits=True,
        correctness=Correctness(True, True, 2, 3, ((5, 9, 2), (7, 1, 4)), ((5, 9, 2), (7, 1, 4)), 4.4e-15),
        prefill_s=float(steps_of.time_s[0]),
        decode_s=float(steps_of.time_s[1:].mean()),
        binds="decode is bound by kernels that wait for HBM (61% of a step); communication takes 39%",
        ops=ops,
        transfers=transfers_frame(),
        links=links_frame(ranks),
        steps=steps_of,
        memory=memory_frame(ranks),
        numerics=numerics_frame(),
        expert_load=expert_frame(),
        handover=handover_frame(),
        events=12345,
        warnings=("3% of the simulated time comes from rooflines",),
    )
