"""Predictions of kv_transfer.csv: KV from prefill to decode, and plain point-to-point transfers."""

import re
from math import isfinite, nan
from typing import Any

import pandas as pd

from simulator.cost.collective.transfer import Direction, Engine, Memory, line_share, transfer_price
from simulator.errors import ShardsimError
from simulator.hardware.catalogue import find_device
from simulator.topology.group import Network
from simulator.validation.answer import empty_answer
from simulator.validation.context import Context
from simulator.validation.links import network_of, text

_STATED_RATE = re.compile(r"~?\s*(\d+(?:\.\d+)?)\s*GB/s")
_ONE_NIC = re.compile(r"(\d+)\s*G(?:b/s|bps|bit)")


def line_rate(fabric: str, gpu: str) -> float:
    """Bytes per second of all links of a sender together, from the description; nan where it tells nothing.

    >>> line_rate("8x CX-7 RoCE, ~200 GB/s", "H800"), line_rate("16 EFA × 200 Gbps", "H200")
    (200000000000.0, 400000000000.0)
    """
    stated = _STATED_RATE.search(fabric)
    if stated:
        return float(stated[1]) * 1e9
    counted = re.search(r"(\d+)\s*(?:EFA)?\s*[x×]\s*(\d+)\s*G", fabric)
    if counted:
        return float(counted[1]) * float(counted[2]) * 1e9 / 8
    one = _ONE_NIC.search(fabric)
    if one:
        return float(one[1]) * 1e9 / 8
    device = find_device(gpu) if gpu else None
    if device is None:
        return nan
    return (
        device.nvlink_bytes_per_s if "single node" in fabric and device.nvlink_bytes_per_s else device.pcie_bytes_per_s
    )


def _engine(row: Any) -> Engine | None:
    engine, notes, op = text(row.engine), text(row.notes).lower(), text(row.op)
    if "Mooncake" in engine:
        if "prefill" in op:
            return "mooncake-sglang" if "sglang" in notes + text(row.setup_id) + engine.lower() else "mooncake-vllm"
        return "mooncake"
    for word, name in (("NIXL", "nixl"), ("UCCL", "uccl"), ("NCCL", "nccl")):
        if word in engine:
            return name  # type: ignore[return-value]
    return None


def _layers(row: Any, context: Context) -> int:
    """Layers of the model that is moved; 0 for transfers that are not of a model."""
    name = text(row.model).removesuffix(" BF16").removesuffix(" FP8").strip()
    if not name or "prefill" not in text(row.op):
        return 0
    for candidate in (name, f"Qwen/{name}", f"meta-llama/{name}"):
        try:
            return len(context.model(candidate).layers)
        except ShardsimError:
            continue
    return 0


def predict(frame: pd.DataFrame, context: Context) -> pd.DataFrame:
    """Time where the bytes are stated, and bandwidth; whole-node figures stay whole-node."""
    labels = frame["engine"].fillna("?") + " / " + frame["op"].fillna("?")
    answer = empty_answer(frame, ("time_s", "bandwidth_bytes_per_s"), labels)
    for row in frame.itertuples():
        try:
            found = _row(row, context)
        except ShardsimError as error:
            found = str(error)
        if isinstance(found, str):
            answer.loc[row.Index, "not_covered_because"] = found
        else:
            answer.loc[row.Index, ["predicted_time_s", "predicted_bandwidth_bytes_per_s"]] = found
            answer.loc[row.Index, "provenance"] = "fitted"
    return answer


def _row(row: Any, context: Context) -> tuple[float, float] | str:
    engine = _engine(row)
    if engine is None:
        return f"engine {text(row.engine)!r} is not known"
    network: Network = "efa" if "EFA" in text(row.fabric) else network_of(text(row.fabric))
    line = line_rate(text(row.fabric), text(row.gpu))
    if not isfinite(line):
        return "neither the fabric nor the GPU tells a link rate"
    memory: Memory = "cpu" if text(row.memory).startswith("CPU") else "gpu"
    direction: Direction = "read" if text(row.op).lower() == "read" else "write"
    batch, threads = (float(x) if isfinite(float(x)) else 1.0 for x in (row.batch, row.threads))
    flight = batch * threads if network == "efa" and batch > 1 else None
    block = float(row.block_bytes) if isfinite(float(row.block_bytes)) else None
    if isfinite(float(row.bytes)):
        price = transfer_price(
            float(row.bytes), line, engine=engine, network=network, layers=_layers(row, context), block_bytes=block,
            memory=memory, direction=direction, in_flight=flight,
        )  # fmt: skip
        return price.time_s, float(row.bytes) / price.time_s
    if block is None:
        return "neither bytes nor a block size is stated"
    # A benchmark that posts blocks for ever: the rate without any fixed part.
    rate = line * line_share(network, engine, memory, direction, flight)
    many = transfer_price(
        block * 2.0**20, line, engine=engine, network=network, block_bytes=block, memory=memory, direction=direction,
        in_flight=flight,
    )  # fmt: skip
    return nan, min(rate, block * 2.0**20 / many.time_s)
