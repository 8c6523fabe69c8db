"""Links as servers: a message holds each link of its route while its bytes pass. The cable owns the delay."""

from typing import NamedTuple

from simulator.topology.cluster import Cluster


class Passage(NamedTuple):
    """One message on one link."""

    link: int
    start_s: float
    end_s: float
    bytes: float
    label: str


class Links:
    """First come, first served on every directed link; a message is cut through, not stored at each hop."""

    def __init__(self, cluster: Cluster, *, keep_log: bool = True) -> None:
        self._rate = cluster.link_bandwidth_bytes_per_s.tolist()
        self._free_s: dict[int, float] = {}
        self._keep_log = keep_log
        self.log: list[Passage] = []

    def idle(self) -> "Links":
        """The same links with nothing on them and no log."""
        other = Links.__new__(Links)
        other._rate, other._free_s, other._keep_log, other.log = self._rate, {}, False, []
        return other

    def send(
        self, path: tuple[int, ...], size_bytes: float, now_s: float, latency_s: float, efficiency: float, label: str
    ) -> float:
        """Time at which the last byte arrives; `efficiency` is the part of the rate a protocol can use."""
        begin = end = now_s
        for link in path:
            begin = max(begin, self._free_s.get(link, 0.0))
            leaves = begin + size_bytes / (self._rate[link] * efficiency)
            self._free_s[link] = leaves
            if leaves > end:
                end = leaves
            if self._keep_log:
                self.log.append(Passage(link, begin, leaves, size_bytes, label))
        return end + latency_s
