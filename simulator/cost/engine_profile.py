"""How an inference engine runs a step, beyond its kernels: `find_engine("vLLM", "0.19.1")`; see `engines.toml`."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from math import isfinite
from typing import Any

from simulator.errors import CalibrationError, DataError
from simulator.program import ops

Version = tuple[int, ...]
CONTEXT_BYTES = 1.0e9
"""CUDA context, libraries and communication buffers of one process (0.5 to 1.5 GB, nvidia-smi, 2024)."""

BLOCK_FP8_TOKENS = (256, 1024)
"""Tokens of a step up to which block-scaled fp8 runs as fast as in the tables, and from which `block_fp8_shares` holds:
decode steps of the closed-loop table agree with the tables, prompts of 1,024 tokens and more do not (2026-11-24)."""

FUSIBLE: dict[str, type] = {
    "norm": ops.Norm,
    "head_norm": ops.HeadNorm,
    "rotate": ops.Rotate,
    "activate": ops.Activate,
    "add": ops.Add,
    "gate": ops.Gate,
    "pick_best": ops.PickBest,
}
"""Elementwise ops that an engine may run inside its neighbour, by the name the data file gives them."""
NAMED = frozenset({"kv_a_norm", "add_shared", "last_tokens"})
"""Single ops that an engine may run inside their neighbour, by the program's name."""


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """One engine over a range of versions. Times in seconds; every number's source stands in `data/engines.toml`."""

    name: str
    since: Version
    """First version described; () for the oldest."""
    until: Version
    """First version no longer described; () while it is the newest."""
    kernels: str
    """Whose fitted attention kernels it runs: "trtllm", "vllm", "sglang"."""
    gemm_kernels: str
    """Whose fitted GEMMs; "" for those of all engines together (cuBLASLt and CUTLASS are shared)."""
    all_reduce: str
    """Library of its all_reduce, as `simulator.cost.collective` names it."""
    host_step_s: float
    """Scheduling, input preparation and sampling of one step on the host."""
    host_sequence_s: float
    """The same for each sequence of the step (bookkeeping, detokenising)."""
    overlaps_host: bool
    """The host prepares the next step while the device runs this one: a step takes the longer of the two."""
    launch_s: float
    """Host time to launch one kernel eagerly: the device waits where kernels are shorter."""
    graph_sizes: tuple[int, ...]
    """Batch sizes of captured CUDA graphs, ascending; a decode step is padded to the next. Empty: none captured."""
    fused: tuple[type, ...]
    """Elementwise ops that cost nothing of their own."""
    fused_names: frozenset[str]
    """Single ops of the program that cost nothing of their own."""
    side_tokens: int
    """Tokens up to which shared experts run on a second stream beside the routed ones; 0: never."""
    reduced_norm_tokens: int
    """Tokens up to which the residual add and norm are part of the all_reduce before them; 0: never."""
    expert_chains_s: tuple[tuple[str, float], ...]
    """Launches of one expert block's chain of kernels by GPU generation; where none is given, the measured tables'."""
    kernel_share: float
    """Speed of this version's kernels over the fitted tables' (which are of 2025 and 2026)."""
    all_reduce_share: float
    """The same for its collectives."""
    max_batched_tokens: int
    max_sequences: int
    chunked_prefill: bool
    memory_share: float
    """Part of the device's memory that weights, activations and cache may fill; or, with `memory_of_free`, part of
    what weights and activations leave that the cache may fill."""
    memory_of_free: bool
    error: float
    """Median relative error of step times on rows that were not fitted."""
    block_fp8_shares: tuple[tuple[str, float], ...] = ()
    """Speed of products in block-scaled fp8 over the tables' in steps of many tokens, by GPU generation; else 1."""
    latent_quantise_s: float = 0.0
    """What each product in fp8 or NVFP4 blocks takes on top in models with latent attention, in steps of any size:
    kernels that quantise its input, which the tables' products were measured without."""

    @property
    def label(self) -> str:
        """Name with its version range."""
        text = ".".join(map(str, self.since)) or "oldest"
        return f"{self.name} {text} to {'before ' + '.'.join(map(str, self.until)) if self.until else 'newest'}"

    def expert_chain_s(self, generation: str) -> float | None:
        """Launches of one expert block on a GPU generation; None: as in the measured tables."""
        return dict(self.expert_chains_s).get(generation)

    def block_fp8_time_s(self, generation: str, tokens: float, table_s: float) -> float:
        """Time of a product in block-scaled fp8 over `tokens`, from its tables'; `BLOCK_FP8_TOKENS` says from where."""
        few, many = BLOCK_FP8_TOKENS
        part = min(1.0, max(0.0, (tokens - few) / (many - few)))
        share = dict(self.block_fp8_shares).get(generation, 1.0)
        return table_s * (1.0 + part * (1.0 / share - 1.0))

    def padded(self, sequences: int) -> int | None:
        """The captured batch size that a decode step of `sequences` runs as; None: eager."""
        return next((size for size in self.graph_sizes if size >= sequences), None)

    def cache_bytes(self, device_bytes: float, weights_bytes: float, activations_bytes: float) -> float:
        """Memory of one device that the engine gives to its cache; 0 where the weights leave none."""
        held = weights_bytes + activations_bytes + CONTEXT_BYTES
        left = (
            (device_bytes - held) * self.memory_share
            if self.memory_of_free
            else device_bytes * self.memory_share - held
        )
        return max(0.0, left)

    def host_s(self, sequences: float) -> float:
        """Host time of one step."""
        return self.host_step_s + self.host_sequence_s * sequences


