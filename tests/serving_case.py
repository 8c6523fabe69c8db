"""A small live scenario, its step-time tables built once for all tests."""

from pathlib import Path

from simulator.metrics.serving_case import ServingCase
from simulator.scenario.load import load_scenario
from simulator.scenario.serving_resolve import Tables, resolve_serving

SMALL = """\
name: small
model: meta-llama/Llama-3.1-8B
topology: dgx_h100
layout: {tp: 1}
traffic:
  arrivals: poisson
  rate: 6
  requests: 60
  input_tokens: {mean: 300, spread: 0.5}
  output_tokens: {mean: 40, spread: 0.5}
  seed: 3
slo: {ttft: 300 ms, tpot: 30 ms}
"""
PAIR = (
    "pools=[{name: p, role: prefill, replicas: 2, layout: {tp: 1}}, {name: d, role: decode, replicas: 2, "
    "layout: {tp: 1}}]"
)
SERVERS: Tables = {}


def case(folder: Path, *settings: str, text: str = SMALL) -> ServingCase:
    """The scenario with settings laid over; `layout` gives way where they bring pools."""
    path = folder / "live.yaml"
    path.write_text(text.replace("layout: {tp: 1}\n", "") if any(s.startswith("pools=") for s in settings) else text)
    return resolve_serving(load_scenario(path, settings).entries[0], SERVERS)
