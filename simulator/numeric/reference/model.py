"""The unsharded model: one sequence after the other, one layer after the other, in float64."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.errors import ModelError, NotBuiltError
from simulator.model.architecture import Architecture
from simulator.model.parameters import layer_parameters, outer_parameters
from simulator.numeric.reference.attention import LayerCache, attend
from simulator.numeric.reference.feed_forward import feed_forward
from simulator.numeric.reference.parts import Array, Weights, linear, norm

SequenceCache = tuple[LayerCache, ...]
"""One `LayerCache` per layer."""
Tokens = Sequence[int] | NDArray[Any]


@dataclass(frozen=True, slots=True)
class ReferenceStep:
    """What one forward pass gives. Rows of activations are the new tokens, sequence after sequence."""

    logits: Array
    """[sequences, vocab], of each sequence's last token."""
    all_logits: tuple[Array, ...]
    """Per sequence [new tokens, vocab]."""
    caches: tuple[SequenceCache, ...]
    """Per sequence, extended by its new tokens."""
    activations: tuple[Mapping[str, Array], ...]
    """Per layer, [all new tokens, width] by name: "attn_in" and "mlp_in" (normed), "heads" (before o_proj),
    "attn_out", "mlp_out", "hidden" (after the layer); of an MoE layer also "router_logits",
    "router_experts" (indices, best first) and "router_weights"."""

    @property
    def hidden(self) -> tuple[Array, ...]:
        """The hidden state after each layer, [all new tokens, hidden]."""
        return tuple(layer["hidden"] for layer in self.activations)

    @property
    def next_tokens(self) -> NDArray[np.int64]:
        """The greedy next token of each sequence; ties go to the lower id."""
        best: NDArray[np.int64] = np.argmax(self.logits, axis=1)
        return best


class ReferenceModel:
    """An oracle: what the sharded computation must agree with, written straight from the papers.

    `weights` maps full names ("layers.0.self_attn.q_proj.weight") to float64 arrays, see `random_weights`.
    Raises NotBuiltError for an architecture whose numbers are refused, ModelError for missing weights.
    """

    def __init__(self, architecture: Architecture, weights: Weights) -> None:
        if architecture.numbers_refused:
            raise NotBuiltError(given=architecture.name, rule=architecture.numbers_refused)
        self.architecture = architecture
        names = [parameter.name for parameter in outer_parameters(architecture)]
        for index, layer in enumerate(architecture.layers):
            names += [f"layers.{index}.{parameter.name}" for parameter in layer_parameters(architecture, layer)]
        if missing := [name for name in names if name not in weights]:
            raise ModelError(where="weights", given=f"missing: {', '.join(missing[:5])}", rule="the model needs them")
        self.outer = {name: array for name, array in weights.items() if not name.startswith("layers.")}
        self.layers: list[dict[str, Array]] = [{} for _ in architecture.layers]
        for name, array in weights.items():
            if name.startswith("layers."):
                _, number, rest = name.split(".", 2)
                self.layers[int(number)][rest] = array

    def forward(self, tokens: Sequence[Tokens], caches: Sequence[SequenceCache | None] | None = None) -> ReferenceStep:
        """Run each sequence's new tokens after what its cache holds (nothing, where it is None).

        tokens: per sequence a non-empty list of ids. Raises ModelError for an id or a position out of range.
        """
        given = [None] * len(tokens) if caches is None else list(caches)
        if len(given) != len(tokens):
            raise ModelError(given=f"{len(given)} caches for {len(tokens)} sequences", rule="each needs its own")
        runs = [self._sequence(np.asarray(ids), cache) for ids, cache in zip(tokens, given, strict=True)]
        activations = tuple(
            {name: np.concatenate([records[layer][name] for _, _, records in runs]) for name in runs[0][2][layer]}
            for layer in range(len(self.layers))
        )
        return ReferenceStep(
            logits=np.stack([logits[-1] for logits, _, _ in runs]),
            all_logits=tuple(logits for logits, _, _ in runs),
            caches=tuple(cache for _, cache, _ in runs),
            activations=activations,
        )

    def generate(self, prompts: Sequence[Tokens], steps: int) -> list[list[int]]:
        """Greedy continuation: `steps` new token ids per prompt (prefill gives the first)."""
        out: list[list[int]] = [[] for _ in prompts]
        new: list[Tokens] = list(prompts)
        caches: Sequence[SequenceCache] | None = None
        for _ in range(steps):
            step = self.forward(new, caches)
            caches, new = step.caches, [[int(token)] for token in step.next_tokens]
            for ids, token in zip(out, step.next_tokens, strict=True):
                ids.append(int(token))
        return out

    def _sequence(
        self, ids: NDArray[Any], cache: SequenceCache | None
    ) -> tuple[Array, SequenceCache, list[dict[str, Array]]]:
        arch = self.architecture
        x = self._embed(ids, 0 if cache is None else len(next(iter(cache[0].values()))))
        extended: list[LayerCache] = []
        records: list[dict[str, Array]] = []
        for index, (layer, weights) in enumerate(zip(arch.layers, self.layers, strict=True)):
            record: dict[str, Array] = {}
            note = record.__setitem__
            note("attn_in", norm(x, weights, "input_layernorm", arch.norm_eps, arch.norm))
            past = None if cache is None else cache[index]
            attn_out, kept = attend(layer.attention, record["attn_in"], past, weights, arch, note)
            note("attn_out", attn_out)
            x = x + attn_out
            note("mlp_in", norm(x, weights, "post_attention_layernorm", arch.norm_eps, arch.norm))
            note("mlp_out", feed_forward(layer.feed_forward, record["mlp_in"], weights, note))
            x = x + record["mlp_out"]
            note("hidden", x)
            extended.append(kept)
            records.append(record)
        last = norm(x, self.outer, "norm", arch.norm_eps, arch.norm)
        head = "embed_tokens" if arch.tie_embeddings else "lm_head"
        return linear(last, {"w.weight": self.outer[f"{head}.weight"]}, "w"), tuple(extended), records

    def _embed(self, ids: NDArray[Any], start: int) -> Array:
        arch = self.architecture
        if ids.ndim != 1 or len(ids) == 0 or ids.min() < 0 or ids.max() >= arch.vocab:
            raise ModelError(given=f"token ids {ids.tolist()}", rule=f"need one or more of 0..{arch.vocab - 1}")
        x: Array = self.outer["embed_tokens.weight"][ids]
        if arch.learned_positions:
            if start + len(ids) > arch.learned_positions:
                raise ModelError(
                    given=f"position {start + len(ids) - 1}", rule=f"the table has {arch.learned_positions} positions"
                )
            x = x + self.outer["embed_positions.weight"][start : start + len(ids)]
        return x
