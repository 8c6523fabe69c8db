"""The engines' command lines: `server_commands(pool)`, one a kind of node; `router_command` for pools apart."""

import json
from collections.abc import Callable, Sequence

from simulator.errors import LayoutError
from simulator.planning.launch import LEADER, NODE, PORT, Command, Engine, PoolLaunch
from simulator.planning.yaml_text import yaml_text

RPC_PORT = 13345
"""Of vLLM's data-parallel ranks, as its documents have it (serving/data_parallel_deployment, v0.12.0, 2025-12)."""
INIT_PORT = 20000
"""Of SGLang's torch.distributed (docs.sglang.io, multi-node deployment, 2026)."""
BOOTSTRAP_PORT = 8998
"""SGLang's --disaggregation-bootstrap-port (server_args.py, default)."""
NIXL = {"kv_connector": "NixlConnector", "kv_role": "kv_both"}
"""vLLM's hand-over; both sides are told the same (features/nixl_connector_usage, v0.12.0)."""
CONFIG_FILE = "trtllm.yaml"
ROUTER_FILE = "disaggregated.yaml"

Words = tuple[str, ...]


def server_commands(pool: PoolLaunch) -> tuple[Command, ...]:
    """What to run on the first node of each server and, where it has more, on every other node.

    Raises LayoutError for a layout that the engine cannot start.
    """
    if pool.layout.cp > 1 and pool.engine != "tensorrt-llm":
        raise _refusal(pool, "cp", f"{pool.engine} has no option for it that cuts prompts as planned here")
    return _ENGINE[pool.engine](pool)


def _refusal(pool: PoolLaunch, field: str, rule: str, way_out: str = "") -> LayoutError:
    where = f"{pool.name}.layout.{field}"
    return LayoutError(where=where, given=str(getattr(pool.layout, field)), rule=rule, way_out=way_out)


def _place(pool: PoolLaunch, others: bool = False) -> str:
    count = f"each of {pool.replicas} servers" if pool.replicas > 1 else "the server"
    if pool.nodes == 1:
        return f"{pool.name}: {count}, {pool.gpus} GPU{'s' if pool.gpus > 1 else ''} of one node"
    which = f"nodes 1 to {pool.nodes - 1}" if others else "node 0"
    return f"{pool.name}: {count}, {which} of {pool.nodes} ({pool.gpus_of_node} GPUs a node)"


def _options(*pairs: tuple[str, object], start: Words = ()) -> Words:
    """Flags with values after `start`; None leaves a flag out, True sets it without a value."""
    words = list(start)
    for flag, value in pairs:
        if value is None or value is False:
            continue
        words += [flag] if value is True else [flag, str(value)]
    return tuple(words)


def _fp8(pool: PoolLaunch, spelled: str) -> str | None:
    """The KV type's flag; bf16 is every engine's "auto"."""
    if pool.kv_dtype == "bf16":
        return None
    if pool.kv_dtype != "fp8":
        raise LayoutError(
            where=f"{pool.name}.kv_dtype", given=pool.kv_dtype, rule=f"{pool.engine} stores KV in bf16 or fp8"
        )
    return spelled


def _note(pool: PoolLaunch) -> str:
    notes = [f"planned with {pool.weights} weights: load a checkpoint that stores them so"] if pool.weights else []
    if pool.two_batch_overlap and pool.engine == "tensorrt-llm":
        notes.append("planned with two-batch overlap, for which TensorRT-LLM has no switch")
    return "; ".join(notes)


def _vllm(pool: PoolLaunch) -> tuple[Command, ...]:
    """vLLM. Sources: docs.vllm.ai v0.12.0 (2025-12): serving/data_parallel_deployment, serving/parallelism_scaling,
    features/nixl_connector_usage, deployment/frameworks/lws; vllm/engine/arg_utils.py.
    """
    layout = pool.layout
    if layout.ep not in (1, layout.block):
        raise _refusal(pool, "ep", "vLLM cuts experts over all ranks of a server or none", f"use ep = {layout.block}")
    ranks = layout.dp_attention
    if ranks > 1 and layout.tp * layout.pp > pool.gpus_per_node:
        raise _refusal(pool, "tp", f"a data-parallel rank of vLLM stays within a node of {pool.gpus_per_node} GPUs")
    apart = pool.role != "mixed"
    exchange = {"prefill": "deepep_high_throughput", "decode": "deepep_low_latency"}
    common = _options(
        ("--tensor-parallel-size", layout.tp),
        ("--pipeline-parallel-size", layout.pp if layout.pp > 1 else None),
        ("--data-parallel-size", ranks if ranks > 1 else None),
        ("--enable-expert-parallel", layout.ep > 1),
        ("--all2all-backend", exchange[pool.role] if apart and layout.ep > 1 and ranks > 1 else None),
        ("--kv-cache-dtype", _fp8(pool, "fp8")),
        ("--max-num-batched-tokens", pool.max_batched_tokens),
        ("--max-num-seqs", pool.max_sequences),
        ("--max-model-len", pool.max_model_tokens or None),
        ("--gpu-memory-utilization", f"{pool.memory_share:g}"),
        ("--speculative-config", _vllm_draft(pool)),
        ("--enable-dbo", pool.two_batch_overlap),
        (
            "--kv-transfer-config",
            json.dumps({"kv_connector": "NixlConnector", "kv_role": "kv_both"}) if apart else None,
        ),
        start=("vllm", "serve", pool.model),
    )
    env = (("VLLM_NIXL_SIDE_CHANNEL_HOST", "$HOSTNAME"), ("VLLM_NIXL_SIDE_CHANNEL_PORT", "5600")) if apart else ()
    front = _options(("--host", "0.0.0.0"), ("--port", PORT))
    if pool.nodes == 1:
        return (Command(_place(pool), common + front, env, note=_note(pool)),)
    if ranks > 1:
        local = ranks // pool.nodes
        if local * pool.nodes != ranks:
            raise _refusal(pool, "dp_attention", f"does not spread evenly over {pool.nodes} nodes")
        group = _options(
            ("--data-parallel-size-local", local),
            ("--data-parallel-address", LEADER),
            ("--data-parallel-rpc-port", RPC_PORT),
        )
        other = _options(("--data-parallel-start-rank", f"$((NODE * {local}))"), ("--headless", True))
    else:
        group = _options(("--nnodes", pool.nodes), ("--node-rank", NODE), ("--master-addr", LEADER))
        other = ("--headless",)
    first = Command(_place(pool), common + group + front, env, note=_note(pool))
    return first, Command(_place(pool, others=True), common + group + other, env)


