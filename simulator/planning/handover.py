"""How pools hand KV over: who moves it, over which line, and when the client sees the first token."""

from simulator.cost.collective.transfer import Engine, transfer_price
from simulator.cost.table import Setup
from simulator.engine.fleet_spec import FirstToken, TransferSpec
from simulator.planning.question import Platform
from simulator.program.memory import kv_cache_bytes

MOVER: dict[str, Engine] = {"sglang": "mooncake-sglang", "tensorrt-llm": "nixl", "vllm": "nixl"}
"""Who moves KV: SGLang's default transfer backend is Mooncake; TensorRT-LLM's cache transceiver and vLLM's connector in
Dynamo use NIXL over UCX (server arguments and docs of the three, 2025-09 to 2026-03)."""
FIRST_TOKEN: dict[str, FirstToken] = {"sglang": "transfer", "tensorrt-llm": "transfer", "vllm": "decode"}
HANDOVER_S: dict[str, float] = {"sglang": 0.1, "vllm": 0.2, "tensorrt-llm": 0.0}
"""From a computed prompt to the decode replica, beside bytes: routers, bootstrap, polling. SGLang's fitted on half of
the groups with at most 300 clients (2026-11-24; of 0 to 0.3 s): error of TTFT 55 to 39 %, on the rest 68 to 60 %; 0
is TensorRT-LLM's best there; vLLM's is of its one setup, prompts of 1,024 tokens (of 0.1 and 0.2 s; with 8,192
tokens 0.2 leaves 21 % too little)."""


def kv_bytes_per_token(setup: Setup, tokens: int) -> float:
    """Bytes that a prompt of so many tokens moves, by the token, over the ranks that one attention rank's heads are
    split over."""
    layout, model = setup.layout, setup.architecture
    whole = sum(kv_cache_bytes(model, layout, stage, (tokens,)) for stage in range(layout.pp)) * layout.tp
    return whole / tokens


def line_bytes_per_s(platform: Platform) -> float:
    """What KV leaves a GPU by: NVLink where all pools stand in one scale-up domain, its NIC elsewhere."""
    device = platform.device
    near = platform.max_gpus <= platform.per_node and device.nvlink_bytes_per_s
    return device.nvlink_bytes_per_s if near else max(device.nic_bytes_per_s, 1e9)


def transfer_s(setup: Setup, platform: Platform, engine: str, tokens: int) -> float:
    """One prompt's way to a decode replica, nothing else on its line, over the ranks that hold it."""
    size = kv_bytes_per_token(setup, tokens) * tokens
    line = line_bytes_per_s(platform) * setup.layout.tp * setup.layout.pp
    layers = len(setup.architecture.layers)
    return transfer_price(size, line, engine=MOVER[engine], layers=layers).time_s + HANDOVER_S[engine]


def transfer_of(setup: Setup, engine: str, tokens: int) -> TransferSpec:
    """Transfers into decode replicas of this setup, for a fleet."""
    per_token = kv_bytes_per_token(setup, tokens)
    return TransferSpec(
        lambda given: per_token * given, len(setup.architecture.layers), MOVER[engine], "infiniband",
        HANDOVER_S[engine], reserve="before_prefill" if engine == "sglang" else "before_transfer",
        first_token=FIRST_TOKEN[engine],
    )  # fmt: skip
