"""Bytes of a stored number, its scales included; which tensors are stored how."""

from dataclasses import dataclass, fields, replace

from simulator.errors import ModelError
from simulator.model.architecture import Quantization
from simulator.model.parameters import Kind, Parameter


@dataclass(frozen=True, slots=True)
class StorageType:
    """Bits of an element, and bytes of scale shared by `group` elements (0: one scale a tensor or row, negligible)."""

    bits: float
    group: int = 0
    scale_bytes: float = 0.0
    source: str = "IEEE 754-2019; bfloat16: Google, 2018"

    @property
    def bytes_per_element(self) -> float:
        """Bytes of one element with its share of the scale."""
        return self.bits / 8 + (self.scale_bytes / self.group if self.group else 0.0)


STORAGE: dict[str, StorageType] = {
    "fp32": StorageType(32),
    "bf16": StorageType(16),
    "fp16": StorageType(16),
    "fp8": StorageType(8, source="E4M3, one scale a tensor or channel: Micikevicius et al. 2022, arXiv:2209.05433"),
    "fp8_block": StorageType(
        8, 128 * 128, 4, "weights in 128 x 128 blocks, fp32 scale: DeepSeek-V3, arXiv:2412.19437, section 3.3.2"
    ),
    "mxfp8": StorageType(8, 32, 1, "OCP Microscaling Formats v1.0, 2023-09, table 1"),
    "mxfp4": StorageType(4, 32, 1, "OCP Microscaling Formats v1.0, 2023-09, table 1"),
    "nvfp4": StorageType(4, 16, 1, "E2M1 with an E4M3 scale per 16: NVIDIA, Introducing NVFP4, 2025-06"),
    "int8": StorageType(8, source="one scale a channel: SmoothQuant, arXiv:2211.10438"),
    "int4": StorageType(4, 128, 2, "fp16 scale per 128, packed zero points (0.4 %) not counted: AWQ, arXiv:2306.00978"),
    "nf4": StorageType(4, 64, 1.016, "8-bit absmax per 64, double quantised: QLoRA, arXiv:2305.14314, section 3"),
}
ALIASES = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float32": "fp32",
    "fp4": "nvfp4",
    "float8_e4m3fn": "fp8",
    "e4m3": "fp8",
    "awq": "int4",
    "gptq": "int4",
    "bnb.nf4": "nf4",
}
"""Spellings met in configs and in measured tables."""
_WHOLE_KINDS: frozenset[Kind] = frozenset({"embedding", "head", "router", "norm"})


def canonical_dtype(dtype: str) -> str:
    """The one spelling of a storage type. Raises ModelError for one that is not known."""
    name = ALIASES.get(dtype.lower(), dtype.lower())
    if name not in STORAGE:
        raise ModelError(
            where="dtype", given=repr(dtype), rule="is not a storage type", way_out=f"use one of {', '.join(STORAGE)}"
        )
    return name


def bytes_per_element(dtype: str, int4_group: int = 128) -> float:
    """Bytes of one stored element, scales included.

    >>> bytes_per_element("bf16"), bytes_per_element("nvfp4"), bytes_per_element("int4", int4_group=32)
    (2.0, 0.5625, 0.5625)
    """
    name = canonical_dtype(dtype)
    kind = STORAGE[name]
    return (replace(kind, group=int4_group) if name == "int4" else kind).bytes_per_element


def storage_dtype(quantization: Quantization, kind: Kind) -> str:
    """How tensors of a kind are stored: embedding, head, norms and routers stay in bf16."""
    if kind in _WHOLE_KINDS:
        return "bf16"
    if kind == "expert":
        return quantization.experts
    if kind == "attention":
        return quantization.attention or quantization.weights
    return quantization.weights


def parameter_bytes(parameter: Parameter, quantization: Quantization) -> float:
    """Bytes of one whole tensor as stored; vectors (biases, sinks) stay in bf16."""
    if len(parameter.axes) == 1 or parameter.name.endswith(".bias"):
        return 2.0 * parameter.size
    dtype = storage_dtype(quantization, parameter.kind)
    return bytes_per_element(dtype, quantization.int4_group) * parameter.size


def with_precision(quantization: Quantization, precision: str) -> Quantization:
    """All weights and experts stored in one type; the KV cache stays as it was.

    >>> with_precision(Quantization(), "fp4").experts
    'nvfp4'
    """
    name = canonical_dtype(precision)
    return replace(quantization, weights=name, experts=name, attention="")


def override(quantization: Quantization, **changes: str) -> Quantization:
    """Some fields changed: `override(q, weights="fp8", kv_cache="fp8")`. Raises ModelError for an unknown field."""
    known = [field.name for field in fields(Quantization) if field.name != "int4_group"]
    for name in changes:
        if name not in known:
            raise ModelError(
                where=f"quantization: {name}",
                given=repr(changes[name]),
                rule="no such field",
                way_out=f"use {', '.join(known)}",
            )
    checked = {name: canonical_dtype(value) if value else value for name, value in changes.items()}
    return Quantization(**{**{name: getattr(quantization, name) for name in (*known, "int4_group")}, **checked})
