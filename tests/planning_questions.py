"""Small questions for planner tests: a small model on few GPUs, searched in about a second."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

from simulator.model.catalogue import find_model
from simulator.parallel.layout import Layout
from simulator.planning.assess import Assessed
from simulator.planning.designs import Design
from simulator.planning.platforms import platform_from_device
from simulator.planning.question import Question, Space, Traffic
from simulator.planning.result import Role, Slo
from simulator.planning.steady import Curve

SPACE = Space((("bf16", ""),), modes=("aggregated",), tp=(1, 2), pp=(1, 2), max_sequences=(64,))


@lru_cache(maxsize=8)
def _platform(gpu: str, gpus: int) -> Any:
    return replace(platform_from_device(gpu, gpus), usd_per_gpu_hour=2.05, price_source="test")


def question(
    *, gpus: int = 8, rate: float | None = None, objective: str = "max_load", ttft_s: float | None = 0.7,
    tpot_s: float | None = 0.03, e2el_s: float | None = None, model: str = "Qwen3-8B", space: Space = SPACE,
    gpu: str = "H100", confirm: int = 4, lengths: tuple[int, int] = (900, 150),
) -> Question:  # fmt: skip
    """A question about one kind of GPU."""
    return Question(
        "small", "", model, find_model(model), Traffic(rate, *lengths, range_ratio=0.5),
        Slo(ttft_s, tpot_s, e2el_s, 90.0), (_platform(gpu, gpus),), objective, space, gpus, confirm,  # type: ignore[arg-type]
    )  # fmt: skip


def part(role: Role, ranks: int, held: float, best: float = 0.0, platform: int = 0) -> Assessed:
    """A part that holds so much, by decree."""
    best = best or held * 1.1
    curve = Curve(
        (held / 2, held, best), (0.1, 0.2, 0.4), (0.01, 0.02, 0.03), (1.0, 2.0, 3.0), (3.0, 7.0, 11.0), (0.1, 0.2, 0.3),
        held, best, "tpot", 0.05, 0.005,
    )  # fmt: skip
    design = Design(platform, Layout(tp=ranks), "bf16", "", "vllm")
    return Assessed(design, role, 64, 8192, "scored", "", "tpot", curve, 1e6)
