"""AMD's xGMI meshes, of which the tables have no row: RCCL from NVLink's stages, engines' kernels from published runs.

RCCL runs NCCL's rings, so its stages are Hopper's with the shares of the link lowered by what xGMI carries less. The
all_reduce kernel of vLLM on ROCm (SGLang's and AITER's descend from it) is fitted on three published tables.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from simulator.cost.collective import nccl
from simulator.cost.collective.parameters import CustomKernel, Parameters, Platform
from simulator.validation.fit_custom import fit_kernel
from simulator.validation.fit_platforms import rows_with_links
from simulator.validation.links import group_links

PLATFORM = "cdna3.xgmi"
PARENT = "hopper.nvlink"
LINK_SHARE = 48.25 / 64.0
"""What a copy kernel carries over one xGMI link: 512 MiB on 2 MI300X in 11.13 ms (ROCm/aiter#801, 2025-08; AMD names
48 of 64 GB/s, rocm.blogs.amd.com, "Understanding RCCL Bandwidth and xGMI Performance", 2025-03)."""
PARENT_LINK_SHARE = 396.4 / 450.0
"""The same of Hopper's NVLink: a copy between two H200 (Nebius, 2025)."""
RCCL_RUN = (8, 2.0**23, 91.10e-6)
"""GPUs, bytes, seconds: all_reduce by RCCL on MI300X (crickett-hpe/hpc-ai-envs#30, rccl-tests), a check only."""
_K = 1024.0
# (KiB, microseconds) of vLLM's all_reduce kernel inside a graph, by (GPU, ranks). Sources: ROCm/aiter#801 (2025-08,
# column "vllm cr"), vllm-project/vllm#19744 (2025-06, column "baseline"), vllm-project/vllm#39080 (2026-04, "vllm/us").
ENGINE_RUNS: Mapping[tuple[str, int], tuple[tuple[float, float], ...]] = {
    ("MI300X", 2): (
        (4, 7.07), (16, 7.53), (64, 7.66), (128, 8.70), (256, 11.45), (512, 17.13), (1024, 28.15), (2048, 49.67),
        (4096, 93.79),
    ),
    ("MI300X", 4): (
        (2, 7.18), (16, 7.26), (32, 7.58), (256, 14.39), (512, 14.65), (1024, 22.91), (2048, 36.64), (4096, 63.86),
    ),
    ("MI355X", 8): ((24, 6.3), (48, 6.7), (96, 7.6), (192, 10.0), (384, 13.1), (768, 16.0), (1536, 24.2)),
}  # fmt: skip


def xgmi_platform(parent: Platform) -> Platform:
    """RCCL's stages on a mesh of xGMI links; `error` is the miss of the one published run, or twice the parent's."""
    slower = LINK_SHARE / PARENT_LINK_SHARE
    stages = {
        name: replace(stage, efficiency={op: share * slower for op, share in stage.efficiency.items()})
        for name, stage in parent.stages.items()
    }
    own = {op: share * slower for op, share in parent.copy_efficiency.items()}
    platform = replace(parent, name=PLATFORM, stages=stages, copy_efficiency=own)
    ranks, size, seconds = RCCL_RUN
    alone = Parameters({PLATFORM: platform}, {}, {}, {})
    links = group_links("MI300X", ranks, ranks)
    found = float(nccl.times(links, "all_reduce", None, np.array([size]), alone)[0])
    return replace(platform, error=max(abs(found / seconds - 1.0), 2.0 * parent.error))


def engine_rows() -> pd.DataFrame:
    """The published runs, as rows with links."""
    rows = [
        {"gpu": gpu, "total_gpus": ranks, "gpus_per_node": ranks, "intra_node": "xGMI", "inter_node": "", "notes": "",
         "nic_gbit_per_s_per_gpu": float("nan"), "message_bytes": size * _K, "time_s": time * 1e-6}
        for (gpu, ranks), runs in ENGINE_RUNS.items()
        for size, time in runs
    ]  # fmt: skip
    return rows_with_links(pd.DataFrame(rows))


def xgmi_kernel(platforms: Mapping[str, Platform]) -> tuple[CustomKernel, dict[str, Any]]:
    """The engines' kernel on xGMI, and its error on the rows it was fitted on."""
    rows = engine_rows()
    kernel = fit_kernel("vllm", PLATFORM, rows, platforms)
    return kernel, {"rows": len(rows), "error": kernel.error}
