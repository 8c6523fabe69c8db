"""How a plan's parts are called on the page."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

from simulator.parallel.layout import Layout
from simulator.planning.result import Candidate, Constraint, Evaluation, PoolPlan, Score, Slo, Status

STATUS: Mapping[Status, str] = {
    "confirmed": "holds, simulated",
    "scored": "holds, steady state",
    "misses": "misses the limits",
    "bound": "cannot reach the limits",
    "no_memory": "does not fit",
    "illegal": "cannot be run so",
}
BINDING: Mapping[Constraint, str] = {
    "kv_memory": "KV memory",
    "ttft": "time to first token",
    "tpot": "time per output token",
    "e2el": "end-to-end time",
    "link": "links",
    "gpu_count": "number of GPUs",
    "batch": "batch limit",
    "compute": "arithmetic",
    "layout": "layout",
}
ENGINE = {"vllm": "vLLM", "sglang": "SGLang", "tensorrt-llm": "TensorRT-LLM"}


@dataclass(frozen=True, slots=True)
class Axis:
    """A figure of a score as the page shows it: value * factor in `unit`."""

    label: str
    factor: float
    unit: str
    up: bool
    """More is better."""

    def text(self, value: float | None) -> str:
        """The value with its unit; a dash for none."""
        if value is None or not isfinite(value):
            return "-"
        shown = f"{value * self.factor:,.0f}" if abs(value * self.factor) >= 1000 else f"{value * self.factor:.3g}"
        return f"${shown}" if self.unit == "$" else f"{shown} {self.unit}".strip()


AXES: Mapping[str, Axis] = {
    "gpus": Axis("GPUs", 1.0, "", False),
    "load_requests_per_s": Axis("load it holds", 1.0, "requests/s", True),
    "ttft_s": Axis("time to first token", 1e3, "ms", False),
    "tpot_s": Axis("time per output token", 1e3, "ms", False),
    "e2el_s": Axis("end-to-end time", 1.0, "s", False),
    "output_tokens_per_s_per_gpu": Axis("output tokens/s per GPU", 1.0, "tokens/s", True),
    "tokens_per_s_per_user": Axis("tokens/s per user", 1.0, "tokens/s", True),
    "usd_per_hour": Axis("cost per hour", 1.0, "$", False),
    "usd_per_million_tokens": Axis("cost per million output tokens", 1.0, "$", False),
    "decode_batch": Axis("decoding sequences of a replica", 1.0, "", True),
    "kv_used_share": Axis("KV memory filled", 100.0, "%", False),
}
"""Fields of Score."""


def figure(score: Score, field: str) -> float | None:
    """A score's field as a finite number, or None."""
    value = getattr(score, field)
    return float(value) if value is not None and isfinite(value) else None


def layout_text(layout: Layout) -> str:
    """The sizes that are not 1.

    >>> layout_text(Layout(tp=2, dp_attention=4, ep=8))
    'tp2 dpa4 ep8'
    """
    sizes = (("tp", layout.tp), ("pp", layout.pp), ("cp", layout.cp), ("dpa", layout.dp_attention), ("ep", layout.ep))
    return " ".join(f"{name}{size}" for name, size in sizes if size > 1) or "1 GPU"


def gpu_text(gpu: str) -> str:
    """The kind of GPU; the usual module is not spelled out.

    >>> gpu_text("H100-SXM"), gpu_text("H100-PCIe")
    ('H100', 'H100-PCIe')
    """
    return gpu.removesuffix("-SXM")


def pool_text(pool: PoolPlan) -> str:
    """`2 × tp4 on H200, fp8, vLLM`."""
    count = f"{pool.replicas} × " if pool.replicas else ""
    precision = f", {pool.precision}" if pool.precision != "checkpoint" else ""
    return (
        f"{count}{layout_text(pool.layout)} on {gpu_text(pool.gpu)}{precision}, {ENGINE.get(pool.engine, pool.engine)}"
    )


def candidate_text(candidate: Candidate) -> str:
    """All pools, with their roles where there are two."""
    if not candidate.separated:
        return pool_text(candidate.pools[0])
    return "; ".join(f"{pool.role} {pool_text(pool)}" for pool in candidate.pools)


def hardware_text(candidate: Candidate) -> str:
    """`8 H200`, or `16 H100 + 32 H200`."""
    counts: dict[str, int] = {}
    for pool in candidate.pools:
        counts[pool.gpu] = counts.get(pool.gpu, 0) + pool.gpus
    return " + ".join(f"{count} {gpu_text(gpu)}" for gpu, count in counts.items())


def percentile_text(slo: Slo) -> str:
    """`p95`."""
    return f"p{slo.percentile:g}"


def limits_of(slo: Slo) -> dict[str, float]:
    """Score's field -> limit in seconds, of those that are set."""
    given = {"ttft_s": slo.ttft_s, "tpot_s": slo.tpot_s, "e2el_s": slo.e2el_s}
    return {field: limit for field, limit in given.items() if limit is not None}


def state_text(evaluation: Evaluation) -> str:
    """Status in words."""
    return STATUS[evaluation.status]
