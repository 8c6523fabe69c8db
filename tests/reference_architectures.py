"""Miniatures with the layer patterns of real families: uneven sizes, no symmetry, every switch used once."""

from simulator.model.architecture import (
    Architecture,
    DenseMlp,
    FeedForward,
    GroupedQueryAttention,
    LatentAttention,
    Layer,
    MixtureOfExperts,
    Rope,
    Router,
)

LLAMA3 = (
    ("factor", 8.0),
    ("high_freq_factor", 4.0),
    ("low_freq_factor", 1.0),
    ("original_max_position_embeddings", 64.0),
    ("rope_type", "llama3"),
)
YARN = (
    ("beta_fast", 32.0),
    ("beta_slow", 1.0),
    ("factor", 4.0),
    ("mscale", 1.0),
    ("mscale_all_dim", 0.7),
    ("original_max_position_embeddings", 16.0),
    ("type", "yarn"),
)


def gqa(heads: int = 6, kv_heads: int = 2, head_dim: int = 8, **more: object) -> GroupedQueryAttention:
    settings: dict[str, object] = {"v_head_dim": head_dim, "scale": head_dim**-0.5, "rope": Rope(10000.0, head_dim)}
    return GroupedQueryAttention(heads, kv_heads, head_dim, **{**settings, **more})  # type: ignore[arg-type]


def mla(q_lora_rank: int | None) -> LatentAttention:
    rope = Rope(10000.0, 4, interleaved=True, scaling=YARN)
    return LatentAttention(4, q_lora_rank, 12, 8, 4, 6, 12**-0.5 * 1.3, rope)


def model(family: str, *layers: Layer, **more: object) -> Architecture:
    settings: dict[str, object] = {"norm_eps": 1e-5, "max_position": 512, "tie_embeddings": False}
    return Architecture(family, family, 28, 61, layers, **{**settings, **more})  # type: ignore[arg-type]


def same(attention: GroupedQueryAttention | LatentAttention, block: FeedForward, count: int = 2) -> tuple[Layer, ...]:
    return (Layer(attention, block),) * count


_SHARED = MixtureOfExperts(8, 3, 10, Router(), shared_intermediate=14, shared_gate=True)
_V2 = MixtureOfExperts(
    8, 3, 10, Router(normalize=False, routed_scale=1.5, groups=4, groups_kept=2, group_score="max"),
    shared_intermediate=20,
)  # fmt: skip
_V3 = MixtureOfExperts(
    12, 3, 10, Router("sigmoid", routed_scale=2.5, groups=3, groups_kept=2, correction_bias=True),
    shared_intermediate=10,
)  # fmt: skip
_OSS = MixtureOfExperts(
    6, 2, 10, Router("softmax_topk", normalize=False, bias=True), activation="clamped_swiglu", bias=True
)
_OSS_ROPE = Rope(150000.0, 8, scaling=(*YARN[:3], YARN[5], ("rope_type", "yarn"), ("truncate", False)))
_OSS_ATTENTION = gqa(qkv_bias=True, output_bias=True, sinks=True, rope=_OSS_ROPE)
_OSS_WINDOW = gqa(qkv_bias=True, output_bias=True, sinks=True, rope=_OSS_ROPE, window=5)
_SIGMOID = MixtureOfExperts(10, 3, 6, Router("sigmoid", correction_bias=True))
_SCOUT = MixtureOfExperts(5, 1, 10, Router("sigmoid", normalize=False, scale_input=True), shared_intermediate=12)

MINIATURES: dict[str, Architecture] = {
    "llama": model("llama", *same(gqa(rope=Rope(5e5, 8, scaling=LLAMA3)), DenseMlp(18)), tie_embeddings=True),
    "qwen2": model("qwen2", *same(gqa(qkv_bias=True), DenseMlp(18))),
    "qwen3": model("qwen3", *same(gqa(head_dim=10, qk_norm="head"), DenseMlp(18))),
    "mixtral": model("mixtral", *same(gqa(), MixtureOfExperts(5, 2, 14, Router()))),
    "qwen3_moe": model("qwen3_moe", *same(gqa(qk_norm="head"), MixtureOfExperts(8, 3, 10, Router()))),
    "qwen2_moe": model("qwen2_moe", *same(gqa(qkv_bias=True), _SHARED)),
    "deepseek_v2": model("deepseek_v2", Layer(mla(None), DenseMlp(18)), *same(mla(None), _V2)),
    "deepseek_v3": model("deepseek_v3", Layer(mla(10), DenseMlp(18)), *same(mla(10), _V3)),
    "gpt_oss": model("gpt_oss", Layer(_OSS_WINDOW, _OSS), Layer(_OSS_ATTENTION, _OSS)),
    "glm4_moe": model("glm4_moe", *same(gqa(qkv_bias=True, qk_norm="head", rope=Rope(1e4, 4)), _SIGMOID)),
    "minimax_m2": model("minimax_m2", *same(gqa(qk_norm="full", rope=Rope(1e4, 6)), _SIGMOID)),
    "llama4": model(
        "llama4",
        Layer(gqa(rope=Rope(1e4, 8, interleaved=True), qk_norm="l2", chunk=6), _SCOUT),
        Layer(gqa(rope=None, temperature_tuning=(0.1, 4.0)), DenseMlp(18)),
    ),
    "gpt3": model(
        "gpt3",
        *same(gqa(kv_heads=6, rope=None, qkv_bias=True, output_bias=True), DenseMlp(18, False, "gelu_tanh", bias=True)),
        norm="layer",
        learned_positions=64,
        tie_embeddings=True,
    ),
}
