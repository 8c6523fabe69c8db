"""Which implementation an engine runs for an op on a GPU generation, as a key into the fitted parameters.

A key is (implementation, generation, finer...). Implementations are told apart where the code differs: FlashAttention 2
(Ampere) and 3 (Hopper), TensorRT-LLM's own kernels, its generated ones that vLLM and SGLang reach through FlashInfer
(Blackwell), Triton where none of these takes the head width; a GEMM's is its number format.
"""

from dataclasses import dataclass

NEAREST: dict[str, tuple[str, ...]] = {
    "ampere": ("hopper", "blackwell"),
    "hopper": ("blackwell", "ampere"),
    "blackwell": ("hopper", "ampere"),
    "ada": ("ampere", "hopper", "blackwell"),
    "volta": ("ampere", "hopper", "blackwell"),
    "turing": ("ampere", "hopper", "blackwell"),
    "blackwell_rtx": ("ampere", "hopper", "blackwell"),
    "rubin": ("blackwell", "hopper", "ampere"),
}
"""Generations to borrow parameters from, nearest first (Ada keeps Ampere's warp-level tensor instructions, CUDA C++
Programming Guide 12, section on compute capability 8.x)."""
_ANY = ("hopper", "blackwell", "ampere")


@dataclass(frozen=True, slots=True)
class Key:
    """(implementation, generation, finer...) under which parameters are looked for."""

    implementation: str
    generation: str
    finer: tuple[str, ...] = ()

    def candidates(self) -> tuple[str, ...]:
        """Names from the most to the least specific: this generation's, its neighbours', all generations'."""
        generations = (self.generation, *NEAREST.get(self.generation, _ANY))
        depths = range(len(self.finer), -1, -1)
        found = ["/".join((self.implementation, g, *self.finer[:kept])) for g in generations for kept in depths]
        return (*found, self.implementation, "")


def gemm_key(generation: str, dtype: str, backend: str) -> Key:
    """Matrix multiply: by format, generation and engine (cuBLAS, CUTLASS, DeepGEMM behind it)."""
    return Key(dtype, generation, (backend,))


def gemm_splits(generation: str, dtype: str, backend: str) -> bool:
    """Whether the library may split k over multiprocessors: cuBLAS does; DeepGEMM and CUTLASS's block-scaled and fp8
    kernels, which engines run from Hopper on, do not (DeepGEMM 2.0, README; vLLM csrc/quantization/w8a8, 2025)."""
    if generation in ("ampere", "ada"):
        return True
    return dtype not in ("fp8_block", "nvfp4") and not (dtype == "fp8" and backend in ("vllm", "sglang"))


def attention_kind(generation: str, backend: str, head_dim: int) -> str:
    """The attention implementation of `backend` ("" = what vLLM and SGLang use there)."""
    if backend == "trtllm":
        return "trtllm"
    # Head widths that neither FlashAttention 3 nor the generated kernels take run in Triton.
    if head_dim > 256 or (generation == "blackwell" and head_dim == 192):
        return "triton"
    return {"hopper": "fa3", "blackwell": "trtllm_gen"}.get(generation, "fa2")


def prefill_key(generation: str, kind: str, q_dtype: str, kv_dtype: str, backend: str) -> Key:
    """Prefill attention: TensorRT-LLM multiplies in fp8 whenever the cache is fp8."""
    computes = kv_dtype if backend == "trtllm" else q_dtype
    return Key(kind, generation, (computes, kv_dtype, backend))


def decode_key(generation: str, kind: str, kv_dtype: str, backend: str) -> Key:
    """Decode attention."""
    return Key(kind, generation, (backend, kv_dtype))


def plans_by_cache(kind: str, backend: str) -> bool:
    """Whether a sliding window's few keys are split as the whole cache: vLLM plans FlashAttention 3 ahead."""
    return kind == "fa3" and backend == "vllm"


def latent_kind(generation: str, backend: str) -> str:
    """MLA: a masked multi-head kernel on Ampere, FlashAttention 3 in SGLang on Hopper, else FlashMLA's kind."""
    if generation in ("hopper", "blackwell"):
        return "fa3" if (generation, backend) == ("hopper", "sglang") else "mla"
    return "masked"


def latent_key(generation: str, kind: str, kv_dtype: str, backend: str) -> Key:
    """MLA prefill and decode."""
    return Key(kind, generation, (backend, kv_dtype))


def lends(generation: str) -> bool:
    """Whether the tensor-core models describe this generation at all; other vendors' get the plain roofline."""
    return generation in NEAREST


def latent_rows(generation: str) -> float:
    """Query rows of one tensor-core tile in absorbed MLA: 128 on Blackwell (tcgen05 M), 64 before (wgmma M).

    Source: PTX ISA 8.7, tcgen05.mma and wgmma shapes.
    """
    return 128.0 if generation == "blackwell" else 64.0


def latent_traits(kind: str, generation: str, kv_dtype: str) -> tuple[float, bool, bool]:
    """(query rows of a tile, whether a long cache is split, whether the cache is converted first) in MLA decode.

    TensorRT-LLM's masked kernel on Ampere walks a cache alone; SGLang turns an fp8 cache to bf16 for FlashAttention 3.
    """
    return latent_rows(generation), kind != "masked", kind == "fa3" and kv_dtype == "fp8"


def experts_key(generation: str, dtype: str, variant: str) -> Key:
    """MoE block: by expert format, generation and kernel variant ("", "cutlass", "deepgemm", "min_latency").

    Weight-only integer experts run in kernels like those of mxfp4 with bf16 activations (Marlin and Triton take both).
    """
    implementation = "mxfp4" if dtype in ("int4", "int8_wo") else dtype
    return Key(implementation, generation, (variant,) if variant else ())


def generated_experts_key() -> Key:
    """TensorRT-LLM's generated expert kernels (Blackwell), measured in nvfp4; FlashInfer hands them to all engines and
    all formats (trtllm_fp8_block_scale_moe, trtllm_fp4_block_scale_moe; FlashInfer 0.3, 2025-09)."""
    return Key("nvfp4", "blackwell", ("min_latency",))
