"""Ops of one attention block, from the normed input "x" to "delta", a sum over tp still owed."""

from collections.abc import Iterator

from simulator.model.architecture import (
    GroupedQueryAttention,
    LatentAttention,
    Layer,
    LinearAttention,
)
from simulator.model.quantization import storage_dtype
from simulator.program.frame import Frame
from simulator.program.ops import (
    Attend,
    AttendLatent,
    AttendLinear,
    Collective,
    Gate,
    HeadNorm,
    Linear,
    MergeAttention,
    Norm,
    Op,
    Rotate,
    SumOfSquares,
    TuneQueries,
)
from simulator.program.sharding import local_kv_heads

KV_BYTES = 2.0


def attention_ops(frame: Frame, layer: Layer) -> Iterator[Op]:
    """x -> delta."""
    match layer.attention:
        case GroupedQueryAttention() as a:
            yield from _grouped_query(frame, a)
        case LatentAttention() as a:
            yield from _latent(frame, a)
        case LinearAttention() as a:
            yield from _linear(frame, a)


def _biases(present: bool, *names: str) -> tuple[str, ...]:
    return tuple(f"self_attn.{name}.bias" for name in names) if present else ()


def _grouped_query(frame: Frame, a: GroupedQueryAttention) -> Iterator[Op]:
    tp, tokens = frame.layout.tp, frame.tokens
    heads, kv_heads = a.heads // tp, local_kv_heads(a.kv_heads, tp)
    yield from _queries_keys_values(frame, a, heads, kv_heads)
    if a.qk_norm in ("head", "full"):
        yield from _qk_norm(frame, a, heads, kv_heads)
    if a.rope is not None:
        yield Rotate(
            name="rope", inputs=("q", "k"), outputs=("q", "k"), rope=a.rope, tokens=tokens,
            head_dims=(a.head_dim, a.head_dim), features=(heads + kv_heads) * a.head_dim,
        )  # fmt: skip
    if a.qk_norm == "l2":  # Llama 4 normalises after rotating
        yield from _qk_norm(frame, a, heads, kv_heads)
    if a.temperature_tuning is not None:
        yield TuneQueries(
            name="tune_queries", inputs=("q",), outputs=("q",), tokens=tokens, features=heads * a.head_dim,
            tuning=a.temperature_tuning,
        )  # fmt: skip
    yield from _gather_kv(frame, ("k", "v"), kv_heads * (a.head_dim + a.v_head_dim))
    partial = frame.layout.cp > 1 and not frame.context_prefill
    yield Attend(
        name="attention", inputs=("q", "k", "v"), outputs=("attn", "lse") if partial else ("attn",),
        shape=frame.work.attention_shape(frame.layout.cp), heads=heads, kv_heads=kv_heads,
        head_dim=a.head_dim, v_head_dim=a.v_head_dim, scale=a.scale,
        kv_dtype=frame.architecture.quantization.kv_cache, window=a.window, chunk=a.chunk,
        sparse_top_k=a.sparse_top_k, compression=a.kv_compression,
        sinks="self_attn.sinks" if a.sinks else "", partial=partial,
        gathered=frame.context_prefill,
    )  # fmt: skip
    yield from _merge(frame, partial, heads, a.v_head_dim)
    if a.output_gate:
        yield Gate(
            name="output_gate", inputs=("attn", "q"), outputs=("attn",), tokens=tokens, features=heads * a.v_head_dim
        )
    if a.output_lora_rank is None:
        yield from _output(frame, a.heads, a.v_head_dim, _biases(a.output_bias, "o_proj"))
    else:
        yield from _grouped_output(frame, a, a.output_lora_rank)


def _queries_keys_values(frame: Frame, a: GroupedQueryAttention, heads: int, kv_heads: int) -> Iterator[Op]:
    """q, k and v in one GEMM; DeepSeek-V4 compresses its queries, and its keys are its values."""
    tokens, hidden, dtype = frame.tokens, frame.architecture.hidden, _dtype(frame)
    names = ["q_proj", "k_proj", "v_proj"]
    ns = [heads * a.head_dim * (2 if a.output_gate else 1), kv_heads * a.head_dim, kv_heads * a.v_head_dim]
    if a.shared_kv:
        ns[2] = 0
    if a.q_lora_rank is not None:
        names[0], ns[0] = "q_a_proj", a.q_lora_rank
    yield Linear(
        name="qkv_proj", inputs=("x",), outputs=("q", "k", "v"),
        weights=tuple(f"self_attn.{name}.weight" for name in names), biases=_biases(a.qkv_bias, *names),
        tokens=tokens, k=hidden, ns=tuple(ns), dtype=dtype, parallel="column",
    )  # fmt: skip
    if a.q_lora_rank is not None:
        yield Linear(
            name="q_b_proj", inputs=("q",), outputs=("q",), weights=("self_attn.q_b_proj.weight",), tokens=tokens,
            k=a.q_lora_rank, ns=(heads * a.head_dim,), dtype=dtype, parallel="replicated",
        )  # fmt: skip


