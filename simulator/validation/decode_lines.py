"""Single-GPU decoding: time between tokens against context, measured lines beside predicted ones.

`python -m simulator.validation.decode_lines` prints them. Measured: vLLM 0.19.1, one client, 128 output tokens, prompts
of 256 to 125,000 tokens; intercept and slope of a straight line through the mean inter-token latencies
(single-GPU roofline study, 2026; gpt-oss-20b on H100: 4.03 to 4.07 ms, its middle is taken).
"""

from dataclasses import dataclass, replace

from simulator.cost.engine_profile import EngineProfile, find_engine
from simulator.cost.table import Setup, StepTable, TableOptions, build_table
from simulator.hardware.catalogue import find_device
from simulator.model.catalogue import find_model
from simulator.model.quantization import override
from simulator.parallel.layout import Layout
from simulator.validation.links import group_links


@dataclass(frozen=True, slots=True)
class DecodeLine:
    """Inter-token latency = `intercept_s` + `slope_s` x cached tokens."""

    model: str
    gpu: str
    kv_dtype: str
    intercept_s: float
    slope_s: float


LINES = (
    DecodeLine("Llama-3.1-8B", "H100", "bf16", 6.44e-3, 4.37e-8),
    DecodeLine("Llama-3.1-8B", "H100", "fp8", 6.58e-3, 2.37e-8),
    DecodeLine("Llama-3.1-8B", "B200", "bf16", 3.93e-3, 1.80e-8),
    DecodeLine("Llama-3.1-8B", "B200", "fp8", 3.96e-3, 9.72e-9),
    DecodeLine("gpt-oss-20b", "H100", "bf16", 4.05e-3, 8.94e-9),
    DecodeLine("gpt-oss-20b", "B200", "bf16", 3.15e-3, 3.56e-9),
)
SHORT, LONG = 256, 124_928
ENGINE = ("vLLM", "0.19.1")


def table_for(line: DecodeLine, engine: EngineProfile | None = None) -> StepTable:
    """The table of one sequence on one GPU."""
    model = find_model(line.model)
    stored = replace(model, quantization=override(model.quantization, kv_cache=line.kv_dtype))
    links = group_links(line.gpu, 1, 1)
    setup = Setup(stored, Layout(), find_device(line.gpu), lambda _axes: links, engine or find_engine(*ENGINE))
    return build_table(setup, TableOptions(max_tokens=512, max_sequences=8, prefill_counts=(1,)))


def predicted(line: DecodeLine, engine: EngineProfile | None = None) -> DecodeLine:
    """The same line from step times at both ends of the measured range."""
    table = table_for(line, engine)
    low, high = table.step_time_s(0, 0, 1, SHORT), table.step_time_s(0, 0, 1, LONG)
    slope = (high - low) / (LONG - SHORT)
    return DecodeLine(line.model, line.gpu, line.kv_dtype, low - slope * SHORT, slope)


def main() -> int:
    """Prints one line per measured line."""
    for line in LINES:
        found = predicted(line)
        print(
            f"{line.model:14} {line.gpu:5} {line.kv_dtype:5} intercept {line.intercept_s * 1e3:.2f} ms measured, "
            f"{found.intercept_s * 1e3:.2f} predicted ({found.intercept_s / line.intercept_s - 1:+.0%}); "
            f"slope {line.slope_s * 1e9:.2f} ns/token measured, {found.slope_s * 1e9:.2f} predicted "
            f"({found.slope_s / line.slope_s - 1:+.0%})"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
