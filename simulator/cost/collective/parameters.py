"""The fitted parameters of collectives: a small data file, read once.

`python -m simulator.validation.fit collectives` writes the file; each block says what it was fitted on.
A *platform* is a GPU generation and the kind of its links ("hopper.nvlink", "ada.pcie"); bandwidths are kept as
shares of the link's rate, so that another link rate of the same generation needs no new fit.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from math import log2
from typing import Any

from simulator.errors import CalibrationError
from simulator.topology.group import GroupLinks

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Stage:
    """How one algorithm and protocol runs: t = launch + hops * hop + fill(bytes) + wire / (share * link)."""

    hop_s: float
    """One dependent step between two ranks."""
    fill_s: float
    """What filling the pipeline adds once messages are large."""
    fill_bytes: float
    """Bytes per rank at which half of the fill is reached (for fill_power 1)."""
    fill_power: float
    fill_sharpness: float
    """1: a gentle bend; more: the fill rises straight and then stays."""
    efficiency: Mapping[str, float]
    """Share of the link's rate reached on the wire, by op."""

    def fill(self, bytes_per_rank: Any) -> Any:
        """Seconds of pipeline fill; rises from 0 to fill_s."""
        return self.fill_s * (1.0 + (self.fill_bytes / bytes_per_rank) ** self.fill_sharpness) ** -self.fill_power


@dataclass(frozen=True, slots=True)
class Platform:
    """One GPU generation on one kind of link."""

    name: str
    launch_s: Mapping[str, float]
    copy_efficiency: Mapping[str, float]
    """Speed of a rank's copy of its own part, over the link's rate, by op."""
    contention: float
    """A ring over up to 4 GPUs gets (2 / n) ** contention of the link: 0 behind a switch, 1 on a bus shared by all."""
    contention_far: float
    """Beyond 4 GPUs, which is where a box of two sockets begins to cross them, (4 / n) ** contention_far of that."""
    eager_floor_s: Mapping[str, float]
    """Host time of one call outside a CUDA graph, on "x86" and "arm" (Grace) hosts; "sglang x86" for one engine."""
    eager_slowdown: float
    """Large messages outside a graph over inside one."""
    stages: Mapping[str, Stage]
    error: float
    """Median relative error on rows that were not fitted."""


RENDEZVOUS_SHARPNESS = 6.0
"""The change of protocol is a step, smeared over half an octave by channels that split a message unevenly."""


@dataclass(frozen=True, slots=True)
class NetworkStage:
    """One protocol over one kind of network."""

    hop_s: float
    """Software and proxy time of one message between nodes, on top of the network's own latency."""
    rendezvous_s: float
    """What a hop takes more once a message is too large to be sent eagerly."""
    rendezvous_bytes: float
    """Bytes per NIC and hop at which that begins."""
    fill_s: float
    """What a hop takes more once messages are large (several chunks)."""
    fill_bytes: float
    """Bytes per NIC at which half of it is reached."""
    efficiency: float
    """Share of the NIC's rate reached between two nodes."""
    congestion: float
    """How much slower each doubling of the nodes makes it: shared links and stragglers of a larger fabric."""
    straggling: float
    """How much longer a hop takes with each doubling of the nodes beyond two: the slowest of many messages counts."""

    def hop(self, bytes_per_hop: Any, nodes: int) -> Any:
        """Seconds of software in one dependent step between nodes that sends so many bytes over a NIC."""
        late = self.rendezvous_s / (1.0 + (self.rendezvous_bytes / bytes_per_hop) ** RENDEZVOUS_SHARPNESS)
        grown = self.fill_s * bytes_per_hop / (bytes_per_hop + self.fill_bytes)
        return (self.hop_s + late + grown) * (1.0 + self.straggling * (log2(max(nodes, 2)) - 1.0))

    def share(self, nodes: int) -> float:
        """Share of the NIC's rate reached in a group of so many nodes."""
        return self.efficiency / (1.0 + self.congestion * (log2(max(nodes, 2)) - 1.0))


@dataclass(frozen=True, slots=True)
class CustomKernel:
    """Peer-to-peer all_reduce kernels of one inference engine on one platform."""

    one_shot_s: float
    two_shot_s: float
    rank_s: float
    one_shot_efficiency: float
    two_shot_efficiency: float
    multicast_s: float
    multicast_efficiency: float
    error: float


