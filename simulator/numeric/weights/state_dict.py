"""Weights from a Hugging Face state dict: renamed, split where fused, experts stacked, then checked."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from simulator.errors import ModelError
from simulator.model.architecture import Architecture, GroupedQueryAttention
from simulator.numeric.weights.names import is_transposed, our_name
from simulator.numeric.weights.random import Array, check_size, named_parameters

_EXPERT: Final = re.compile(r"^(layers\.\d+\.mlp\.experts)\.(\d+)\.(.+)$")
_PREDICTION_LAYER: Final = re.compile(r"^layers\.(\d+)\.(enorm|hnorm|eh_proj|shared_head)\.")
_IN_BY_OUT: Final = ("gpt_oss", "llama4")
"""Families whose fused experts are stored as [experts, in, out]."""


def weights_from_state_dict(architecture: Architecture, tensors: Mapping[str, Any]) -> dict[str, Array]:
    """Float64 arrays under our names, from checkpoint names mapped to anything NumPy can read.

    Understands per-expert and fused experts (Mixtral's w1/w2/w3, gpt-oss's interleaved gate_up_proj), fused
    qkv_proj and gate_up_proj, GPT-2's names. Leaves out multi-token prediction layers and vision towers.
    Raises ModelError for missing, extra, doubled, quantised or wrongly shaped tensors.
    """
    check_size(architecture)
    renamed = [(name, ours) for name in tensors if (ours := our_name(name)) is not None]
    predicted = {match[1] for _, ours in renamed if (match := _PREDICTION_LAYER.match(ours))}
    found: dict[str, Array] = {}
    for name, ours in renamed:
        layer = ours.split(".")[1] if ours.startswith("layers.") else ""
        if layer in predicted and int(layer) >= len(architecture.layers):
            continue
        for piece, array in _split(architecture, ours, _read(name, tensors[name])):
            if piece in found:
                raise ModelError(where=name, given="a second tensor", rule=f"{piece} is there already")
            found[piece] = array
    if architecture.tie_embeddings:
        _drop_tied_head(found)
    return _checked(architecture, _stacked(found))


def _read(name: str, value: Any) -> Array:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as failure:
        raise ModelError(
            where=name,
            given=type(value).__name__,
            rule=f"NumPy cannot read it: {failure}",
            way_out="convert it to float64",
        ) from None
    if not np.all(np.isfinite(array)):
        raise ModelError(where=name, given="NaN or infinity", rule="weights must be finite")
    return array.T if is_transposed(name) else array


def _split(architecture: Architecture, name: str, array: Array) -> Iterator[tuple[str, Array]]:
    """The parts of a fused tensor, or the tensor itself."""
    base, _, end = name.rpartition(".")
    prefix = base.rpartition(".")[0]
    if base.endswith(".mlp.experts.gate_up_proj"):
        yield from zip(
            (f"{prefix}.{part}.{end}" for part in ("gate_proj", "up_proj")),
            _gate_and_up(architecture, array, is_bias=end == "bias"),
            strict=True,
        )
    elif base.endswith(".mlp.experts.down_proj") and end == "weight" and architecture.family in _IN_BY_OUT:
        yield name, _swap(array)
    elif base.endswith(".mlp.gate_up_proj") and len(array) % 2 == 0:
        for part, rows in zip(("gate_proj", "up_proj"), np.split(array, 2), strict=True):
            yield f"{prefix}.{part}.{end}", rows
    elif base.endswith(".self_attn.qkv_proj"):
        cuts = _qkv_cuts(architecture, name, array)
        for part, rows in zip(("q_proj", "k_proj", "v_proj"), np.split(array, cuts), strict=True):
            yield f"{prefix}.{part}.{end}", rows
    else:
        yield name, array


def _swap(array: Array) -> Array:
    return array.swapaxes(-1, -2) if array.ndim == 3 else array


def _gate_and_up(architecture: Architecture, array: Array, is_bias: bool) -> tuple[Array, Array]:
    """Fused experts [experts, 2 * intermediate, hidden], or transposed; gpt-oss alternates gate and up."""
    if architecture.family in _IN_BY_OUT and not is_bias:
        array = _swap(array)
    half = array.shape[1] // 2 if array.ndim > 1 else 0
    if architecture.family == "gpt_oss":
        return array[:, 0::2], array[:, 1::2]
    return array[:, :half], array[:, half:]


def _qkv_cuts(architecture: Architecture, name: str, array: Array) -> tuple[int, int]:
    a = architecture.layers[min(int(name.split(".")[1]), len(architecture.layers) - 1)].attention
    if not isinstance(a, GroupedQueryAttention):
        raise ModelError(where=name, given="a fused qkv_proj", rule="belongs to grouped-query attention")
    q, k, v = a.heads * a.head_dim, a.kv_heads * a.head_dim, a.kv_heads * a.v_head_dim
    if array.shape[0] != q + k + v:
        raise ModelError(where=name, given=f"{array.shape[0]} rows", rule=f"needs {q} + {k} + {v} (q, k, v)")
    return q, q + k


def _stacked(found: Mapping[str, Array]) -> dict[str, Array]:
    """Per-expert tensors stacked on a leading axis; all others as they are."""
    out: dict[str, Array] = {}
    experts: dict[str, dict[int, Array]] = {}
    for name, array in found.items():
        match = _EXPERT.match(name)
        if match is None:
            out[name] = array
        else:
            experts.setdefault(f"{match[1]}.{match[3]}", {})[int(match[2])] = array
    for name, by_index in experts.items():
        shapes = {array.shape for array in by_index.values()}
        if sorted(by_index) != list(range(len(by_index))) or len(shapes) > 1 or name in out:
            raise ModelError(
                where=name,
                given=f"experts {sorted(by_index)} of shapes {sorted(shapes)}",
                rule="need every expert from 0 on once, all of one shape",
            )
        out[name] = np.stack([by_index[index] for index in range(len(by_index))])
    return out


def _drop_tied_head(found: dict[str, Array]) -> None:
    head = found.pop("lm_head.weight", None)
    table = found.get("embed_tokens.weight")
    if head is not None and table is not None and not np.array_equal(head, table):
        raise ModelError(
            where="lm_head.weight",
            given="a head of its own",
            rule="the config ties it to the embedding",
            way_out="set tie_word_embeddings to false",
        )


def _checked(architecture: Architecture, found: Mapping[str, Array]) -> dict[str, Array]:
    shapes = {name: parameter.shape for name, parameter, _ in named_parameters(architecture)}
    for problem, names in (
        ("missing", [n for n in shapes if n not in found]),
        ("extra", [n for n in found if n not in shapes]),
    ):
        if names:
            listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise ModelError(
                where=f"weights of {architecture.name}",
                given=f"{problem}: {listed}",
                rule="the checkpoint must hold exactly the tensors of the config",
                way_out="check that both are of the same model",
            )
    for name, shape in shapes.items():
        if found[name].shape != shape:
            raise ModelError(where=name, given=f"shape {found[name].shape}", rule=f"the config needs {shape}")
    return {name: np.ascontiguousarray(found[name]) for name in shapes}
