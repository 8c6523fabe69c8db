"""How prefill kernels cut attention into blocks: query rows and keys of one block, by implementation and head width.

Sources: FlashAttention 3, `tile_size_fwd_sm90` and varlen's packed GQA (Dao-AILab/flash-attention hopper/, 2025-04);
FlashAttention 2, `run_mha_fwd_hdim*` (csrc, 2025-04); TensorRT-LLM fmha_v2, warp-specialised Hopper kernels
(cpp/kernels/fmha_v2/setup.py, 2025-06); SGLang's Triton extend kernel, `extend_attention_fwd` (2025-10).
"""

from dataclasses import dataclass

_PAPER = 128.0


@dataclass(frozen=True, slots=True)
class Tiling:
    """Query rows and keys of one block; whether query heads of a kv head share it; whether it looks outside windows."""

    rows: float = _PAPER
    keys: float = _PAPER
    packs: bool = False
    looks_outside: bool = False


def tiling(kind: str, generation: str, head_dim: int, fp8: bool, windowed: bool) -> Tiling:
    """The blocks of `kind` ("fa2", "fa3", "trtllm", "triton", ...) at this head width; `fp8`: it multiplies in fp8."""
    if kind == "fa3":
        return _flash_attention_3(head_dim, fp8, windowed)
    if kind == "triton":
        return _triton(generation, head_dim)
    if kind == "trtllm" and generation == "hopper":
        return Tiling(keys=_fmha_keys(head_dim, fp8))
    if kind == "fa2":
        return Tiling(keys=128.0 if head_dim <= 64 else 64.0)
    return Tiling()


def _flash_attention_3(head_dim: int, fp8: bool, windowed: bool) -> Tiling:
    rows = 192.0 if head_dim <= 96 else 128.0
    if fp8:
        steps = ((64, 160.0), (96, 128.0), (128, 224.0), (192, 160.0), (256, 64.0 if windowed else 128.0))
    else:
        steps = ((64, 128.0), (96, 128.0), (128, 128.0), (192, 96.0 if windowed else 112.0), (256, 64.0))
    return Tiling(rows, next((keys for width, keys in steps if head_dim <= width), 64.0), packs=True)


def _triton(generation: str, head_dim: int) -> Tiling:
    if head_dim > 256:
        return Tiling(32.0, 64.0, looks_outside=True)
    half = generation != "hopper" and head_dim > 128
    return Tiling(64.0 if half else 128.0, 64.0, looks_outside=True)


def _fmha_keys(head_dim: int, fp8: bool) -> float:
    if head_dim <= 64:
        return 256.0
    if head_dim <= 128:
        return 256.0 if fp8 else 128.0
    return 128.0 if fp8 else 64.0
