"""Launch material: what is to be started, and a command line as data.

`launch_engines` writes the engines' command lines, `launch_kubernetes` a manifest, `launch_benchmark` the check on real
hardware. What an engine cannot start (experts cut over part of its ranks under vLLM, attention cut two ways under
TensorRT-LLM) is refused with the reason, never written as something else.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from simulator.errors import LayoutError, ScenarioError
from simulator.parallel.layout import Layout

Engine = Literal["vllm", "sglang", "tensorrt-llm"]
Role = Literal["mixed", "prefill", "decode"]
ENGINES: tuple[Engine, ...] = ("vllm", "sglang", "tensorrt-llm")
PORT = 8000
"""Where users ask: the server of one pool, or the router of two."""
LEADER = "$LEADER"
"""Address of a server's first node, set by hand or by Kubernetes."""
DRAFT_MODEL = "$DRAFT_MODEL"
"""Repository or folder of a draft model, set by hand."""
NODE = "$NODE"
"""Number of a node within its server, from 0."""


@dataclass(frozen=True, slots=True)
class PoolLaunch:
    """Equal servers of one role. A server is one replica: `layout.dp` replicas are as many servers.

    Raises LayoutError for sizes below 1 and for a server that fills no whole number of nodes.
    """

    name: str
    """Letters, digits and dashes: it becomes the name of Kubernetes objects."""
    model: str
    """What the engine is told to load: a Hugging Face repository or a folder."""
    engine: Engine
    layout: Layout
    servers: int = 1
    """Copies of `layout`; with layout.dp they are servers * dp replicas."""
    role: Role = "mixed"
    gpus_per_node: int = 8
    gpu: str = ""
    """Kind of GPU, for the node selector; "" sets none."""
    kv_dtype: str = "bf16"
    max_batched_tokens: int = 8192
    """Tokens of one step of one attention rank."""
    max_sequences: int = 256
    """Sequences of one attention rank."""
    max_model_tokens: int = 0
    """Longest prompt and answer together; 0: as the model's config says."""
    memory_share: float = 0.9
    """What `--gpu-memory-utilization` and its sisters get."""
    weights: str = ""
    """Storage type that was planned, where it is not the repository's own."""
    drafted_tokens: int = 0
    """Tokens drafted in each decode step; 0: none. A prefill server drafts none."""
    draft_model: str = ""
    """What drafts: a repository or a folder; "": the model's own prediction layer (MTP)."""
    two_batch_overlap: bool = False
    """Experts' exchange beside the other half of the batch."""

    def __post_init__(self) -> None:
        for field in ("servers", "gpus_per_node", "max_batched_tokens", "max_sequences"):
            if getattr(self, field) < 1:
                raise LayoutError(where=f"{self.name}.{field}", given=str(getattr(self, field)), rule="must be above 0")
        if self.engine not in ENGINES:
            raise ScenarioError(where="engine", given=repr(self.engine), rule=f"is none of {', '.join(ENGINES)}")
        if self.nodes > 1 and self.gpus % self.gpus_per_node:
            raise LayoutError(
                where=f"{self.name}.layout",
                given=f"{self.gpus} GPUs a server",
                rule=f"fill no whole number of nodes of {self.gpus_per_node}",
            )

    @property
    def replicas(self) -> int:
        """Servers to start."""
        return self.servers * self.layout.dp

    @property
    def gpus(self) -> int:
        """GPUs of one server."""
        return self.layout.pp * self.layout.block

    @property
    def nodes(self) -> int:
        """Nodes of one server."""
        return ceil(self.gpus / self.gpus_per_node)

    @property
    def gpus_of_node(self) -> int:
        """GPUs that one node gives to a server."""
        return min(self.gpus, self.gpus_per_node)


@dataclass(frozen=True, slots=True)
class Command:
    """One command line, as words; where it runs, and files that it reads."""

    where: str
    words: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    """(name, content) of files that stand beside it."""
    note: str = ""

    def text(self) -> str:
        """As typed into a shell: one option a line, values that need it quoted, `$LEADER` left to the shell."""
        lines = [f"# {self.note}"] if self.note else []
        for name, content in self.files:
            lines.append(written(name, content))
        env = [f"{key}={value} \\" for key, value in self.environment]
        return "\n".join([*lines, *env, self.line()])

    def line(self) -> str:
        """The words alone, quoted, an option a line."""
        return " \\\n  ".join(_option_groups(self.words))


_ALIVE = re.compile(r"(\$LEADER|\$NODE|\$DRAFT_MODEL|\$\(\(NODE \* \d+\)\)|\$HOSTNAME)")
"""What the shell may fill in; any other dollar is a user's text, and stays text."""


def quoted(word: str) -> str:
    """A word for a POSIX shell, in which only this module's own variables stay alive.

    >>> quoted("a b"), quoted("$LEADER:20000"), quoted("$HOME"), quoted("x $NODE")
    ("'a b'", '$LEADER:20000', "'$HOME'", "'x '$NODE")
    """
    parts = _ALIVE.split(word)
    return "".join(p if _ALIVE.fullmatch(p) else shlex.quote(p) for p in parts if p) or "''"


def written(name: str, content: str) -> str:
    """Shell lines that write a file; of dollars in it, only the draft model's is filled in, and must be set."""
    if DRAFT_MODEL not in content:
        return f"cat > {name} <<'EOF'\n{content.rstrip()}\nEOF"
    return f"cat > {name} <<EOF\n{content.rstrip().replace(DRAFT_MODEL, '${DRAFT_MODEL:?}')}\nEOF"


def _option_groups(words: Sequence[str]) -> list[str]:
    """The program and its first words on one line, then an option with its values a line."""
    groups: list[list[str]] = [[]]
    for word in words:
        if word.startswith("--") and groups[-1]:
            groups.append([])
        groups[-1].append(quoted(word))
    return [" ".join(group) for group in groups]