def _dtype(frame: Frame) -> str:
    return storage_dtype(frame.architecture.quantization, "attention")


def _qk_norm(frame: Frame, a: GroupedQueryAttention, heads: int, kv_heads: int) -> Iterator[Op]:
    tp, tokens = frame.layout.tp, frame.tokens
    inputs: tuple[str, ...] = ("q", "k")
    if a.qk_norm == "full":
        yield SumOfSquares(
            name="qk_squares", inputs=("q", "k"), outputs=("squares",), tokens=tokens,
            features=(heads + kv_heads) * a.head_dim, kv_copies=max(1, tp // a.kv_heads),
        )  # fmt: skip
        if tp > 1:
            yield Collective(
                name="qk_squares_all_reduce", inputs=("squares",), outputs=("squares",), kind="all_reduce",
                over=("tp",), bytes=tokens * 2 * 4.0, dtype="fp32",
            )  # fmt: skip
        inputs = ("q", "k", "squares")
    yield HeadNorm(
        name="qk_norm", inputs=inputs, outputs=("q", "k"), kind=a.qk_norm,  # type: ignore[arg-type]
        weights=() if a.qk_norm == "l2" else ("self_attn.q_norm.weight", "self_attn.k_norm.weight"),
        tokens=tokens, heads=heads, kv_heads=kv_heads, head_dim=a.head_dim, eps=frame.architecture.norm_eps,
        full_widths=(a.heads * a.head_dim, a.kv_heads * a.head_dim),
    )  # fmt: skip


def _gather_kv(frame: Frame, names: tuple[str, ...], features: int) -> Iterator[Op]:
    """Context-parallel prefill gathers keys and values over cp (Llama 3, arXiv:2407.21783, 3.3.2)."""
    if not frame.context_prefill:
        return
    for name in names:
        yield Collective(
            name=f"{name}_all_gather", inputs=(name,), outputs=(name,), kind="all_gather", over=("cp",),
            bytes=frame.tokens * frame.layout.cp * features / len(names) * KV_BYTES,
        )  # fmt: skip


def _merge(frame: Frame, partial: bool, heads: int, v_head_dim: int) -> Iterator[Op]:
    if not partial:
        return
    cp, tokens = frame.layout.cp, frame.tokens
    for name, width in (("attn", v_head_dim), ("lse", 1)):
        yield Collective(
            name=f"{name}_all_gather", inputs=(name,), outputs=(f"{name}_parts",), kind="all_gather", over=("cp",),
            dim="stack", bytes=cp * tokens * heads * width * 4.0, dtype="fp32",
        )  # fmt: skip
    yield MergeAttention(
        name="merge_attention", inputs=("attn_parts", "lse_parts"), outputs=("attn",), tokens=tokens, heads=heads,
        v_head_dim=v_head_dim, parts=cp,
    )  # fmt: skip


def _output(frame: Frame, heads: int, v_head_dim: int, biases: tuple[str, ...] = ()) -> Iterator[Op]:
    yield Linear(
        name="o_proj", inputs=("attn",), outputs=("delta",), weights=("self_attn.o_proj.weight",), biases=biases,
        tokens=frame.tokens, k=heads // frame.layout.tp * v_head_dim, ns=(frame.architecture.hidden,),
        dtype=_dtype(frame),
        parallel="row" if frame.layout.tp > 1 else "replicated",
    )  # fmt: skip


def _grouped_output(frame: Frame, a: GroupedQueryAttention, rank: int) -> Iterator[Op]:
    """DeepSeek-V4: groups of heads to a low rank each, then all ranks to the hidden size."""
    tp, groups = frame.layout.tp, max(1, a.output_groups // frame.layout.tp)
    yield Linear(
        name="o_a_proj", inputs=("attn",), outputs=("attn",), weights=("self_attn.o_a_proj.weight",),
        tokens=frame.tokens, k=a.heads * a.v_head_dim // a.output_groups, ns=(rank * groups,), dtype=_dtype(frame),
        parallel="replicated",
    )  # fmt: skip
    yield Linear(
        name="o_proj", inputs=("attn",), outputs=("delta",), weights=("self_attn.o_b_proj.weight",),
        tokens=frame.tokens, k=rank * groups, ns=(frame.architecture.hidden,), dtype=_dtype(frame),
        parallel="row" if tp > 1 else "replicated",
    )  # fmt: skip


def _latent(frame: Frame, a: LatentAttention) -> Iterator[Op]:
    tokens, hidden, heads = frame.tokens, frame.architecture.hidden, a.heads // frame.layout.tp
    dtype, eps = _dtype(frame), a.norm_eps
    q_head = a.nope_head_dim + a.rope_head_dim
    kv_a, q_a = "self_attn.kv_a_proj_with_mqa", "self_attn.q_a_proj"
    joint = a.kv_lora_rank + a.rope_head_dim
    if a.q_lora_rank is None:
        yield Linear(
            name="q_proj", inputs=("x",), outputs=("q",), weights=("self_attn.q_proj.weight",), tokens=tokens, k=hidden,
            ns=(heads * q_head,), dtype=dtype, parallel="column",
        )  # fmt: skip
        yield Linear(
            name="kv_a_proj", inputs=("x",), outputs=("latent",), weights=(f"{kv_a}.weight",), tokens=tokens, k=hidden,
            biases=(f"{kv_a}.bias",) if a.qkv_bias else (), ns=(joint,), dtype=dtype, parallel="replicated",
        )  # fmt: skip
    else:
        yield Linear(
            name="qkv_a_proj", inputs=("x",), outputs=("q_a", "latent"), weights=(f"{q_a}.weight", f"{kv_a}.weight"),
            biases=(f"{q_a}.bias", f"{kv_a}.bias") if a.qkv_bias else (), tokens=tokens, k=hidden,
            ns=(a.q_lora_rank, joint), dtype=dtype, parallel="replicated",
        )  # fmt: skip
        yield Norm(
            name="q_a_norm", inputs=("q_a",), outputs=("q_a",), weight="self_attn.q_a_layernorm.weight", tokens=tokens,
            features=a.q_lora_rank, kind="rms", eps=eps,
        )  # fmt: skip
        yield Linear(
            name="q_b_proj", inputs=("q_a",), outputs=("q",), weights=("self_attn.q_b_proj.weight",), tokens=tokens,
            k=a.q_lora_rank, ns=(heads * q_head,), dtype=dtype, parallel="column",
        )  # fmt: skip
    yield Norm(
        name="kv_a_norm", inputs=("latent",), outputs=("latent",), weight="self_attn.kv_a_layernorm.weight",
        tokens=tokens, features=a.kv_lora_rank, kind="rms", eps=eps,
    )  # fmt: skip
    yield Rotate(
        name="rope", inputs=("q", "latent"), outputs=("q", "latent"), rope=a.rope, tokens=tokens, last=True,
        head_dims=(q_head, joint), features=(heads + 1) * a.rope_head_dim,
    )  # fmt: skip
    yield from _gather_kv(frame, ("latent",), joint)
    partial = frame.layout.cp > 1 and not frame.context_prefill
    yield AttendLatent(
        name="attention", inputs=("q", "latent"), outputs=("attn", "lse") if partial else ("attn",),
        shape=frame.work.attention_shape(frame.layout.cp), weight="self_attn.kv_b_proj.weight", heads=heads,
        kv_lora_rank=a.kv_lora_rank, nope_head_dim=a.nope_head_dim, rope_head_dim=a.rope_head_dim,
        v_head_dim=a.v_head_dim, scale=a.scale, kv_dtype=frame.architecture.quantization.kv_cache, dtype=dtype,
        sparse_top_k=a.sparse_top_k, indexer_heads=a.indexer_heads, indexer_head_dim=a.indexer_head_dim,
        indexer_inputs=(a.q_lora_rank or hidden, hidden) if a.indexer_heads else (0, 0),
        partial=partial, gathered=frame.context_prefill,
    )  # fmt: skip
    yield from _merge(frame, partial, heads, a.v_head_dim)
    yield from _output(frame, a.heads, a.v_head_dim, _biases(a.qkv_bias, "o_proj"))


def _linear(frame: Frame, a: LinearAttention) -> Iterator[Op]:
    tp, tokens, hidden = frame.layout.tp, frame.tokens, frame.architecture.hidden
    keys, values = a.key_heads // tp, a.value_heads // tp
    key_width, value_width = keys * a.key_head_dim, values * a.value_head_dim
    dtype = _dtype(frame)
    parts = ("q", "k", "v", "z", "a", "b")
    yield Linear(
        name="in_proj", inputs=("x",), outputs=parts,
        weights=tuple(f"linear_attn.in_proj_{part}.weight" for part in parts), tokens=tokens, k=hidden,
        ns=(key_width, key_width, value_width, value_width, values, values), dtype=dtype, parallel="column",
    )  # fmt: skip
    yield AttendLinear(
        name="linear_attention", inputs=parts, outputs=("attn",), shape=frame.work.attention_shape(1), tokens=tokens,
        key_heads=keys, value_heads=values, key_head_dim=a.key_head_dim, value_head_dim=a.value_head_dim,
        conv_kernel=a.conv_kernel,
    )  # fmt: skip
    yield Linear(
        name="o_proj", inputs=("attn",), outputs=("delta",), weights=("linear_attn.out_proj.weight",), tokens=tokens,
        k=value_width, ns=(hidden,), dtype=dtype, parallel="row" if frame.layout.tp > 1 else "replicated",
    )  # fmt: skip