def _vllm_draft(pool: PoolLaunch) -> str | None:
    """Methods "mtp" and "draft_model" of vllm/config/speculative.py (v0.12.0)."""
    if not pool.drafted_tokens:
        return None
    drafts = {"method": "draft_model", "model": pool.draft_model} if pool.draft_model else {"method": "mtp"}
    return json.dumps({**drafts, "num_speculative_tokens": pool.drafted_tokens})


def _sglang(pool: PoolLaunch) -> tuple[Command, ...]:
    """SGLang. Sources: docs.sglang.io server arguments and PD disaggregation (2026), python/sglang/srt/server_args.py.

    tp-size counts all ranks of a stage; with attention in data parallel, the chunk and the number of requests are of
    all ranks together and divided by dp-size (server_args.py, _handle_data_parallelism; pool_configurator.py).
    """
    layout = pool.layout
    ranks, apart = layout.dp_attention, pool.role != "mixed"
    deep = apart and layout.ep > 1 and layout.ep == layout.block
    modes = {"prefill": "normal", "decode": "low_latency"}
    words = _options(
        ("--model-path", pool.model),
        ("--tp-size", layout.block),
        ("--pp-size", layout.pp if layout.pp > 1 else None),
        ("--dp-size", ranks if ranks > 1 else None),
        ("--enable-dp-attention", ranks > 1),
        ("--ep-size", layout.ep if layout.ep > 1 else None),
        ("--moe-a2a-backend", "deepep" if deep else None),
        ("--deepep-mode", modes[pool.role] if deep else None),
        ("--kv-cache-dtype", _fp8(pool, "fp8_e4m3")),
        ("--chunked-prefill-size", pool.max_batched_tokens * ranks),
        ("--max-running-requests", pool.max_sequences * ranks),
        ("--context-length", pool.max_model_tokens or None),
        ("--mem-fraction-static", f"{pool.memory_share:g}"),
        *_sglang_draft(pool),
        ("--enable-two-batch-overlap", pool.two_batch_overlap),
        ("--disaggregation-mode", pool.role if apart else None),
        ("--disaggregation-transfer-backend", "mooncake" if apart else None),
        ("--disaggregation-bootstrap-port", BOOTSTRAP_PORT if pool.role == "prefill" else None),
        ("--host", "0.0.0.0"),
        ("--port", PORT),
        start=("python", "-m", "sglang.launch_server"),
    )
    if pool.nodes == 1:
        return (Command(_place(pool), words, note=_note(pool)),)
    words += _options(("--dist-init-addr", f"{LEADER}:{INIT_PORT}"), ("--nnodes", pool.nodes), ("--node-rank", NODE))
    return Command(_place(pool), words, note=_note(pool)), Command(_place(pool, others=True), words)


def _sglang_draft(pool: PoolLaunch) -> tuple[tuple[str, object], ...]:
    """A chain of drafts, no tree. The verified tokens are the drafted ones and the one before them (advanced_features/
    speculative_decoding, docs.sglang.io, 2026)."""
    if not pool.drafted_tokens:
        return ()
    return (
        ("--speculative-algorithm", "STANDALONE" if pool.draft_model else "EAGLE"),
        ("--speculative-draft-model-path", pool.draft_model or None),
        ("--speculative-num-steps", pool.drafted_tokens),
        ("--speculative-eagle-topk", 1),
        ("--speculative-num-draft-tokens", pool.drafted_tokens + 1),
    )


