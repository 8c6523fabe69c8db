"""What a GPU draws: a linear model of how busy its memory and its arithmetic are.

    P / TDP = idle + busy * awake + memory * MBU + compute * MFU,   at most 1

MBU: bytes of weights and KV read over what the memory could have read in the time; MFU: FLOPs of the weights over the
bf16 peak's. Both are averages over the time, pauses included; `busy` is the share of the time in steps.

The last three were fitted by least squares of relative errors on 79 measured rows (gpt-oss-120b on H200 under vLLM,
nvidia-smi; Kimi-K2.5, DeepSeek-V3 and Qwen3.5-397B on B200 and B300 under vLLM and SGLang, joules a token times the
rate; InferenceX, 2025-10 to 2026-08), in all of which GPUs were busy throughout. Median error 12.5 %, and 18 % on a
(GPU, model) that took no part in the fit (2026-11-23); the worst rows, B300 with 16 clients, draw half of what is said.
"""

IDLE = 0.1
"""Share of the TDP that a GPU draws with no work. Not fitted: no measured row is idle. H100 SXM show 60 to 75 W of
700 W in nvidia-smi."""
AWAKE = 0.202
"""More than that with steps running, before any byte is read: clocks, host and launches. IDLE + AWAKE was fitted."""
MEMORY = 0.532
COMPUTE = 2.28
"""Above 1 because kernels stall: runs that average a sixth of the bf16 peak draw their limit."""


def power_w(tdp_w: float, busy: float, memory: float, compute: float) -> float:
    """Mean watts of one GPU that is in steps for the share `busy` of the time, with `memory` (MBU) and `compute` (MFU)
    averaged over all of it. Power limits hold: never above the TDP.

    >>> power_w(700.0, 0.0, 0.0, 0.0), round(power_w(700.0, 1.0, 0.41, 0.048))
    (70.0, 440)
    """
    return tdp_w * min(1.0, IDLE + AWAKE * busy + MEMORY * memory + COMPUTE * compute)
