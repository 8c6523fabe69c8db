"""What the builders of one micro-batch's ops share."""

from dataclasses import dataclass
from typing import Literal

from simulator.model.architecture import Architecture
from simulator.parallel.layout import Layout
from simulator.program.work import Work

ELEMENT_BYTES = {
    "bf16": 2.0,
    "fp16": 2.0,
    "fp32": 4.0,
    "fp8": 1.0,
    "fp8_block": 1.0 + 4.0 / 128,
    "nvfp4": 0.5 + 1.0 / 16,
}
"""Bytes of one transported activation; fp8_block carries one float32 scale per 128 elements (DeepEP)."""


ExpertKernel = Literal[
    "auto", "nccl", "deepep_low_latency", "deepep_normal", "trtllm_one_sided", "trtllm_two_sided", "uccl_low_latency",
    "uccl_normal",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Options:
    """How a step is run, beyond the layout."""

    dispatch_dtype: str = "bf16"
    combine_dtype: str = "bf16"
    expert_skew: float = 0.0
    """Exponent of a Zipf law over experts; 0: every expert is as busy."""
    expert_kernel: ExpertKernel = "auto"
    """What carries tokens to experts. auto: DeepEP, its low-latency kernels in decode, its normal ones in prefill."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One micro-batch of one pipeline stage."""

    architecture: Architecture
    layout: Layout
    work: Work
    options: Options
    mean_tokens: float = -1.0
    """Tokens of the average rank of the block, where data coordinates differ; negative: as many as here."""

    @property
    def tokens(self) -> int:
        """Tokens on one context-parallel rank, before any cut over tp."""
        return self.work.local_tokens(self.layout.cp)

    @property
    def usual_tokens(self) -> float:
        """Tokens of the average rank of the block: what experts and gathers see of the others."""
        return self.tokens if self.mean_tokens < 0 else self.mean_tokens

    @property
    def residual_tokens(self) -> int:
        """Tokens of the residual stream on one rank: a share over tp with sequence parallelism."""
        return -(-self.tokens // self.layout.tp) if self.sequence_parallel else self.tokens

    @property
    def sequence_parallel(self) -> bool:
        """Norms and the residual stream are cut over tp."""
        return self.layout.sequence_parallel and self.layout.tp > 1

    @property
    def context_prefill(self) -> bool:
        """Tokens are cut over cp (a prefill); decode tokens are on every cp rank."""
        return self.layout.cp > 1 and not self.work.decode

    @property
    def unlike(self) -> tuple[str, ...]:
        """Axes of the block along which ranks hold different tokens (tp left out)."""
        axes = [] if self.layout.dp_attention == 1 else ["dp_attention"]
        if self.context_prefill:
            axes.append("cp")
        return tuple(axes)

    @property
    def alike(self) -> tuple[str, ...]:
        """Axes of the block along which ranks hold the same tokens once the tp cut is undone."""
        axes = ["cp"] if self.layout.cp > 1 and self.work.decode else []
        if self.layout.tp > 1:
            axes.append("tp")
        return tuple(axes)

    def activation_bytes(self, tokens: float, features: int) -> float:
        """Bytes of bf16 activations."""
        return tokens * features * ELEMENT_BYTES["bf16"]
