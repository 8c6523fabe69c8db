"""Checkpoints read back: every layout of names, and clear refusals."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from reference_architectures import MINIATURES, gqa, model, same
from safetensors import TensorSpec, serialize_file

from simulator.errors import ModelError
from simulator.model.architecture import Architecture, DenseMlp
from simulator.numeric.rounding import rounder
from simulator.numeric.weights import load_safetensors, random_weights, weights_from_state_dict

Tensors = dict[str, Any]


def hugging_face(weights: Tensors, split_experts: bool = True) -> Tensors:
    """Our names told as a checkpoint has them: a prefix, and one tensor per expert."""
    out: Tensors = {}
    for name, array in weights.items():
        theirs = name if name.startswith("lm_head") else f"model.{name}"
        if ".mlp.experts." in name and split_experts:
            head, tail = theirs.split(".experts.")
            out.update({f"{head}.experts.{e}.{tail}": array[e] for e in range(len(array))})
        else:
            out[theirs] = array
    return out


def same_weights(found: Tensors, expected: Tensors) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
        assert found[name].dtype == np.float64
        assert found[name].flags.c_contiguous


@pytest.mark.parametrize("family", MINIATURES)
@pytest.mark.parametrize("split_experts", [True, False])
def test_round_trip_through_names(family: str, split_experts: bool) -> None:
    arch = MINIATURES[family]
    weights = random_weights(arch, 4)
    given = hugging_face(weights, split_experts)
    if not split_experts and family in ("gpt_oss", "llama4"):
        # These families' fused tensors lie the other way round.
        given = {n: a.swapaxes(1, 2) if n.endswith(".experts.down_proj.weight") else a for n, a in given.items()}
    same_weights(weights_from_state_dict(arch, given), weights)


def fused(weights: Tensors, interleaved: bool, transposed: bool) -> Tensors:
    out: Tensors = {}
    for name, array in hugging_face(weights, split_experts=False).items():
        if ".experts.gate_proj" in name:
            up = weights[name.removeprefix("model.").replace("gate_proj", "up_proj")]
            parts = np.stack([array, up], axis=2 if interleaved else 1)
            joined = parts.reshape(array.shape[0], 2 * array.shape[1], *array.shape[2:])
            end = "_bias" if name.endswith(".bias") else ""
            theirs = name.rsplit(".", 2)[0] + ".gate_up_proj" + end
            out[theirs] = joined.swapaxes(1, 2) if transposed and not end else joined
        elif ".experts.down_proj" in name:
            theirs = name.removesuffix(".weight").replace(".bias", "_bias")
            out[theirs] = array.swapaxes(1, 2) if transposed and array.ndim == 3 else array
        elif ".experts.up_proj" not in name:
            out[name.replace(".mlp.gate.", ".mlp.router.") if transposed else name] = array
    return out


@pytest.mark.parametrize(
    ("family", "interleaved", "transposed"),
    [("qwen3_moe", False, False), ("deepseek_v3", False, False), ("gpt_oss", True, True), ("llama4", False, True)],
)
def test_fused_experts(family: str, interleaved: bool, transposed: bool) -> None:
    weights = random_weights(MINIATURES[family], 4)
    found = weights_from_state_dict(MINIATURES[family], fused(weights, interleaved, transposed))
    same_weights(found, weights)


def test_mixtral_names() -> None:
    weights = random_weights(MINIATURES["mixtral"], 4)
    short = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}
    given = {}
    for name, array in hugging_face(weights).items():
        for ours, theirs in short.items():
            if ".experts." in name:
                name = name.replace(ours, theirs)
        given[name.replace(".mlp.", ".block_sparse_moe.")] = array
    same_weights(weights_from_state_dict(MINIATURES["mixtral"], given), weights)


def test_fused_qkv_and_gate_up_of_dense_layers() -> None:
    arch = MINIATURES["qwen2"]
    weights = random_weights(arch, 4)
    given = hugging_face(weights)
    for i in range(2):
        for end in ("weight", "bias"):
            parts = [given.pop(f"model.layers.{i}.self_attn.{p}_proj.{end}") for p in "qkv"]
            given[f"model.layers.{i}.self_attn.qkv_proj.{end}"] = np.concatenate(parts)
        parts = [given.pop(f"model.layers.{i}.mlp.{p}_proj.weight") for p in ("gate", "up")]
        given[f"model.layers.{i}.mlp.gate_up_proj.weight"] = np.concatenate(parts)
    same_weights(weights_from_state_dict(arch, given), weights)


def test_what_the_forward_pass_does_not_read_is_left_out() -> None:
    arch = MINIATURES["deepseek_v3"]
    weights = random_weights(arch, 4)
    more = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(2),
        "model.layers.3.enorm.weight": np.ones(28),
        "model.layers.3.mlp.experts.0.gate_proj.weight": np.ones((10, 28)),
        "vision_tower.blocks.0.weight": np.ones(3),
    }
    same_weights(weights_from_state_dict(arch, {**hugging_face(weights), **more}), weights)


def test_a_tied_head_may_be_stored_but_not_differ() -> None:
    arch = MINIATURES["llama"]
    weights = random_weights(arch, 4)
    table = weights["embed_tokens.weight"]
    given = hugging_face(weights)
    same_weights(weights_from_state_dict(arch, {**given, "lm_head.weight": table}), weights)
    with pytest.raises(ModelError, match=r"lm_head.weight.*tie_word_embeddings"):
        weights_from_state_dict(arch, {**given, "lm_head.weight": table + 1})


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda given: {n: a for n, a in given.items() if n != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("model.norm.weight"), r"missing: norm\.weight"),
        (without("model.layers.1.mlp.experts.2.up_proj.weight"), r"layers\.1.*up_proj.*every expert"),
        (without("model.layers.1.mlp.experts.4.up_proj.weight"), r"shape \(4, 14, 28\).*\(5, 14, 28\)"),
        (
            lambda g: {**g, "model.layers.0.self_attn.q_proj.bias": np.ones(48)},
            r"extra: layers\.0\.self_attn\.q_proj\.bias",
        ),
        (lambda g: {**g, "model.layers.7.input_layernorm.weight": np.ones(28)}, r"extra: layers\.7"),
        (lambda g: {**g, "norm.weight": np.ones(28)}, r"second tensor.*norm\.weight is there already"),
        (lambda g: {**g, "model.norm.weight": np.ones(27)}, r"norm\.weight: shape \(27,\).*\(28,\)"),
        (lambda g: {**g, "model.norm.weight": np.full(28, np.nan)}, r"model\.norm\.weight: NaN"),
        (lambda g: {**g, "model.norm.weight": "text"}, r"model\.norm\.weight: str"),
        (lambda g: {**g, "model.layers.0.x.weight_scale_inv": np.ones(1)}, r"quantised.*bfloat16"),
        (lambda g: {**g, "model.layers.0.self_attn.qkv_proj.weight": np.ones((3, 28))}, r"3 rows.*48 \+ 16 \+ 16"),
    ],
)
def test_what_does_not_fit_is_refused(change: Callable[[Tensors], Tensors], message: str) -> None:
    arch = MINIATURES["mixtral"]
    with pytest.raises(ModelError, match=message):
        weights_from_state_dict(arch, change(hugging_face(random_weights(arch, 4))))


def checkpoint(folder: Path, arch: Architecture, shards: int = 1) -> Tensors:
    weights = random_weights(arch, 4)
    given = hugging_face(weights)
    names = sorted(given)
    where = {name: f"model-{i % shards + 1:05d}-of-{shards:05d}.safetensors" for i, name in enumerate(names)}
    for file in set(where.values()):
        part = {n: np.ascontiguousarray(given[n]) for n in names if where[n] == file}
        safetensors.numpy.save_file(part, folder / file)
    if shards > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return weights


@pytest.mark.parametrize("shards", [1, 3])
def test_a_checkpoint_folder_round_trips(tmp_path: Path, shards: int) -> None:
    weights = checkpoint(tmp_path, MINIATURES["deepseek_v3"], shards)
    same_weights(load_safetensors(MINIATURES["deepseek_v3"], tmp_path), weights)


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "float32"])
def test_sixteen_and_thirty_two_bit_files_are_read_exactly(tmp_path: Path, kind: str) -> None:
    arch = model("llama", *same(gqa(), DenseMlp(18)))
    stored, specs, keep = {}, {}, []
    for name, array in random_weights(arch, 4).items():
        if kind == "bfloat16":
            stored[name] = rounder("bfloat16")(array)
            raw = (stored[name].view(np.uint32) >> 16).astype("<u2")
        else:
            stored[name] = raw = array.astype(kind)
        keep.append(raw)
        specs[name] = TensorSpec(dtype=kind, shape=raw.shape, data_ptr=raw.ctypes.data, data_len=raw.nbytes)
    file = tmp_path / "model.safetensors"
    serialize_file(specs, file)
    same_weights(load_safetensors(arch, file), {n: np.asarray(a, dtype=np.float64) for n, a in stored.items()})


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    arch = MINIATURES["llama"]
    with pytest.raises(ModelError, match=r"no \.safetensors"):
        load_safetensors(arch, tmp_path)
    with pytest.raises(ModelError, match="no such file"):
        load_safetensors(arch, tmp_path / "absent.safetensors")
    cut = tmp_path / "cut.safetensors"
    checkpoint(tmp_path, arch)
    cut.write_bytes(next(tmp_path.glob("model*")).read_bytes()[:-7])
    with pytest.raises(ModelError, match="whole safetensors file"):
        load_safetensors(arch, cut)
    safetensors.numpy.save_file({"norm.weight": np.ones(28, dtype=np.int8)}, cut)
    with pytest.raises(ModelError, match=r"I8.*bfloat16"):
        load_safetensors(arch, cut)
    for text in ("{", "[]", '{"weight_map": [1]}', '{"weight_map": {"a": 3}}'):
        (tmp_path / "model.safetensors.index.json").write_text(text)
        with pytest.raises(ModelError, match="map tensor names to files"):
            load_safetensors(arch, tmp_path)


def test_a_model_too_large_for_float64_is_refused_before_reading(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="miniature"):
        load_safetensors(replace(MINIATURES["llama"], hidden=30000, vocab=100000), tmp_path)
