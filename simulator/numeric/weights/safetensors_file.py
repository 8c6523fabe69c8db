"""Weights from safetensors files, bfloat16 included, without torch."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from simulator.errors import ModelError
from simulator.model.architecture import Architecture
from simulator.numeric.weights.random import Array, check_size
from simulator.numeric.weights.state_dict import weights_from_state_dict

INDEX: Final = "model.safetensors.index.json"
_PLAIN: Final = {"F64": np.float64, "F32": np.float32, "F16": np.float16}


def load_safetensors(architecture: Architecture, path: Path | str) -> dict[str, Array]:
    """The weights of a checkpoint as `random_weights` names them.

    `path` is a .safetensors file, or a folder with model.safetensors.index.json or with .safetensors files.
    Needs the extra `weights` (pip install shardsim[weights]). Raises ModelError for a missing, damaged or
    quantised file, and for tensors that do not fit the architecture.
    """
    check_size(architecture)
    tensors: dict[str, NDArray[Any]] = {}
    for file in _files(Path(path)):
        tensors.update(_tensors(file))
    return weights_from_state_dict(architecture, tensors)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        index = path / INDEX
        if index.is_file():
            return [path / name for name in sorted(set(_weight_map(index).values()))]
        if files := sorted(path.glob("*.safetensors")):
            return files
        raise ModelError(
            where=str(path), given="", rule="holds no .safetensors file", way_out="give a checkpoint's folder"
        )
    return [path]


def _weight_map(index: Path) -> Mapping[str, str]:
    try:
        found = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (OSError, ValueError, KeyError, TypeError) as failure:
        raise ModelError(where=str(index), given=repr(failure), rule="must map tensor names to files") from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise ModelError(where=f"{index}: weight_map", given=repr(found)[:80], rule="must map tensor names to files")
    return found


def _deserializer() -> Callable[[bytes], list[tuple[str, dict[str, Any]]]]:
    try:
        from safetensors import deserialize
    except ImportError:
        raise ModelError(
            given="safetensors is not installed",
            rule="reading a checkpoint needs it",
            way_out="pip install 'shardsim[weights]'",
        ) from None
    return deserialize


def _tensors(file: Path) -> dict[str, NDArray[Any]]:
    deserialize = _deserializer()
    try:
        entries = deserialize(file.read_bytes())
    except FileNotFoundError:
        raise ModelError(where=str(file), given="", rule="no such file") from None
    except Exception as failure:  # SafetensorError derives from Exception alone
        raise ModelError(where=str(file), given=str(failure), rule="is not a whole safetensors file") from None
    return {name: _array(f"{file}: {name}", entry) for name, entry in entries}


def _array(where: str, entry: Mapping[str, Any]) -> NDArray[Any]:
    kind, data, shape = entry["dtype"], entry["data"], tuple(entry["shape"])
    if kind in _PLAIN:
        return np.frombuffer(data, dtype=_PLAIN[kind]).reshape(shape)
    if kind == "BF16":  # the upper half of a float32
        return (np.frombuffer(data, dtype="<u2").astype("<u4") << 16).view("<f4").reshape(shape)
    raise ModelError(
        where=where,
        given=str(kind),
        rule="weights are read in float64, float32, float16 or bfloat16",
        way_out="convert the checkpoint to bfloat16 first",
    )
