"""Storage types: bytes with their scales, and what a checkpoint's quantization_config says of each class of weights."""

from typing import Any

import pytest
from model_samples import CONFIGS

from simulator.errors import ModelError
from simulator.model.architecture import Quantization
from simulator.model.from_config import architecture_from_config
from simulator.model.quantization import STORAGE, bytes_per_element, override, storage_dtype, with_precision


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("bf16", 2.0),
        ("fp8", 1.0),
        ("fp8_block", 1 + 4 / 16384),
        ("nvfp4", 0.5625),
        ("mxfp4", 0.53125),
        ("int4", 0.515625),
        ("FP4", 0.5625),
        ("float32", 4.0),
    ],
)
def test_bytes_include_scales(dtype: str, expected: float) -> None:
    assert bytes_per_element(dtype) == expected


def test_every_storage_type_cites_its_source() -> None:
    assert all(kind.source for kind in STORAGE.values())
    assert bytes_per_element("int4", 32) == 0.5625


def quantization(**given: Any) -> Quantization:
    config = {**CONFIGS["deepseek_v3"], "quantization_config": given}
    return architecture_from_config(config, "q").quantization


_INT4 = {"weights": {"num_bits": 4, "type": "int", "group_size": 32, "strategy": "group"}}
_FP8 = {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, Quantization("fp8_block", "fp8_block")),
        ({"quant_method": "fp8"}, Quantization("fp8", "fp8")),
        (
            {"quant_method": "fp8", "modules_to_not_convert": ["gate", "lm_head", "model.layers.3.input_layernorm"]},
            Quantization("fp8", "fp8"),
        ),
        (
            {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]},
            Quantization("bf16", "mxfp4"),
        ),
        (
            {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["model.layers.3.self_attn*", "lm_head"]},
            Quantization("nvfp4", "nvfp4", attention="bf16"),
        ),
        (
            {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"},
            Quantization("fp8", "fp8", kv_cache="fp8"),
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": _INT4},
                "ignore": [
                    "re:.*self_attn.*",
                    "re:.*shared_experts.*",
                    r"re:.*mlp\.(gate|up|gate_up|down)_proj.*",
                ],
            },
            Quantization("bf16", "int4", int4_group=32),
        ),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"group_0": _FP8}, "ignore": ["lm_head"]},
            Quantization("fp8", "fp8"),
        ),
        ({"quant_method": "awq", "bits": 4, "group_size": 64}, Quantization("int4", "int4", int4_group=64)),
        ({"quant_method": "gptq", "bits": 8}, Quantization("int8", "int8")),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, Quantization("nf4", "nf4")),
    ],
)
def test_checkpoint_configs(given: dict[str, Any], expected: Quantization) -> None:
    assert quantization(**given) == expected


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"quant_method": "hqq"}, "quant_method: 'hqq': is not known here; known are fp8"),
        ({"quant_method": "awq", "bits": 3}, "bits: 3: must be 4 or 8"),
        ({"quant_method": "compressed-tensors"}, "config_groups: missing"),
        ({"quant_algo": "NVFP3"}, "must be one of NVFP4"),
        ({"quant_method": "fp8", "ignore": ["re:("]}, "is not a regular expression"),
    ],
)
def test_unknown_storage_is_told(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelError) as failure:
        quantization(**given)
    assert told in str(failure.value)


def test_overrides() -> None:
    assert override(Quantization(), weights="FP8", kv_cache="fp8") == Quantization("fp8", kv_cache="fp8")
    assert with_precision(Quantization(kv_cache="fp8", attention="bf16"), "fp4") == Quantization(
        "nvfp4", "nvfp4", kv_cache="fp8"
    )
    with pytest.raises(ModelError, match="no such field; use weights"):
        override(Quantization(), weight="fp8")
    with pytest.raises(ModelError, match="is not a storage type"):
        override(Quantization(), weights="fp6")


def test_embedding_head_norms_and_routers_stay_whole() -> None:
    stored = Quantization("nvfp4", "mxfp4", attention="fp8")
    kinds = ("embedding", "head", "norm", "router", "attention", "mlp", "shared_expert", "expert")
    found = [storage_dtype(stored, kind) for kind in kinds]  # type: ignore[arg-type]
    assert found == ["bf16"] * 4 + ["fp8", "nvfp4", "nvfp4", "mxfp4"]
