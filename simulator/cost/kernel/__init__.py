"""Time of one kernel at its shapes on a device, each with its provenance and expected error.

Scalar functions return a `Price` and are memoised; their `*_times` twins take arrays (NumPy broadcasting) and return
seconds. `backend` ("vllm", "sglang", "trtllm") picks that engine's kernels where they differ; "" takes the generation's
usual ones. A size of 0 is nothing to do and costs 0 s; negative, NaN or infinite sizes and unknown formats raise
KernelError.
"""

from simulator.cost.kernel.arrays import (
    attention_decode_times,
    attention_prefill_times,
    bmm_times,
    elementwise_times,
    gemm_times,
    grouped_gemm_times,
    mla_decode_times,
    mla_prefill_times,
    moe_ffn_times,
)
from simulator.cost.kernel.scalar import (
    Sequences,
    attention_decode,
    attention_prefill,
    bmm,
    elementwise,
    forget_measured,
    gemm,
    grouped_gemm,
    mla_decode,
    mla_prefill,
    moe_ffn,
    use_measured,
)

__all__ = [
    "Sequences",
    "attention_decode",
    "attention_decode_times",
    "attention_prefill",
    "attention_prefill_times",
    "bmm",
    "bmm_times",
    "elementwise",
    "elementwise_times",
    "forget_measured",
    "gemm",
    "gemm_times",
    "grouped_gemm",
    "grouped_gemm_times",
    "mla_decode",
    "mla_decode_times",
    "mla_prefill",
    "mla_prefill_times",
    "moe_ffn",
    "moe_ffn_times",
    "use_measured",
]