def version_of(text: str) -> Version:
    """The leading numbers of a version.

    >>> version_of("v0.19.1rc2"), version_of("nvcr.io/nvidia/tensorrt-llm/release:1.3.0rc14")
    ((0, 19, 1), (1, 3, 0))
    """
    tail = text.rsplit(":", 1)[-1]
    found = re.search(r"\d+(?:\.\d+)+", tail) or re.search(r"\d+", tail)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _sizes(entry: Mapping[str, Any]) -> tuple[int, ...]:
    """Captured sizes: listed ones, then the larger multiples of `graph_step` up to `graph_max`."""
    listed = list(entry.get("graph_sizes", []))
    step, top = entry.get("graph_step", 0), entry.get("graph_max", 0)
    first = step * ((listed[-1] if listed else 0) // step + 1) if step else 0
    return tuple(listed + (list(range(first, top + 1, step)) if step else []))


def profile_from(name: str, entry: Mapping[str, Any]) -> EngineProfile:
    """One entry of the data file. Raises CalibrationError for a missing, unknown or impossible value."""
    where = f"engines.toml: {name}"
    try:
        profile = EngineProfile(
            name=name, since=version_of(entry["since"]), until=version_of(entry["until"]), kernels=entry["kernels"],
            gemm_kernels=entry["gemm_kernels"],
            all_reduce=entry["all_reduce"], host_step_s=entry["host_step_us"] * 1e-6,
            host_sequence_s=entry["host_sequence_us"] * 1e-6, overlaps_host=entry["overlaps_host"],
            launch_s=entry["launch_us"] * 1e-6, graph_sizes=_sizes(entry),
            fused=tuple(FUSIBLE[word] for word in entry["fused"] if word not in NAMED),
            fused_names=frozenset(NAMED.intersection(entry["fused"])), side_tokens=entry.get("side_tokens", 0),
            reduced_norm_tokens=entry.get("reduced_norm_tokens", 0),
            block_fp8_shares=tuple(entry.get("block_fp8_share", {}).items()),
            latent_quantise_s=entry.get("latent_quantise_us", 0.0) * 1e-6,
            expert_chains_s=tuple((key, us * 1e-6) for key, us in entry.get("expert_chain_us", {}).items()),
            kernel_share=entry["kernel_share"],
            all_reduce_share=entry["all_reduce_share"], max_batched_tokens=entry["max_batched_tokens"],
            max_sequences=entry["max_sequences"], chunked_prefill=entry["chunked_prefill"],
            memory_share=entry["memory_share"], memory_of_free=entry["memory_of_free"], error=entry["error"],
        )  # fmt: skip
    except KeyError as error:
        raise CalibrationError(
            where=where, given=str(error), rule="is missing, or is no op that can be fused"
        ) from error
    times = (profile.host_step_s, profile.host_sequence_s, profile.launch_s)
    shares = (profile.kernel_share, profile.all_reduce_share, profile.memory_share)
    if not (all(isfinite(t) and t >= 0 for t in times) and all(0 < share <= 1.5 for share in shares)):
        raise CalibrationError(
            where=where, given=f"{times} {shares}", rule="times are not negative, shares in (0, 1.5]"
        )
    if list(profile.graph_sizes) != sorted(set(profile.graph_sizes)):
        raise CalibrationError(where=where, given=str(profile.graph_sizes[:8]), rule="graph sizes must ascend")
    return profile


@lru_cache(maxsize=1)
def engines() -> tuple[EngineProfile, ...]:
    """Every profile that ships, oldest first within an engine."""
    text = files("simulator.cost").joinpath("data", "engines.toml").read_text(encoding="utf-8")
    found = tomllib.loads(text)
    return tuple(profile_from(entry["name"], entry) for entry in found["engine"])


def find_engine(name: str, version: str = "") -> EngineProfile:
    """The profile of an engine at a version; the newest where no version is given.

    Raises DataError for an engine that is not described, or a version before the first that is.
    """
    key = re.sub(r"[^a-z]", "", name.lower())
    key = {"trt": "tensorrtllm", "trtllm": "tensorrtllm", "dynamotrt": "tensorrtllm"}.get(key, key)
    mine = [p for p in engines() if re.sub(r"[^a-z]", "", p.name.lower()) == key]
    if not mine:
        known = ", ".join(dict.fromkeys(p.name for p in engines()))
        raise DataError(where="engine", given=repr(name), rule="is not described", way_out=f"use one of {known}")
    wanted = version_of(version)
    if not wanted:
        return mine[-1]
    for profile in mine:
        if profile.since <= wanted and (not profile.until or wanted < profile.until):
            return profile
    first = ".".join(map(str, mine[0].since))
    raise DataError(
        where=f"{mine[0].name} version", given=version, rule=f"the first that is described is {first}",
        way_out="give no version to take the newest",
    )  # fmt: skip
