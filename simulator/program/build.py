"""From (architecture, layout, work) to the program of a rank: the one builder behind every reading."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from simulator.errors import LayoutError
from simulator.model.architecture import Architecture, Layer
from simulator.parallel.layout import Layout
from simulator.program.attention import attention_ops
from simulator.program.feed_forward import feed_forward_ops, gather_residual, reduce_delta
from simulator.program.frame import Frame, Options
from simulator.program.legality import check_layout
from simulator.program.ops import (
    Add,
    Collective,
    Embed,
    LastTokens,
    Linear,
    LocalBest,
    Norm,
    Op,
    PickBest,
    Receive,
    Send,
)
from simulator.program.work import Work

DEFAULTS = Options()


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of ops: one layer (its index in the model), or what comes before and after the layers.

    Equal layers share one `ops` tuple. Tensor names are local to (rank, micro-batch).
    """

    place: str
    layer: int
    """Index in the model; -1 before the layers, -2 after them."""
    micro_batch: int
    ops: tuple[Op, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """What the ranks of one pipeline stage and one data-parallel coordinate do in one step."""

    stage: int
    works: tuple[Work, ...]
    segments: tuple[Segment, ...]
    layout: Layout

    def ops(self) -> Iterator[tuple[Segment, Op]]:
        """Every op with its segment, in program order."""
        for segment in self.segments:
            for op in segment.ops:
                yield segment, op


def stage_layers(layers: int, pp: int) -> tuple[range, ...]:
    """Contiguous layers of each pipeline stage; the first stages take what does not divide.

    >>> stage_layers(5, 2)
    (range(0, 3), range(3, 5))
    """
    base, extra = divmod(layers, pp)
    bounds = [0]
    for stage in range(pp):
        bounds.append(bounds[-1] + base + (stage < extra))
    return tuple(range(a, b) for a, b in pairwise(bounds))


def build(
    architecture: Architecture,
    layout: Layout,
    stage: int,
    works: tuple[Work, ...],
    options: Options = DEFAULTS,
    mean_tokens: tuple[float, ...] = (),
) -> Program:
    """The program of pipeline stage `stage` over its micro-batches `works`.

    `mean_tokens`: for each micro-batch the tokens of the average data coordinate, where they differ; experts
    compute what all ranks send them, whatever this one brings.
    """
    _checked(architecture, layout)
    segments: list[Segment] = []
    for index, work in enumerate(works):
        _check_work(work, layout)
        frame = Frame(architecture, layout, work, options, mean_tokens[index] if mean_tokens else -1.0)
        segments += _micro_batch(frame, stage, index)
    return Program(stage, works, tuple(segments), layout)


def _check_work(work: Work, layout: Layout) -> None:
    if layout.cp > 1 and not work.decode and any(s.new == 1 and s.past > 0 for s in work.sequences):
        raise LayoutError(
            where="cp",
            given="prefill and decode in one step",
            rule="context parallelism takes one or the other",
            way_out="run them in steps of their own, or use cp = 1",
        )


@lru_cache(maxsize=512)
def _checked(architecture: Architecture, layout: Layout) -> None:
    check_layout(architecture, layout)


def _micro_batch(frame: Frame, stage: int, index: int) -> Iterator[Segment]:
    layers = frame.architecture.layers
    mine = stage_layers(len(layers), frame.layout.pp)[stage]
    yield Segment("embedding" if stage == 0 else "receive", -1, index, _before(frame, stage))
    built: dict[tuple[int, bool], tuple[Op, ...]] = {}
    for i in mine:
        key = (id(layers[i]), i == mine.start)
        if key not in built:
            built[key] = tuple(_layer(frame, layers[i], first=i == mine.start))
        yield Segment("layer", i, index, built[key])
    last = stage == frame.layout.pp - 1
    yield Segment("head" if last else "send", -2, index, tuple(_head(frame) if last else _hand_on(frame)))


def _before(frame: Frame, stage: int) -> tuple[Op, ...]:
    hidden = frame.architecture.hidden
    if stage > 0:
        received = frame.activation_bytes(frame.residual_tokens, hidden)
        return (Receive(name="receive", outputs=("h",), bytes=received),)
    tp = frame.layout.tp
    embed = Embed(
        name="embed_tokens", inputs=("ids",), outputs=("h",), weight="embed_tokens.weight",
        positions="embed_positions.weight" if frame.architecture.learned_positions else "", tokens=frame.tokens,
        hidden=hidden, over=("tp",) if tp > 1 else (),
    )  # fmt: skip
    return (embed, *reduce_delta(frame, "h", "embed"))


def _norm(frame: Frame, name: str, *, first: bool) -> Op:
    a = frame.architecture
    return Norm(
        name=name, inputs=("h",) if first else ("delta", "h"), outputs=("x",) if first else ("x", "h"),
        weight=f"{name}.weight", bias=f"{name}.bias" if a.norm == "layer" else "", tokens=frame.residual_tokens,
        features=a.hidden, kind=a.norm, eps=a.norm_eps,
    )  # fmt: skip


def _layer(frame: Frame, layer: Layer, *, first: bool) -> Iterator[Op]:
    yield _norm(frame, "input_layernorm", first=first)
    yield from gather_residual(frame, "x")
    yield from attention_ops(frame, layer)
    yield from reduce_delta(frame, "delta", "attention")
    yield _norm(frame, "post_attention_layernorm", first=False)
    yield from feed_forward_ops(frame, layer)


def _hand_on(frame: Frame) -> Iterator[Op]:
    tokens, hidden = frame.residual_tokens, frame.architecture.hidden
    yield Add(name="add_residual", inputs=("delta", "h"), outputs=("h",), tokens=tokens, features=hidden)
    yield Send(name="send", inputs=("h",), bytes=frame.activation_bytes(tokens, hidden))


def _head(frame: Frame) -> Iterator[Op]:
    a, tp = frame.architecture, frame.layout.tp
    sequences = len(frame.work.sequences)
    yield _norm(frame, "norm", first=False)
    yield from gather_residual(frame, "x")
    owed = ("cp",) if frame.context_prefill else ()
    yield LastTokens(
        name="last_tokens", inputs=("x",), outputs=("x_last",), sequences=sequences, features=a.hidden, owed=owed
    )
    if owed:
        yield Collective(
            name="last_tokens_all_reduce", inputs=("x_last",), outputs=("x_last",), kind="all_reduce", over=owed,
            bytes=frame.activation_bytes(sequences, a.hidden),
        )  # fmt: skip
    local = -(-a.vocab // tp)
    yield Linear(
        name="lm_head", inputs=("x_last",), outputs=("logits",),
        weights=("embed_tokens.weight" if a.tie_embeddings else "lm_head.weight",), tokens=sequences, k=a.hidden,
        ns=(local,), dtype="bf16", parallel="column" if tp > 1 else "replicated",
    )  # fmt: skip
    yield LocalBest(
        name="local_best", inputs=("logits",), outputs=("best",), sequences=sequences, vocab_local=local,
        over=("tp",) if tp > 1 else (),
    )  # fmt: skip
    if tp > 1:
        yield Collective(
            name="best_all_gather", inputs=("best",), outputs=("best",), kind="all_gather", over=("tp",),
            dim="features", bytes=tp * sequences * 8.0, dtype="fp32",
        )  # fmt: skip
    yield PickBest(name="pick_best", inputs=("best",), outputs=("sampled",), sequences=sequences, parts=tp)
