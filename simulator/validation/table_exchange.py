"""Predictions of expert_all_to_all.csv: dispatch and combine of DeepEP, TensorRT-LLM and UCCL."""

from dataclasses import dataclass
from math import isfinite
from typing import Any, cast

import pandas as pd

from simulator.cost.collective.expert import (
    DEFAULT_SMS,
    Kernel,
    Phase,
    Traffic,
    expert_all_to_all_price,
    notify_seconds,
    parameters_of,
    traffic,
)
from simulator.errors import ShardsimError
from simulator.topology.group import GroupLinks
from simulator.validation.answer import empty_answer
from simulator.validation.context import Context
from simulator.validation.links import links_or_reason, text

# What the READMEs of DeepEP and UCCL say once for a whole table: DeepSeek-V3's shape, 128 tokens in low-latency
# mode and 4096 in normal mode.
_README = {"hidden": 7168.0, "topk": 8.0, "experts": 256.0}
_README_TOKENS = {"low_latency": 128.0, "normal": 4096.0}
_NVLINK_LOW_LATENCY_FROM = "V1 2025-06"
"""From this README on DeepEP's low-latency kernels use NVLink inside the node; before, the NIC for all."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One row in our words."""

    links: GroupLinks
    kernel: Kernel
    phase: Phase
    tokens: float
    hidden: float
    topk: float
    experts: float
    dtype: str
    sms: float
    node_limit: float | None
    balanced: bool = False

    def traffic(self) -> Traffic:
        """Bytes under even routing."""
        return traffic(
            self.links, self.kernel, self.phase, tokens=self.tokens, hidden=self.hidden, topk=self.topk,
            experts=self.experts, dtype=self.dtype, node_limit=self.node_limit, balanced=self.balanced,
        )  # fmt: skip


def _number(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) and isfinite(value) else default


def _kernel(backend: str, kernel: str, version: str) -> str | None:
    if "PCIe" in backend:
        return "deepep_pcie" if kernel == "normal" else None
    if "TensorRT" in backend:
        return {"nvlink_two_sided": "trtllm_two_sided", "nvlink_one_sided": "trtllm_one_sided"}.get(kernel)
    family = "uccl" if "UCCL" in backend else "deepep"
    if kernel == "low_latency" and version.startswith("V1") and version < _NVLINK_LOW_LATENCY_FROM:
        return "deepep_low_latency_rdma"
    known = ("low_latency", "normal") if family == "uccl" else ("low_latency", "normal", "elastic")
    return f"{family}_{kernel}" if kernel in known else None


def ask_of(row: Any) -> Ask | str:
    """What a row asks, or why it cannot be told."""
    backend, version, notes = text(row.backend), text(row.version), text(row.notes)
    kernel = _kernel(backend, text(row.kernel), version)
    if kernel is None:
        return f"kernel {text(row.kernel)!r} of {backend!r} is not known"
    if not isfinite(_number(row.ep, float("nan"))):
        return "the number of EP ranks is not stated"
    intra = "NVL72 NVLink domain" if "NVLink domain" in notes else ""
    intra = "PCIe" if kernel == "deepep_pcie" else intra
    links = links_or_reason(text(row.gpu), int(row.ep), int(_number(row.gpus_per_node, 8.0)), intra=intra, inter=notes)
    if isinstance(links, str):
        return links
    sms = _number(row.sms, DEFAULT_SMS)
    tokens = _number(row.tokens_per_rank, _README_TOKENS.get(text(row.kernel), float("nan")))
    if not isfinite(tokens):
        return "the number of tokens is not stated"
    shape = {name: _number(getattr(row, name), default) for name, default in _README.items()}
    dtype = text(row.dispatch_dtype) or "fp8"
    limit = 4.0 if "top-4 groups" in notes else None
    return Ask(
        links,
        cast(Kernel, kernel),
        cast(Phase, text(row.phase)),
        tokens,
        **shape,
        dtype=dtype,
        sms=sms,
        node_limit=limit,
        balanced="balanced routing" in notes,
    )


def predict(frame: pd.DataFrame, context: Context) -> pd.DataFrame:  # noqa: ARG001  the signature all predictors share
    """Time of each row, and the bandwidth that the kernel's own test would print for it."""
    labels = frame["backend"].fillna("?") + " / " + frame["kernel"].fillna("?") + " / " + frame["phase"].fillna("?")
    answer = empty_answer(frame, ("time_s", "notify_time_s", "bandwidth_bytes_per_s"), labels)
    for row in frame.itertuples():
        ask = ask_of(row)
        if isinstance(ask, str):
            answer.loc[row.Index, "not_covered_because"] = ask
            continue
        try:
            price = expert_all_to_all_price(
                ask.links, phase=ask.phase, kernel=ask.kernel, tokens_per_rank=ask.tokens, hidden=ask.hidden,
                topk=ask.topk, experts=ask.experts, dtype=ask.dtype, sms=ask.sms, node_limit=ask.node_limit,
                balanced=ask.balanced,
            )  # fmt: skip
        except ShardsimError as error:
            answer.loc[row.Index, "not_covered_because"] = str(error)
            continue
        fitted, _ = parameters_of(ask.kernel, ask.phase, ask.links)
        answer.loc[row.Index, "predicted_time_s"] = price.time_s
        notify_s = notify_seconds(ask.links, fitted, ask.traffic(), price.time_s)
        answer.loc[row.Index, "predicted_notify_time_s"] = notify_s
        answer.loc[row.Index, "predicted_bandwidth_bytes_per_s"] = ask.traffic().counted_bytes / price.time_s
        answer.loc[row.Index, "provenance"] = price.provenance
    return answer
