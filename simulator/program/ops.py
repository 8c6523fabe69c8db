"""What a rank can do: a closed union of small frozen ops.

Every op names the tensors it reads and writes. Activations are [tokens, features] of one micro-batch;
shapes in the fields are local to one rank, at full or at miniature size. Ops with a `stream` of
"comm" run beside compute; what orders them is who reads whose output.
"""

from dataclasses import dataclass
from typing import Literal

from simulator.model.architecture import Rope, Router
from simulator.program.work import AttentionShape

Stream = Literal["compute", "comm"]
CollectiveKind = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all"]
TensorDim = Literal["tokens", "features", "stack"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Embed:
    """Rows of the local part of the vocabulary; zero for ids that other ranks hold. ids -> [tokens, hidden]."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weight: str
    positions: str = ""
    """Learned position table to add (on the first rank only, so that the sum over ranks holds it once)."""
    tokens: int
    hidden: int
    over: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm:
    """RMSNorm or LayerNorm; with two inputs (delta, residual) adds first and also returns the sum."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weight: str
    bias: str = ""
    tokens: int
    features: int
    kind: Literal["rms", "layer"]
    eps: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """One GEMM over stacked weights: x [tokens, k] -> one output [tokens, n] for each n in `ns`.

    "column" cuts the outputs over tp, "row" cuts k and leaves a sum over tp owed (its bias is added by
    the first rank only), "replicated" cuts nothing.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[str, ...]
    biases: tuple[str, ...] = ()
    tokens: int
    k: int
    ns: tuple[int, ...]
    dtype: str
    parallel: Literal["column", "row", "replicated"]
    over: tuple[str, ...] = ("tp",)


@dataclass(frozen=True, slots=True, kw_only=True)
class SumOfSquares:
    """(q, k) -> [tokens, 2] sums of squares of the local heads, a sum over tp owed (MiniMax-M2's norm)."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tokens: int
    features: int
    kv_copies: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadNorm:
    """Normalises q and k: over each head, over all heads by given sums of squares, or without a weight."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    kind: Literal["head", "full", "l2"]
    weights: tuple[str, ...]
    tokens: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    full_widths: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotate:
    """Rotary embedding of the last `rope.dim` or first dimensions of each head of each input."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    rope: Rope
    tokens: int
    head_dims: tuple[int, ...]
    """Width of one head of each input."""
    features: int
    last: bool = False
    """Rotate the last dimensions of the head (MLA's q), not the first."""
    tuning: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneQueries:
    """Llama 4's query scaling by position on layers without rotary embedding."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tokens: int
    features: int
    tuning: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attend:
    """Causal softmax attention of the new tokens over cache and new keys; stores new keys and values.

    inputs (q, k, v); with `partial`, outputs (o, lse) over the local part of the cache, to be merged.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shape: AttentionShape
    heads: int
    kv_heads: int
    head_dim: int
    v_head_dim: int
    scale: float
    kv_dtype: str
    window: int | None = None
    chunk: int | None = None
    sparse_top_k: int | None = None
    compression: int = 1
    """Tokens merged into one cache entry beyond the window (DeepSeek-V4; priced only)."""
    sinks: str = ""
    partial: bool = False
    gathered: bool = False
    """Keys and values were gathered over cp: they cover every rank's tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttendLatent:
    """Multi-head latent attention: inputs (q, latent, rotated key); caches latent and key.

    Prefill expands keys and values from the latent; decode absorbs the expansion into q and o.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shape: AttentionShape
    weight: str
    heads: int
    kv_lora_rank: int
    nope_head_dim: int
    rope_head_dim: int
    v_head_dim: int
    scale: float
    kv_dtype: str
    dtype: str
    sparse_top_k: int | None = None
    indexer_heads: int = 0
    indexer_head_dim: int = 0
    indexer_inputs: tuple[int, int] = (0, 0)
    """Widths the indexer's queries and its keys and weights are projected from (priced only)."""
    partial: bool = False
    gathered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AttendLinear:
    """Gated delta rule with a fixed state: priced and counted, its numbers are not built."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shape: AttentionShape
    tokens: int
    key_heads: int
    value_heads: int
    key_head_dim: int
    value_head_dim: int
    conv_kernel: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeAttention:
    """Joins partial attention over parts of the cache by their log-sum-exp: stacked (o, lse) -> o."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tokens: int
    heads: int
    v_head_dim: int
    parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Multiplies the first input by the sigmoid of the second ([tokens, features] or [tokens, 1])."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tokens: int
    features: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Activate:
    """act(gate) * up, or act(x) where there is no gate. Elementwise over the local features."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    kind: str
    tokens: int
    features: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Router GEMM and top-k: x -> (expert ids [tokens, k], weights [tokens, k])."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weight: str
    bias: str = ""
    correction: str = ""
    router: Router
    tokens: int
    hidden: int
    experts: int
    top_k: int


@dataclass(frozen=True, slots=True)
class ExpertLoad:
    """How many token-expert pairs each rank of the expert mesh computes: [ep][local expert], expected values."""

    rows: tuple[tuple[float, ...], ...]

    def __hash__(self) -> int:
        return hash((len(self.rows), self.rows[0], self.rows[-1]))

    @property
    def totals(self) -> tuple[float, ...]:
        """Pairs on each rank."""
        return tuple(sum(local) for local in self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchPack:
    """Rows for each rank of the ep group that holds one of the token's experts, once per rank."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tokens: int
    hidden: int
    over: tuple[str, ...] = ("ep",)


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchUnpack:
    """Parcels from every rank of the ep group, joined: (rows, expert ids, weights)."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tokens: float
    hidden: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """Grouped GEMMs over the local experts, and the weighted sum over those each row chose."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[str, ...]
    biases: tuple[str, ...] = ()
    load: ExpertLoad
    hidden: int
    intermediate: int
    dtype: str
    activation: str
    scale_input: bool = False
    owed: tuple[str, ...] = ()
    """Mesh axes over which the result is a partial sum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CombinePack:
    """Expert results cut back into one parcel for each rank the rows came from."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tokens: float
    hidden: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CombineUnpack:
    """Returned rows summed onto the tokens they belong to."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tokens: int
    hidden: int
    owed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Add:
    """Elementwise sum of the inputs."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tokens: int
    features: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceTokens:
    """This rank's share of tokens that all ranks over `over` hold; no traffic."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    over: tuple[str, ...]
    tokens: int
    features: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LastTokens:
    """The rows of each sequence's last token; zero where another context-parallel rank holds it."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sequences: int
    features: int
    owed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalBest:
    """Best logit of the local vocabulary: [sequences, vocab_local] -> [sequences, 2] of (value, id)."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sequences: int
    vocab_local: int
    over: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PickBest:
    """Greedy sampling: the best of the ranks' bests; ties go to the lowest id. -> ids [sequences]."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sequences: int
    parts: int


@dataclass(frozen=True, slots=True)
class ExpertExchange:
    """What a dispatch or combine carries, for kernels that are priced by it rather than by bytes."""

    phase: Literal["dispatch", "combine"]
    kernel: str
    tokens: int
    """Of each rank."""
    hidden: int
    top_k: int
    experts: int
    groups: int = 1
    groups_kept: int = 1
    """Group-limited routing: a token's experts lie in so many of the groups (DeepSeek-V3: 4 of 8)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective:
    """A collective over the ranks that differ along `over`.

    `bytes` is the whole buffer at full size, as nccl-tests counts (the gathered size for all_gather and
    reduce_scatter). all_to_all carries `share`: the expected part of a rank's bytes that goes to each
    rank of the group (empty: even); then `bytes` is what one rank sends, its own part included.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    kind: CollectiveKind
    over: tuple[str, ...]
    bytes: float
    dim: TensorDim = "tokens"
    split_like: str = ""
    """reduce_scatter: cut as this tensor was gathered; empty: evenly."""
    share: tuple[float, ...] = ()
    back: bool = False
    """all_to_all: `share` says how much comes back from each rank (combine), not how much goes there."""
    exchange: ExpertExchange | None = None
    dtype: str = "bf16"
    stream: Stream = "comm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """To the same place in the next (offset 1) pipeline stage."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    bytes: float
    offset: int = 1
    stream: Stream = "comm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receive:
    """From the same place in the previous (offset -1) pipeline stage."""

    name: str
    outputs: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    bytes: float
    offset: int = -1
    stream: Stream = "comm"


ComputeOp = (
    Embed
    | Norm
    | Linear
    | SumOfSquares
    | HeadNorm
    | Rotate
    | TuneQueries
    | Attend
    | AttendLatent
    | AttendLinear
    | MergeAttention
    | Gate
    | Activate
    | Route
    | DispatchPack
    | DispatchUnpack
    | Experts
    | CombinePack
    | CombineUnpack
    | Add
    | SliceTokens
    | LastTokens
    | LocalBest
    | PickBest
)
CommOp = Collective | Send | Receive
Op = ComputeOp | CommOp
