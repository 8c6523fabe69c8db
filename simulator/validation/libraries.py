"""Which library, by our names, a row of a table ran."""

import re

_ENGINES = (("sglang", "sglang"), ("vllm", "vllm"), ("trt", "tensorrt-llm"), ("tensorrt", "tensorrt-llm"))
# From these versions on the engines' kernels are others: SGLang 0.5.14 brought new one- and two-shot kernels,
# vLLM 0.18 symmetric memory with multicast, TensorRT-LLM 1.3 one-shot kernels up to larger messages.
_NEWER_FROM: dict[str, tuple[int, ...]] = {"sglang": (0, 5, 14), "vllm": (0, 18), "tensorrt-llm": (1, 3)}


def version_numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "1.3.0rc10" is (1, 3, 0)."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"rc|post|\+", version)[0]))


def library_key(library: str, version: str = "") -> str | None:
    """Our name for a library and its version; None for one that is not known here."""
    lower = library.lower()
    for word, name in _ENGINES:
        if word in lower:
            newer = _NEWER_FROM[name]
            numbers = version_numbers(version)
            return name if not numbers or numbers >= newer else f"{name}<{'.'.join(map(str, newer))}"
    return next((name for name in ("nccl", "rccl", "oneccl") if name in lower), None)
