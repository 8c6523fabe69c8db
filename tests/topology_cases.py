"""Arbitrary small clusters for hypothesis, and the certificate that a route is one."""

from hypothesis import assume
from hypothesis import strategies as st

from simulator.errors import TopologyError
from simulator.topology.cluster import Cluster, build_cluster
from simulator.topology.spec import ClusterSpec, Fabric, FullMesh, Nics, NodeSpec, NvSwitch, Pcie, Wire

WIRES = st.builds(Wire, st.floats(1e9, 1e12), st.floats(1e-8, 1e-5))


@st.composite
def node_specs(draw: st.DrawFn, networked: bool = False) -> NodeSpec:
    """Nodes with uneven counts: several hosts, sockets, switches; shared and multiple NICs."""
    trays = draw(st.integers(1, 3))
    sockets, switches = draw(st.integers(1, 2)), draw(st.integers(0, 2))
    gpus = trays * sockets * max(1, switches) * draw(st.integers(1, 3))
    scale_ups = [
        st.builds(NvSwitch, WIRES, st.integers(1, 6), st.booleans()),
        st.builds(FullMesh, WIRES, st.just("xgmi")),
    ]
    if trays == 1:
        scale_ups.append(st.none())
    shares = [n for n in (2, 3) if gpus % n == 0 and (gpus // n) % trays == 0]
    counts = [gpus, 2 * gpus, *(gpus // n for n in shares)]
    nics = st.builds(Nics, st.sampled_from(counts), WIRES, WIRES, st.sampled_from(["pcie", "gpu"]))
    return NodeSpec(
        gpu="H100",
        gpus=gpus,
        scale_up=draw(st.one_of(scale_ups)),
        pcie=Pcie(sockets, switches, draw(WIRES), draw(WIRES), draw(WIRES)),
        nics=draw(nics if networked else st.one_of(st.none(), nics)),
        trays=trays,
    )


@st.composite
def clusters(draw: st.DrawFn, most_nodes: int = 9) -> Cluster:
    """Clusters of several nodes on rails or a fat tree of one to three tiers of small switches."""
    node = draw(node_specs(networked=True))
    assert node.nics is not None
    rails = draw(st.sampled_from([n for n in range(1, node.nics.count + 1) if node.nics.count % n == 0]))
    fabric = Fabric(
        kind=draw(st.sampled_from(["infiniband", "roce"])),
        rails=rails,
        tiers=3,
        switch_ports=draw(st.integers(max(6, 2 * rails), 4 * rails + 12)),
        oversubscription=draw(st.sampled_from([1.0, 1.5, 2.0, 3.0])),
        hop=draw(WIRES),
    )
    nodes = draw(st.integers(2, most_nodes))
    try:
        return build_cluster(ClusterSpec("drawn", node, fabric), nodes)
    except TopologyError as error:
        assume("hold at most" not in str(error))
        raise


def check_route(cluster: Cluster, source: int, destination: int, links: tuple[int, ...]) -> None:
    """The certificate of a route: it leaves the source, arrives, each link begins where the last ended, none twice."""
    at = source
    for link in links:
        assert cluster.link_source[link] == at
        at = cluster.link_destination[link]
    assert at == destination
    assert len(set(links)) == len(links)
