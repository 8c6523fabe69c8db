"""How each engine carries tokens to experts where attention is data-parallel."""

from dataclasses import replace

from simulator.cost.table import Setup
from simulator.model.architecture import Architecture, MixtureOfExperts
from simulator.program.frame import Options


def with_exchange(setup: Setup) -> Setup:
    """The setup with its expert exchange as its engine runs it; one without an exchange as it is.

    TensorRT-LLM gathers all tokens and reduces the sums where a token visits every rank anyway (ep <= top k), and
    gathers them in NVFP4 where experts are (tensorrt_llm/_torch/modules/fused_moe: alltoall is not enabled for
    moe_ep_size <= experts_per_token, and run_post_quant_allgather needs nvfp4, v1.0 to 1.2); beyond, its NVLink kernels
    carry them inside a rack.
    """
    layout, experts = setup.layout, _experts(setup.architecture)
    if experts is None or layout.ep == 1 or (layout.dp_attention == 1 and layout.cp == 1):
        return setup
    if setup.engine.name != "TensorRT-LLM":
        return setup
    stored = setup.architecture.quantization.experts
    dtype = "nvfp4" if stored == "nvfp4" else "bf16"
    if layout.ep <= experts.top_k:
        return replace(
            setup, layout=replace(layout, moe_dispatch="all_gather"), program=Options(dispatch_dtype=dtype)
        )  # fmt: skip
    if setup.device.name.endswith("NVL72"):
        sent = "fp8_block" if stored == "fp8_block" else dtype
        return replace(setup, program=Options(dispatch_dtype=sent, expert_kernel="trtllm_one_sided"))
    return setup


def _experts(model: Architecture) -> MixtureOfExperts | None:
    feeds = (layer.feed_forward for layer in model.distinct_layers)
    return next((feed for feed in feeds if isinstance(feed, MixtureOfExperts)), None)
