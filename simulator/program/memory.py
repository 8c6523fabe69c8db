"""The memory reading: bytes of weights, KV cache and live activations on each rank."""

from dataclasses import dataclass
from functools import lru_cache

from simulator.model.architecture import Architecture, GroupedQueryAttention, Layer, LinearAttention
from simulator.model.kv_cache import fixed_state_bytes, layer_sequence_bytes
from simulator.model.parameters import Parameter, layer_parameters, outer_parameters
from simulator.model.quantization import parameter_bytes
from simulator.parallel.layout import Layout
from simulator.program import ops
from simulator.program.build import Program, stage_layers
from simulator.program.sharding import local_kv_heads, local_size

ACTIVATION_BYTES = 2.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on one rank."""

    weights_bytes: float
    kv_cache_bytes: float
    activations_bytes: float

    @property
    def total_bytes(self) -> float:
        """All of it."""
        return self.weights_bytes + self.kv_cache_bytes + self.activations_bytes


def weights_bytes(architecture: Architecture, layout: Layout, stage: int) -> float:
    """Weights on the fullest rank of a pipeline stage, scales of quantised tensors included."""
    mine = stage_layers(len(architecture.layers), layout.pp)[stage]
    total = sum(_layer_bytes(architecture, layout, architecture.layers[i]) for i in mine)
    first, last = stage == 0, stage == layout.pp - 1
    for parameter in outer_parameters(architecture):
        here = first if parameter.kind == "embedding" else last
        if here or (last and architecture.tie_embeddings and parameter.name == "embed_tokens.weight"):
            total += _local_bytes(parameter, architecture, layout)
    return total


@lru_cache(maxsize=1024)
def _layer_bytes(architecture: Architecture, layout: Layout, layer: Layer) -> float:
    return sum(_local_bytes(p, architecture, layout) for p in layer_parameters(architecture, layer))


def _local_bytes(parameter: Parameter, architecture: Architecture, layout: Layout) -> float:
    return parameter_bytes(parameter, architecture.quantization) * local_size(parameter, layout) / parameter.size


def kv_cache_bytes(architecture: Architecture, layout: Layout, stage: int, lengths: tuple[int, ...]) -> float:
    """KV cache on one rank that holds sequences of these lengths; heads past tp are replicated, latents too."""
    mine = stage_layers(len(architecture.layers), layout.pp)[stage]
    total = 0.0
    for i in mine:
        attention = architecture.layers[i].attention
        share = 1.0
        if isinstance(attention, GroupedQueryAttention):
            share = local_kv_heads(attention.kv_heads, layout.tp) / attention.kv_heads
        for length in lengths:
            whole = layer_sequence_bytes(attention, architecture.quantization, length)
            if isinstance(attention, LinearAttention):
                total += fixed_state_bytes(attention) / layout.tp
            else:
                total += whole * share / layout.cp
    return total


def activations_bytes(program: Program) -> float:
    """Largest sum of live activations of any moment of the step: a tensor lives from its writer to its last reader."""
    peak = 0.0
    carried: dict[str, float] = {}
    for segment in program.segments:
        if segment.place in ("embedding", "receive"):
            carried = {}
        last_use: dict[str, int] = {}
        for index, op in enumerate(segment.ops):
            last_use.update(dict.fromkeys(op.inputs, index))
        live = dict(carried)
        for index, op in enumerate(segment.ops):
            live.update(zip(op.outputs, output_bytes(op, program.layout), strict=True))
            peak = max(peak, sum(live.values()) + _scratch_bytes(op))
            for name in op.inputs:
                if last_use[name] == index and name not in op.outputs and name not in ("h", "delta"):
                    live.pop(name, None)
        carried = {name: live[name] for name in ("h", "delta") if name in live}
    return peak


def _scratch_bytes(op: ops.Op) -> float:
    """What an op needs inside: the rows of the experts between their two products (gate and up, then their product)."""
    return 3.0 * max(op.load.totals) * op.intermediate * ACTIVATION_BYTES if isinstance(op, ops.Experts) else 0.0


def output_bytes(op: ops.Op, layout: Layout) -> tuple[float, ...]:
    """Bytes of each output of an op on one rank."""
    match op:
        case ops.Linear(ns=ns):
            return tuple(op.tokens * n * ACTIVATION_BYTES for n in ns)
        case ops.Attend() | ops.AttendLatent():
            prefilled = sum(new for new, _ in op.shape.prefills) * op.shape.share
            tokens = prefilled + op.shape.decodes
            out = tokens * op.heads * op.v_head_dim * ACTIVATION_BYTES
            return (out, tokens * op.heads * 4.0) if op.partial else (out,)
        case ops.AttendLinear():
            return (op.tokens * op.value_heads * op.value_head_dim * ACTIVATION_BYTES,)
        case ops.Route():
            return op.tokens * op.top_k * 4.0, op.tokens * op.top_k * 4.0
        case ops.Experts():
            return (max(op.load.totals) * op.hidden * ACTIVATION_BYTES,)
        case ops.Collective(kind="reduce_scatter"):
            return (op.bytes / layout.size(op.over),)
        case ops.Collective() | ops.Receive():
            return (op.bytes,)
        case ops.Send():
            return ()
        case _:
            return _from_fields(op)


def _from_fields(op: ops.Op) -> tuple[float, ...]:
    tokens: float = getattr(op, "tokens", 0) or getattr(op, "sequences", 0)
    features: float = getattr(op, "features", 0) or getattr(op, "hidden", 0) or 2
    if isinstance(op, ops.DispatchUnpack):  # rows, and for each a few ids and weights
        return tokens * op.hidden * ACTIVATION_BYTES, tokens * 16.0, tokens * 16.0
    if isinstance(op, ops.HeadNorm):
        features = (op.heads + op.kv_heads) * op.head_dim
    if isinstance(op, ops.MergeAttention):
        features = op.heads * op.v_head_dim
    each = tokens * features * ACTIVATION_BYTES
    shared = len(op.outputs) if isinstance(op, ops.HeadNorm | ops.Rotate) else 1
    return tuple(each / shared for _ in op.outputs)