def _trtllm(pool: PoolLaunch) -> tuple[Command, ...]:
    """TensorRT-LLM. Sources: nvidia.github.io/TensorRT-LLM 1.0.0 to 1.3 (2025-09 to 2026), commands/trtllm-serve,
    features/disagg-serving; tensorrt_llm/commands/serve.py. Batch and token limits are those of one attention rank.
    """
    layout = pool.layout
    if layout.dp_attention > 1 and layout.tp > 1:
        raise _refusal(pool, "dp_attention", "TensorRT-LLM runs attention in data parallel over all ranks or none")
    config: dict[str, object] = {}
    if layout.dp_attention > 1:
        config["enable_attention_dp"] = True
    cache: dict[str, object] = {"free_gpu_memory_fraction": pool.memory_share}
    if (dtype := _fp8(pool, "fp8")) is not None:
        cache["dtype"] = dtype
    config["kv_cache_config"] = cache
    if pool.role != "mixed":
        config["cache_transceiver_config"] = {"backend": "UCX"}
    if pool.role == "prefill":
        config["disable_overlap_scheduler"] = True
    if pool.drafted_tokens:
        config["speculative_config"] = _trtllm_draft(pool)
    words = _options(
        ("--backend", "pytorch"),
        ("--tp_size", layout.dp_attention * layout.tp),
        ("--pp_size", layout.pp if layout.pp > 1 else None),
        ("--cp_size", layout.cp if layout.cp > 1 else None),
        ("--ep_size", layout.ep if layout.ep > 1 else None),
        ("--max_batch_size", pool.max_sequences),
        ("--max_num_tokens", pool.max_batched_tokens),
        ("--max_seq_len", pool.max_model_tokens or None),
        ("--config", CONFIG_FILE),
        ("--host", "0.0.0.0"),
        ("--port", PORT),
        start=("trtllm-serve", pool.model),
    )
    files = ((CONFIG_FILE, yaml_text(config)),)
    if pool.nodes == 1:
        return (Command(_place(pool), words, files=files, note=_note(pool)),)
    slurm = ("srun", "-N", str(pool.nodes), "--ntasks", str(pool.gpus), "--ntasks-per-node", str(pool.gpus_of_node))
    where = f"{_place(pool).split(', node 0')[0]}, {pool.nodes} nodes under Slurm"
    return (Command(where, (*slurm, "--mpi=pmix", "trtllm-llmapi-launch", *words), files=files, note=_note(pool)),)


def _trtllm_draft(pool: PoolLaunch) -> dict[str, object]:
    """MTPDecodingConfig, DraftTargetDecodingConfig (tensorrt_llm/llmapi/llm_args.py, v1.0 to 1.2)."""
    if not pool.draft_model:
        return {"decoding_type": "MTP", "num_nextn_predict_layers": pool.drafted_tokens}
    return {
        "decoding_type": "Draft_Target", "max_draft_len": pool.drafted_tokens,
        "speculative_model_dir": pool.draft_model,
    }  # fmt: skip


_ENGINE: dict[Engine, Callable[[PoolLaunch], tuple[Command, ...]]] = {
    "vllm": _vllm,
    "sglang": _sglang,
    "tensorrt-llm": _trtllm,
}


def router_command(prefill: PoolLaunch, decode: PoolLaunch, urls: Sequence[Sequence[str]]) -> Command:
    """What stands before pools apart. `urls`: of the prefill servers and of the decode servers, http://host:port.

    Sources: vllm-router's README (github.com/vllm-project/router, 2026), sglang_router.launch_router (docs.sglang.io,
    PD disaggregation, 2026), `trtllm-serve disaggregated` (TensorRT-LLM examples/disaggregated, 2025). Raises
    LayoutError where the pools' engines differ: they do not speak each other's hand-over.
    """
    if prefill.engine != decode.engine:
        given = f"{prefill.engine} and {decode.engine}"
        raise LayoutError(where="pools", given=given, rule="prefill and decode must run one engine")
    front = _options(("--host", "0.0.0.0"), ("--port", PORT))
    match prefill.engine:
        case "vllm":
            local = max(pool.layout.dp_attention // pool.nodes for pool in (prefill, decode))
            words: Words = ("vllm-router", "--policy", "round_robin", "--vllm-pd-disaggregation")
            words += tuple(w for url in urls[0] for w in ("--prefill", url))
            words += tuple(w for url in urls[1] for w in ("--decode", url))
            words += ("--intra-node-data-parallel-size", str(local))
        case "sglang":
            words = ("python", "-m", "sglang_router.launch_router", "--pd-disaggregation")
            words += tuple(w for url in urls[0] for w in ("--prefill", url, str(BOOTSTRAP_PORT)))
            words += tuple(w for url in urls[1] for w in ("--decode", url))
        case "tensorrt-llm":
            hosts = [[url.removeprefix("http://") for url in side] for side in urls]
            config = {
                "hostname": "0.0.0.0",
                "port": PORT,
                "backend": "pytorch",
                "context_servers": {"num_instances": len(hosts[0]), "urls": hosts[0]},
                "generation_servers": {"num_instances": len(hosts[1]), "urls": hosts[1]},
            }
            return Command(
                "router",
                ("trtllm-serve", "disaggregated", "-c", ROUTER_FILE),
                files=((ROUTER_FILE, yaml_text(config)),),
            )
    return Command("router", words + front)
