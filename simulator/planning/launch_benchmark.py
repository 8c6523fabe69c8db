"""The benchmark that checks a plan on real hardware: `benchmark_command(traffic, model)` replays the planned traffic.

Flags: docs.vllm.ai, cli/bench/serve, v0.12.0 (2025-12); `timed_trace` is newer (latest, 2026). The client speaks the
OpenAI protocol, so it asks SGLang and TensorRT-LLM alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from simulator.errors import WorkloadError
from simulator.planning.launch import PORT, Command

RESULT_FILE = "measured.json"
PROMPTS_PER_CLIENT = 10
"""Requests for each client of a closed loop, as public closed-loop runs have it (InferenceX, 2025 to 2026)."""
OPEN_LOOP_S = 300.0
"""How long an open loop is kept up: five minutes settle queues of a few hundred requests."""
TRACE_BLOCK_TOKENS = 512
"""Tokens a hash stands for in Mooncake's traces (FAST'25 release); the client's own default is 16."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What users send. Either a rate (open loop), clients (closed loop) or a trace.

    Raises WorkloadError for none or several of these, and for lengths below 1.
    """

    input_tokens: float
    """Mean tokens of a prompt; of a trace they are not asked."""
    output_tokens: float
    rate_per_s: float = 0.0
    burstiness: float = 1.0
    """Shape of the Gamma law of times between arrivals; 1: Poisson."""
    clients: int = 0
    spread: float = 0.0
    """Lengths are uniform in mean * [1 - spread, 1 + spread]."""
    trace: str = ""
    """A file of Mooncake's schema: timestamp in ms, input_length, output_length, hash_ids."""
    trace_requests: int = 0
    trace_speed: float = 1.0
    """How much faster than it was recorded."""
    shared_prefix_tokens: int = 0
    goodput_ms: Mapping[str, float] = field(default_factory=dict)
    """Limits of ttft, tpot and e2el in milliseconds."""

    def __post_init__(self) -> None:
        if sum((self.rate_per_s > 0, self.clients > 0, bool(self.trace))) != 1:
            raise WorkloadError(where="traffic", given="", rule="is one of a rate, clients or a trace")
        if not self.trace and min(self.input_tokens, self.output_tokens) < 1:
            given = f"{self.input_tokens:g} in, {self.output_tokens:g} out"
            raise WorkloadError(where="traffic", given=given, rule="prompts and answers have tokens")
        if not 0.0 <= self.spread < 1.0:
            raise WorkloadError(where="traffic.spread", given=f"{self.spread:g}", rule="must lie in [0, 1)")


def benchmark_command(traffic: Traffic, model: str, host: str = "localhost", *, port: int = PORT) -> Command:
    """`vllm bench serve` with the planned lengths, arrivals and limits; its result is what `shardsim compare` reads."""
    words = ["vllm", "bench", "serve", "--backend", "openai", "--base-url", f"http://{host}:{port}"]
    words += ["--endpoint", "/v1/completions", "--model", model]
    words += _trace(traffic) if traffic.trace else _random(traffic)
    words += ["--ignore-eos", "--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,90,95,99"]
    if traffic.goodput_ms:
        words += ["--goodput", *(f"{name}:{limit:g}" for name, limit in traffic.goodput_ms.items())]
    words += ["--save-result", "--result-filename", RESULT_FILE]
    return Command("client", tuple(words))


def _trace(traffic: Traffic) -> list[str]:
    words = ["--dataset-name", "timed_trace", "--dataset-path", traffic.trace, "--self-timed"]
    words += ["--timed-trace-chunk-hash-size", str(TRACE_BLOCK_TOKENS), "--timed-trace-sec-multiplier"]
    words.append(f"{0.001 / traffic.trace_speed:.4g}")
    return words + (["--num-prompts", str(traffic.trace_requests), "--no-oversample"] if traffic.trace_requests else [])


def _random(traffic: Traffic) -> list[str]:
    """Lengths: the client draws a prompt evenly from [L(1 - r), L(1 + r)], and puts the shared prefix before it."""
    prompt = max(1, round(traffic.input_tokens) - traffic.shared_prefix_tokens)
    words = ["--dataset-name", "random", "--random-input-len", str(prompt)]
    words += ["--random-output-len", str(max(1, round(traffic.output_tokens)))]
    if traffic.spread:
        words += ["--random-range-ratio", f"{traffic.spread:.4g}"]
    if traffic.shared_prefix_tokens:
        words += ["--random-prefix-len", str(traffic.shared_prefix_tokens)]
    if traffic.clients:
        prompts = PROMPTS_PER_CLIENT * traffic.clients
        return [
            *words,
            "--request-rate",
            "inf",
            "--max-concurrency",
            str(traffic.clients),
            "--num-prompts",
            str(prompts),
        ]
    words += ["--request-rate", f"{traffic.rate_per_s:.4g}"]
    if traffic.burstiness != 1.0:
        words += ["--burstiness", f"{traffic.burstiness:.4g}"]
    return [*words, "--num-prompts", str(max(100, round(OPEN_LOOP_S * traffic.rate_per_s)))]