def _stage(block: Mapping[str, Any]) -> Stage:
    return Stage(
        block["hop_s"],
        block["fill_s"],
        block["fill_bytes"],
        block["fill_power"],
        block["fill_sharpness"],
        dict(block["efficiency"]),
    )


@dataclass(frozen=True, slots=True)
class Parameters:
    """Everything that was fitted."""

    platforms: Mapping[str, Platform]
    networks: Mapping[str, Mapping[str, NetworkStage]]
    custom: Mapping[str, Mapping[str, CustomKernel]]
    expert: Mapping[str, Mapping[str, float]]


def parse(text: str, where: str) -> Parameters:
    """Parameters from the text of the data file; CalibrationError names what is wrong with it."""
    try:
        raw = json.loads(text)
        if raw["schema"] != SCHEMA:
            raise CalibrationError(
                where=where, given=f"schema {raw['schema']}", rule=f"this version reads schema {SCHEMA}",
                way_out="refit with `python -m simulator.validation.fit collectives`",
            )  # fmt: skip
        platforms = {
            name: Platform(
                name, p["launch_s"], p["copy_efficiency"], p["contention"], p["contention_far"],
                p["eager_floor_s"], p["eager_slowdown"],
                {key: _stage(stage) for key, stage in p["stages"].items()}, p["error"],
            )
            for name, p in raw["platforms"].items()
        }  # fmt: skip
        networks = {
            name: {protocol: NetworkStage(**stage) for protocol, stage in network.items()}
            for name, network in raw["networks"].items()
        }
        custom = {
            library: {platform: CustomKernel(**kernel) for platform, kernel in kernels.items()}
            for library, kernels in raw["custom"].items()
        }
        return Parameters(platforms, networks, custom, raw["expert"])
    except (ValueError, KeyError, TypeError) as error:
        raise CalibrationError(
            where=where, given=f"{type(error).__name__}: {error}", rule="not a table of collective parameters",
            way_out="refit with `python -m simulator.validation.fit collectives`",
        ) from error  # fmt: skip


@lru_cache(maxsize=1)
def shipped() -> Parameters:
    """The parameters that come with the package."""
    path = files("simulator.cost") / "data" / "collectives.json"
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError as error:
        raise CalibrationError(
            where=str(path), given="", rule="the fitted collective parameters are missing",
            way_out="reinstall, or refit with `python -m simulator.validation.fit collectives`",
        ) from error  # fmt: skip


def link_class(links: GroupLinks) -> str:
    """ "nvlink", "xgmi", "pcie" or "network" (a group of one GPU per node)."""
    match links.scale_up:
        case "nvswitch" | "nvlink_mesh":
            return "nvlink"
        case "xgmi_mesh":
            return "xgmi"
        case "pcie":
            return "pcie"
        case "none":
            return "network"


CROSSED = " crossed"


def network_stages(links: GroupLinks, known: Mapping[str, Mapping[str, NetworkStage]]) -> Mapping[str, NetworkStage]:
    """The stages of this group's network, for rings that cross rails if they do and such runs were measured."""
    crossed = known.get(links.network + CROSSED) if links.crosses_rails else None
    return crossed or known[links.network]


# Where a generation was never measured on a kind of link: the nearest that was, by age and link rate.
NEAREST: dict[str, str] = {
    "volta.nvlink": "ampere.nvlink",
    "rubin.nvlink": "blackwell.nvlink",
    "turing.pcie": "ada.pcie",
    "volta.pcie": "ada.pcie",
    "ampere.pcie": "ada.pcie",
    "hopper.pcie": "blackwell_rtx.pcie",
}
DEFAULT_BY_CLASS: dict[str, str] = {
    "nvlink": "hopper.nvlink",
    "xgmi": "cdna3.xgmi",
    "pcie": "blackwell_rtx.pcie",
    "network": "hopper.nvlink",
}


def platform_name(links: GroupLinks, known: Mapping[str, Any]) -> tuple[str, bool]:
    """Key of the platform whose parameters serve this group, and whether it is this very platform."""
    kind = link_class(links)
    exact = f"{links.device.generation}.{kind}"
    if exact in known:
        return exact, True
    if kind == "network":
        nvlink = f"{links.device.generation}.nvlink"
        return (nvlink if nvlink in known else DEFAULT_BY_CLASS[kind]), nvlink in known
    return NEAREST.get(exact, DEFAULT_BY_CLASS[kind]), False
