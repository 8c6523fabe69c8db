"""Hugging Face transformers as an oracle in true float64, on CPU; needs the extra `oracle`.

transformers computes several things in float32 whatever the model's dtype: rotary angles and inverse
frequencies, the variance in its norms, the attention softmax, router logits, scores and correction bias.
Left so, it differs from exact arithmetic by 1e-7. `float64_only` widens all of them at once, by letting the
names torch.float32 and torch.float and the method Tensor.float mean float64 while a model is built or run;
nothing in transformers itself is edited. `load` rebuilds the rotary tables under it.
"""

import copy
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from oracle_cases import CONFIGS, PROMPTS, SEED, STEPS, Expected, Prompts, checkpoint
from safetensors import safe_open
from safetensors.torch import save_file

torch.set_num_threads(1)  # the tensors are tiny: threads waiting for each other would take most of the time


@contextmanager
def float64_only() -> Iterator[None]:
    """While inside, whatever asks torch for float32 by name gets float64."""
    kept = torch.float32, torch.float, torch.Tensor.float
    default = torch.get_default_dtype()
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = kept
        torch.set_default_dtype(default)


def _config(family: str) -> Any:
    config = copy.deepcopy(CONFIGS[family])  # transformers writes rope_theta into the rope_scaling it is given
    return transformers.AutoConfig.for_model(config.pop("model_type"), **config)


def _class(family: str) -> Any:
    return getattr(transformers, CONFIGS[family]["architectures"][0])


def checkpoint_shapes(family: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the files that transformers itself writes for this config."""
    with tempfile.TemporaryDirectory() as folder:
        _class(family)(_config(family)).save_pretrained(folder)
        with safe_open(Path(folder) / "model.safetensors", "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in sorted(file.keys())}


def write_checkpoint(family: str, shapes: Mapping[str, tuple[int, ...]], folder: Path, seed: int = SEED) -> None:
    """config.json and model.safetensors, as from the Hub."""
    _config(family).save_pretrained(folder)
    tensors = {name: torch.from_numpy(array) for name, array in checkpoint(shapes, seed).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def load(family: str, folder: Path) -> Any:
    """The model of a checkpoint folder, wholly in float64, eager attention and experts."""
    model, info = _class(family).from_pretrained(
        folder,
        dtype=torch.float64,
        attn_implementation="eager",
        experts_implementation="eager",
        output_loading_info=True,
    )
    if any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")):
        raise RuntimeError(f"{family}: {info}")
    model = model.double().eval()
    with float64_only():
        for module in model.modules():
            if hasattr(module, "original_inv_freq"):
                module.__init__(module.config)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and tensor.dtype != torch.float64:
            raise RuntimeError(f"{family}: {name} is {tensor.dtype}")
    return model


@torch.no_grad()
def run(model: Any, prompts: Prompts = PROMPTS) -> tuple[tuple[np.ndarray, ...], tuple[tuple[int, ...], ...]]:
    """Per prompt: logits of every prompt token and of STEPS cached greedy steps, and the tokens chosen."""
    all_logits, all_tokens = [], []
    for prompt in prompts:
        cache = transformers.DynamicCache(config=model.config)
        new, rows, tokens = torch.tensor([prompt]), [], []
        for _ in range(STEPS + 1):
            with float64_only():
                out = model(input_ids=new, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            if out.logits.dtype != torch.float64:
                raise RuntimeError(f"logits are {out.logits.dtype}")
            rows.append(out.logits[0].numpy())
            tokens.append(int(out.logits[0, -1].argmax()))
            new = torch.tensor([tokens[-1:]])
        all_logits.append(np.concatenate(rows))
        all_tokens.append(tuple(tokens))
    return tuple(all_logits), tuple(all_tokens)


def compute(family: str) -> Expected:
    """Everything that is stored of one case, computed afresh."""
    shapes = checkpoint_shapes(family)
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(family, shapes, Path(folder))
        return Expected(shapes, *run(load(family, Path(folder))))
