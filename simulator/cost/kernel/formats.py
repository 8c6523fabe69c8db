"""Number formats of kernels: bytes per weight and activation element, and which units multiply them."""

from dataclasses import dataclass

from simulator.errors import KernelError
from simulator.hardware.device import Device


@dataclass(frozen=True, slots=True)
class Format:
    """How a matrix multiply stores its operands; scales are counted in the bytes per element.

    `compute` names the datasheet peaks the operands may use, the best first; what a device lacks is skipped,
    as engines do (fp8 weights on Ampere are expanded to bf16 in registers).
    """

    weight_bytes: float
    activation_bytes: float
    compute: tuple[str, ...]


_BF16 = ("bf16", "fp16")
# Block scales: fp8_block has one fp32 scale per 128x128 weights and per 128 activations (DeepSeek-V3,
# arXiv:2412.19437, section 3.3.2); nvfp4 one fp8 scale per 16, mxfp4 and mxfp8 one per 32 elements
# (OCP Microscaling Formats v1.0, 2023-09; NVIDIA cuDNN block scaling notes 2025-01).
# int4 weight-only: fp16 scale and zero per 128.
FORMATS: dict[str, Format] = {
    "fp32": Format(4.0, 4.0, ("tf32", "fp32")),
    "bf16": Format(2.0, 2.0, _BF16),
    "fp16": Format(2.0, 2.0, _BF16),
    "fp8": Format(1.0, 1.0, ("fp8", *_BF16)),
    "fp8_block": Format(1.0 + 4.0 / 128**2, 1.0 + 4.0 / 128, ("fp8", *_BF16)),
    "nvfp4": Format(0.5 + 1.0 / 16, 0.5 + 1.0 / 16, ("fp4", "fp8", *_BF16)),
    "mxfp4_mxfp8": Format(0.5 + 1.0 / 32, 1.0 + 1.0 / 32, ("fp8", *_BF16)),
    "mxfp4": Format(0.5 + 1.0 / 32, 2.0, _BF16),
    "int8": Format(1.0, 1.0, ("int8", *_BF16)),
    "int8_wo": Format(1.0, 2.0, _BF16),
    "int4": Format(0.5 + 4.0 / 128, 2.0, _BF16),
}
ALIASES = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "float32": "fp32",
    "fp4": "nvfp4",
    "sq": "int8",
    "w8a8": "int8",
    "int4_wo": "int4",
    "w4a16": "int4",
    "awq": "int4",
    "gptq": "int4",
    "w4a16_mxfp4": "mxfp4",
    "w4a8_mxfp4_mxfp8": "mxfp4_mxfp8",
}


def canonical(dtype: str) -> str:
    """The name under which a format is kept. Raises KernelError for an unknown one."""
    name = ALIASES.get(dtype, dtype)
    if name not in FORMATS:
        known = ", ".join(sorted({*FORMATS, *ALIASES}))
        raise KernelError(given=repr(dtype), rule="the number format must be known", way_out=f"use one of {known}")
    return name


def peak_flops_per_s(device: Device, dtype: str) -> float:
    """Dense datasheet peak of the units that `dtype` runs on (the best of its `compute` the device has)."""
    for unit in FORMATS[canonical(dtype)].compute:
        rate = device.peak_flops_per_s.get(unit, 0.0)
        if rate > 0:
            return rate
    # FP32 units exist everywhere; on a device that lists no such peak nothing can be said.
    raise KernelError(
        given=f"{device.name} lists peaks for {', '.join(sorted(device.peak_flops_per_s)) or 'nothing'}",
        rule=f"a {dtype} kernel needs one of {', '.join(FORMATS[canonical(dtype)].compute)}",
        way_out="give the device that peak",
    )
