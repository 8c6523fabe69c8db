"""The least time a step can take on a rank: reading what must be read, computing what must be computed."""

from simulator.cost.op import expected_rows
from simulator.hardware.device import Device
from simulator.model.quantization import bytes_per_element
from simulator.program import ops
from simulator.program.build import Program
from simulator.program.work import AttentionShape

COMPUTE_DTYPE = {
    "fp8": "fp8", "fp8_block": "fp8", "mxfp8": "fp8", "nvfp4": "fp4", "mxfp4": "bf16", "int8": "int8", "int4": "bf16",
}  # fmt: skip
"""Storage type -> the compute type its products run in (weight-only types multiply in bf16)."""


def linear_flops(program: Program) -> dict[str, float]:
    """FLOPs of the GEMMs of one rank by compute dtype: 2 m n k each; attention scores and experts included."""
    found: dict[str, float] = {}
    for _, op in program.ops():
        dtype, flops = _flops(op)
        if flops:
            found[dtype] = found.get(dtype, 0.0) + flops
    return found


def _flops(op: ops.Op) -> tuple[str, float]:
    match op:
        case ops.Linear():
            return COMPUTE_DTYPE.get(op.dtype, "bf16"), 2.0 * op.tokens * op.k * sum(op.ns)
        case ops.Experts():
            rows = max(op.load.totals)
            return COMPUTE_DTYPE.get(op.dtype, "bf16"), 6.0 * rows * op.hidden * op.intermediate
        case ops.Attend():
            return "bf16", _pairs(op) * 2.0 * op.heads * (op.head_dim + op.v_head_dim)
        case ops.AttendLatent():
            width = op.nope_head_dim + op.rope_head_dim + op.v_head_dim
            if op.shape.decodes:
                width = 2 * op.kv_lora_rank + op.rope_head_dim
            return "bf16", _pairs(op) * 2.0 * op.heads * width
        case _:
            return "bf16", 0.0


def _pairs(op: ops.Attend | ops.AttendLatent) -> float:
    """Query-key pairs on one rank, windows ignored where there are none."""
    shape = op.shape
    limit = op.sparse_top_k if isinstance(op, ops.AttendLatent) else op.window or op.chunk or op.sparse_top_k
    total = 0.0
    for new, past in shape.prefills:
        total += (
            new * past + new * (new + 1) / 2 if limit is None else min(new * limit, new * past + new * (new + 1) / 2)
        )
    cached = float(shape.decode_kv_tokens)
    total += cached if limit is None else min(cached, shape.decodes * limit)
    return total * shape.share


def read_bytes(program: Program) -> float:
    """Bytes of weights and cache that a step must read on the busiest rank; experts that get no row are left unread."""
    total = 0.0
    for _, op in program.ops():
        match op:
            case ops.Linear():
                total += op.k * sum(op.ns) * bytes_per_element(op.dtype) if op.tokens else 0.0
            case ops.Experts():
                busy = max(sum(row > 0 for row in expected_rows(rows)) for rows in set(op.load.rows))
                total += busy * 3.0 * op.hidden * op.intermediate * bytes_per_element(op.dtype)
            case ops.Attend():
                width = op.kv_heads * (op.head_dim + op.v_head_dim) * bytes_per_element(op.kv_dtype)
                total += _cached(op.shape, op.window or op.chunk or op.sparse_top_k) * width
            case ops.AttendLatent():
                width = (op.kv_lora_rank + op.rope_head_dim) * bytes_per_element(op.kv_dtype)
                total += _cached(op.shape, op.sparse_top_k) * width
            case _:
                pass
    return total


def _cached(shape: AttentionShape, limit: int | None) -> float:
    past = float(sum(past for _, past in shape.prefills))
    decode = float(shape.decode_kv_tokens)
    if limit is not None:
        past, decode = min(past, limit * len(shape.prefills)), min(decode, limit * shape.decodes)
    return (past + decode) * shape.share


def floor_s(program: Program, device: Device) -> float:
    """The larger of reading weights and cache once at full HBM rate, and of the FLOPs at peak."""
    peaks = device.peak_flops_per_s
    compute_s = sum(flops / peaks.get(dtype, peaks["bf16"]) for dtype, flops in linear_flops(program).items())
    return max(read_bytes(program) / device.hbm_bytes_per_s, compute_s)
