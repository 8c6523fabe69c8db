"""What the network adds between nodes: rails crossed or kept, and hops that never shrink."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.cost.collective import collective_times
from simulator.cost.collective.parameters import CROSSED, network_stages, shipped
from simulator.validation.links import crosses_rails, group_links

GRACE = group_links(
    "GH200", 64, 4, intra="NVLink all-to-all (no switch)", inter="Slingshot-11", nic_gbit_per_s=200.0, notes=""
)


@pytest.mark.parametrize(
    ("notes", "crossed"),
    [("NCCL_CROSS_NIC=1", True), ("NCCL_CROSS_NIC=0", False), ("", False), ("NCCL_CROSS_NIC = 1; x", True),
     ("NCCL_CROSS_NIC=10", False), ("MY_CROSS_NIC=1", False)],
)  # fmt: skip
def test_the_setting_is_read_from_notes(notes: str, crossed: bool) -> None:
    assert crosses_rails(notes) is crossed


def test_one_node_crosses_nothing() -> None:
    assert not group_links("GH200", 4, 4, notes="NCCL_CROSS_NIC=1").crosses_rails


def test_rings_that_cross_rails_have_a_price_of_their_own() -> None:
    crossed = replace(GRACE, crosses_rails=True)
    known = shipped().networks
    assert network_stages(crossed, known) == known["slingshot" + CROSSED]
    assert network_stages(replace(crossed, network="efa"), known) == known["efa"]  # never measured apart
    sizes = np.array([2.0**22, 2.0**23])
    assert (collective_times(crossed, "all_reduce", sizes) > collective_times(GRACE, "all_reduce", sizes)).all()


@given(
    network=st.sampled_from(sorted(shipped().networks)),
    protocol=st.sampled_from(("ll", "ll128", "simple")),
    nodes=st.integers(2, 4096),
    small=st.floats(1.0, 2.0**30),
    factor=st.floats(1.0, 1e3),
)
def test_a_hop_grows_with_bytes_and_nodes(network: str, protocol: str, nodes: int, small: float, factor: float) -> None:
    stage = shipped().networks[network][protocol]
    rounding = 1.0 + 1e-12
    least, more = stage.hop(small, nodes), stage.hop(small * factor, nodes)
    assert 0.0 < least <= more * rounding
    assert more <= stage.hop(small * factor, nodes * 3) * rounding
    assert stage.share(nodes) >= stage.share(2 * nodes) > 0.0
