"""Does a pool's share of the model, the cache and the activations fit its GPUs? Asked before any step runs."""

from collections.abc import Sequence

from simulator.engine.deployment import Deployment, Pool
from simulator.errors import DoesNotFitError
from simulator.program.build import Program
from simulator.program.memory import Memory, activations_bytes, kv_cache_bytes, weights_bytes
from simulator.units import format_bytes


def pool_memory(deployment: Deployment, pool: Pool, programs: Sequence[Program], *, decodes: bool) -> list[Memory]:
    """Bytes on each rank at the end of the run (`decodes`: the pool's cache grows by the decoded tokens).

    Raises DoesNotFitError, with what binds and a way out, where a rank needs more than is usable.
    """
    found: dict[int, Memory] = {}
    for program in programs:
        if id(program) not in found:
            found[id(program)] = _memory(deployment, pool, program, decodes)
    memories = [found[id(program)] for program in programs]
    worst = max(range(len(memories)), key=lambda rank: memories[rank].total_bytes)
    _check(deployment, pool, worst, memories[worst])
    return memories


def _memory(deployment: Deployment, pool: Pool, program: Program, decodes: bool) -> Memory:
    grown = deployment.workload.decode_steps if decodes else 0
    prompts = (s.past or s.new for work in program.works for s in work.sequences)
    lengths = tuple(prompt + grown for prompt in prompts)
    return Memory(
        weights_bytes(deployment.architecture, pool.layout, program.stage),
        kv_cache_bytes(deployment.architecture, pool.layout, program.stage, lengths),
        activations_bytes(program),
    )


def _check(deployment: Deployment, pool: Pool, rank: int, memory: Memory) -> None:
    device = deployment.cluster.device(pool.gpus[rank])
    usable = device.hbm_bytes * (1.0 - deployment.memory_margin)
    if memory.total_bytes <= usable:
        return
    parts = {
        "weights": memory.weights_bytes,
        "KV cache": memory.kv_cache_bytes,
        "activations": memory.activations_bytes,
    }
    told = ", ".join(f"{name} {format_bytes(size)}" for name, size in parts.items())
    raise DoesNotFitError(
        where=f"pool {pool.name!r}, rank {rank}",
        given=f"{format_bytes(memory.total_bytes)} on {device.name}",
        rule=f"{format_bytes(usable)} are usable ({format_bytes(device.hbm_bytes)} less a margin of "
        f"{deployment.memory_margin:.0%}); {max(parts, key=parts.__getitem__)} bind: {told}",
        way_out=_way_out(memory, usable),
    )


def _way_out(memory: Memory, usable: float) -> str:
    if memory.weights_bytes > usable:
        return "use more tp, pp or ep, or a smaller precision for the weights"
    if memory.kv_cache_bytes > memory.activations_bytes:
        return "use fewer or shorter sequences, more GPUs, or kv_cache: fp8"
    return "prefill fewer tokens in one step, or use more tp or cp"
